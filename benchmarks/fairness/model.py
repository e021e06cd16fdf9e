"""What cards make of walks by sizes, bandwidths and latencies: the tables of docs/fairness.md.

    python benchmarks/fairness/model.py [--write]

Measured: cpu.json, by cpu.py. Published: cards.csv, and ../published_rates.csv for hashes. The rest
is a model, and every figure of it an upper bound: nothing waits for anything but what is counted.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "fairness.md"

CORES = 8
CORE_WATTS = 360 / 96  # an EPYC 9654: https://www.hpctech.co.jp/product/amd-epyc-9004-series/
DOLLARS_AN_HOUR = 0.68  # c5.4xlarge, eight cores, in the example of Amazon's guide:
# https://docs.amazonaws.cn/en_us/autoscaling/ec2/userguide/weights-spot-price-per-unit-hour-example.html

KIB = 1024
STATE = 256 * KIB
OWN = 160 * KIB  # where every fourth row is kept (trade_off.py), at the end of a walk
FILLING, STEPPING = {1: 128 * KIB, 4: 32 * KIB}, {1: 256 * KIB, 4: 112 * KIB}  # on average
FILLS, FEEDS, STEPS = 4096, 1023, 2048
MOVED = STEPS * 16 * 32 + STATE + STEPS * 64  # bytes: words as read, 32 at a time, and rows written
ARGON2ID_MOVED = 2 * STATE  # each block is written, and one read for it
STIR, CACHE, OWN_READ = 40, 279, 30  # cycles; the cache's are those of an L40: arXiv 2606.22588

Card = dict[str, str]


def cards() -> list[Card]:
    with (HERE / "cards.csv").open() as file:
        return list(csv.DictReader(file))


def core() -> dict[str, float]:
    rates: dict[str, float] = json.loads((HERE / "cpu.json").read_text())["rates"]
    return rates


def cycles(read: int, recomputed: int = 0) -> tuple[int, int]:
    """Of a fill, and of the steps of a walk: stirs and reads that wait for each other."""
    return FILLS * STIR + FEEDS * read, STEPS * (read + (1 + recomputed) * STIR)


def cached(cache: float, clock: float, kept: int) -> float:
    """Walks a second in a cache that walks share, each taking what it needs at the moment."""
    filling, stepping = cycles(CACHE)
    return cache * clock / (filling * FILLING[kept] + stepping * STEPPING[kept])


def walks(card: Card) -> dict[str, float]:
    """Walks a second of each design, and of all of them at once."""
    bandwidth, cache, clock = (float(card[key]) for key in ("bandwidth", "cache", "clock"))
    fits = float(card["own_memory"]) >= OWN
    designs = {
        "memory": bandwidth / MOVED,
        "cache, all rows": cached(cache, clock, 1),
        "cache, every fourth": cached(cache, clock, 4),
        "own memory": fits * int(card["multiprocessors"]) * clock / sum(cycles(OWN_READ, 3)),
    }
    most = sum(rate for design, rate in designs.items() if design != "cache, all rows")
    return {**designs, "at once": most}


def rates(card: Card) -> dict[str, float]:
    """Digests a second, by algorithm."""
    with (HERE.parent / "published_rates.csv").open() as file:
        published = {row["device"]: float(row["hashes_per_second"]) for row in csv.DictReader(file)}
    hashes = published[card["hashes_as"]] / int(card["cards_in_it"])
    argon2id = float(card["bandwidth"]) / ARGON2ID_MOVED
    return {"hashes": hashes, "walks": walks(card)["at once"], "argon2id": argon2id}


def ratios(card: Card) -> list[tuple[str, float, float | None, float, float]]:
    """Of each algorithm: a card over eight cores, over them in a browser, by watt, by dollar."""
    found = []
    for name, rate in rates(card).items():
        over = rate / (CORES * core()[f"{name}, all threads"])
        browser = core().get(f"{name}, WebAssembly")
        watts = float(card["watts"]) / (CORES * CORE_WATTS)
        dollars = float(card["dollars_an_hour"]) / DOLLARS_AN_HOUR
        in_browser = browser and rate / (CORES * browser)
        found.append((name, over, in_browser, over / watts, over / dollars))
    return found


def model_table() -> str:
    head = ("", "device memory", "cache, all rows", "cache, every 4th", "own memory", "at most")
    body = [
        (card["card"], *(f"{rate / 1e6:.2f}" if rate else "-" for rate in walks(card).values()))
        for card in cards()
    ]
    return table(head, body)


def ratio_table() -> str:
    head = ("", "algorithm", "eight cores", "in a browser", "per watt", "per rented dollar")
    body = [
        (card["card"], name, *map(times, found))
        for card in cards()
        for name, *found in ratios(card)
    ]
    return table(head, body)


def measured_table() -> str:
    head = ("a second, of one core", "alone", "all cores busy", "in WebAssembly")
    found = core()
    body = [
        (name, *(f"{found[key]:,.0f}" if (key := f"{name}, {where}") in found else "-"
                 for where in ("one thread", "all threads", "WebAssembly")))
        for name in ("hashes", "walks", "argon2id")
    ]  # fmt: skip
    return table(head, body)


def source_table() -> str:
    head = ("", "watts", "figures", "dollars an hour", "price")
    body = [
        (card["card"], card["watts"], f"[published]({card['figures_from']})",
         card["dollars_an_hour"], f"[{card['price_of']}]({card['price_from']})")
        for card in cards()
    ]  # fmt: skip
    return table(head, body)


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.{0 if ratio >= 10 else 1}f}x"


def table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def tables() -> dict[str, str]:
    return {
        "measured": measured_table(),
        "model": model_table(),
        "ratios": ratio_table(),
        "sources": source_table(),
    }


def written(page: str) -> str:
    """The page with its tables made anew."""
    for name, text in tables().items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{begin}{text}\n{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write them into the page")
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text()))
    else:
        print("\n\n".join(tables().values()))


if __name__ == "__main__":
    main()
