"""The tables of docs/who-pays-what.md, from measured profiles and published rates.

    python benchmarks/who_pays.py [--write]

Measured: profiles/*.json, written by `powfast bench --out`. Published: published_rates.csv.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from powfast.profile import ClientProfile, Fleet, affordable_work, solve_seconds
from powfast.tariff import calibrate

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "who-pays-what.md"
WORK = 1_000_000
SPEEDS = (1, 10, 100, 1000)


def measured() -> list[ClientProfile]:
    """Slowest first."""
    files = (HERE / "profiles").glob("*.json")
    profiles = [ClientProfile.from_json(file.read_bytes()) for file in files]
    return sorted(profiles, key=lambda profile: profile.hash_rate)


def published() -> list[dict[str, str]]:
    with (HERE / "published_rates.csv").open() as file:
        return list(csv.DictReader(file))


def one_block_rate(row: dict[str, str]) -> float:
    """A SHA-256d hash of a block header, its midstate known, is two blocks."""
    return float(row["hashes_per_second"]) * (2.0 if row["kind"] == "sha256d" else 1.0)


def measured_table() -> str:
    rows = []
    for profile in measured():
        within = affordable_work(Fleet((profile,), (1.0,)), seconds=1.0, share=1.0)
        times = [short_time(solve_seconds(profile, WORK, 16, q)) for q in (0.5, 0.99)]
        rates = [f"{rate / 1e6:.3g}" for rate in (profile.single_rate, profile.hash_rate)]
        where = f"{profile.device.agent}, {profile.kernel}, {profile.solver.threads} threads"
        name = profile.name + (" (disturbed: too low)" if profile.warnings else "")
        rows.append((name, where, *rates, *times, f"{within / 1e6:.3g} million"))
    return table(
        "device | runs | million hashes/s, one thread | all | work 1 million, median | p99"
        " | work within 1 s at p99",
        rows,
    )


def published_table() -> str:
    yardstick = measured()[-1]
    rows = []
    for row in published():
        rate = one_block_rate(row)
        counted = "SHA-256d, doubled" if row["kind"] == "sha256d" else "SHA-256"
        times = short_number(rate / yardstick.hash_rate)
        source = f"[{host(row['source'])}]({row['source']})"
        rows.append((row["device"], short_number(rate), counted, times, source))
    return table(
        f"device | one-block hashes/s | published as | times {yardstick.name} | figure from", rows
    )


def host(address: str) -> str:
    return urlsplit(address).netloc.removeprefix("www.")


def speed_table() -> str:
    """Prices of the extractor whose every query has evidence 6, over a synthetic honest crowd."""
    rng = np.random.default_rng(0)
    kappas = (0.05, 0.1, 0.2, 0.5)
    p = 1.0 - rng.random((300, 3, 1000))
    honest = np.mean([k * p ** (k - 1) for k in kappas], axis=(0, 2))
    attacks = calibrate(honest, service_time=0.005, hash_rate=1e8).report["attacks"]["nominal"]
    rows = []
    for name, found in attacks.items():
        prices = [found["overhead"], *found["overhead_at_hash_rate"].values()]
        rows.append((name.replace("_", " "), *(f"{price:.3g}x" for price in prices)))
    return table("extractor | " + " | ".join(f"{speed}x hash rate" for speed in SPEEDS), rows)


def table(header: str, rows: list[tuple[str, ...]]) -> str:
    columns = header.count("|") + 1
    lines = [f"| {header} |", "|" + "---|" * columns]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def short_time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def short_number(number: float) -> str:
    for scale, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if number >= scale:
            return f"{number / scale:.3g}{word}"
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def written(page: str) -> str:
    """The page with its tables made anew."""
    for name, made in (
        ("measured", measured_table),
        ("published", published_table),
        ("speed", speed_table),
    ):
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{begin}{made()}\n{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them into the page")
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text()))
    else:
        print("\n\n".join([measured_table(), published_table(), speed_table()]))


if __name__ == "__main__":
    main()
