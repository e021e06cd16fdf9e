"""The results as a page: nothing on it is written by hand but the words."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.extraction.attacks import ATTACKS
from benchmarks.extraction.plots import draw
from benchmarks.extraction.pricing import HASH_RATES, STRATEGIES
from benchmarks.extraction.targets import Target, targets

_Way = tuple[float, str, str, float, float]
"""Service times in all, attack, strategy, queries, and times an honest user's."""

_TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def write(results: dict[str, Any], name: str, docs: Path) -> Path:
    """Write the page, its plots and the figures as JSON; return the page."""
    folder = docs / "results"
    plots = draw(results, folder, name)
    (folder / f"{name}.json").write_text(json.dumps(_rounded(results), indent=1) + "\n")
    page = docs / ("results.md" if name == "mnist" else f"results-{name}.md")
    page.write_text("\n".join(map(_wrapped, _page(results, name, plots, docs))) + "\n")
    return page


def _wrapped(line: str) -> str:
    """Break prose, which comes a paragraph a line, at 100 characters."""
    if line.startswith(("|", "#", "!")) or "\n" in line:
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(
        line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _page(results: dict[str, Any], name: str, plots: dict[str, Path], docs: Path) -> Iterator[str]:
    yield from _introduction(results, name)
    yield from _headline(results)
    yield from _targets(targets(results), name)
    yield from _users(results)
    yield from _attacks(results)
    yield from _reaching(results)
    yield from _hash_rates(results)
    yield from _newcomers(results)
    yield from _evasions(results)
    yield from ("## Pictures", "")
    for title, file in plots.items():
        yield from (f"**{title}**", "", f"![{title}]({file.relative_to(docs)})", "")
    yield from _method(results, name, docs)


def _introduction(results: dict[str, Any], name: str) -> Iterator[str]:
    victims, times = results["victims"], results["times"]
    setting = results["setting"]
    yield f"# What the defence is worth: {_TITLES.get(name, setting['data'])}"
    yield ""
    yield (
        f"Written by `python -m benchmarks.extraction {name}`; every figure comes from that run, "
        f"over {len(victims)} seed{'s' * (len(victims) > 1)}. Victims are right in "
        f"{_range(victims, '.1%')} of the test. "
        f"A bare query took {times['service'] * 1e6:.0f} µs, the gate with estimator and both "
        f"exchanges added {times['guarded'] / times['service'] - 1:.0%} to that, and the client "
        f"hashed {times['hash_rate'] / 1e6:.0f} million times a second. "
        f"Calibration left {_range(results['base_price'], '.2f')} service times for a base price "
        f"and chose an opening of {_range(results['opening'], '.0f')} base prices. "
        '"x" is time over the time of the same queries without a defence, per useful query.'
    )
    yield ""


def _headline(results: dict[str, Any]) -> Iterator[str]:
    yield from ("## The weakest link", "")
    queries = _number(results["setting"]["checkpoints"][-1])
    everyone = list(_reachers(results, ATTACKS, STRATEGIES))
    foreign = [name for name, attack in ATTACKS.items() if not attack.in_distribution]
    without = list(_reachers(results, foreign, STRATEGIES[:2]))  # dilution takes ordinary images
    service, rate = results["times"]["service"], results["times"]["hash_rate"]

    def sentence(found: list[_Way]) -> str:
        total, attack, strategy, queries, of_user = min(
            found,
            key=lambda way: float(f"{way[0]:.3g}"),  # among equals the simplest
        )
        seconds = total * service
        return (
            f"**{attack}**, {queries:.0f} queries by {strategy}: {_times(total / queries)} the "
            f"undefended time ({seconds:.3g} s here, as long as {_number(seconds * rate)} hashes), "
            f"{_times(of_user)} what an honest user pays for as many queries."
        )

    nobody = f"no copy got there within {queries} queries in every seed."
    yield "The cheapest way to a copy with 90 % of the victim's accuracy: " + (
        sentence(everyone) if everyone else nobody
    )
    yield ""
    yield "Without images like those of honest users: " + (sentence(without) if without else nobody)
    yield ""
    yield (
        "An extractor that has them can also dilute foreign images among its own: see the tables. "
        "Who owns such images and sends them as an honest user would, pays as one: no tariff on "
        "what queries look like can change that."
    )
    yield ""


def _reachers(
    results: dict[str, Any], names: Iterable[str], strategies: Iterable[str]
) -> Iterator[_Way]:
    """Yield every way to reach 90 % of the victim's accuracy."""
    for name in names:
        reach = results["attacks"][name]["reach"]["90%"]
        if reach is None:
            continue
        for strategy in strategies:
            multiple = reach["multiple"][strategy]["median"]
            queries = reach["queries"]["median"]
            of_user = multiple / reach["of_user"]["median"]
            yield multiple * queries, name, strategy, queries, of_user


def _targets(rows: list[Target], name: str) -> Iterator[str]:
    yield from ("## Targets" if name == "mnist" else "## Beside the targets of MNIST", "")
    if name != "mnist":
        yield from (
            "No target was set for this data: those of [MNIST](results.md) stand here to compare.",
            "",
        )
    yield (
        "Users at the worst seed, attacks at the cheapest seed and attack (named). The paper's "
        "tariff priced the same queries, in times of the authors' own service."
    )
    yield ""
    yield from _table(
        ("target", "bound", "measured", "met", "the paper's tariff here"),
        (
            (
                row.what,
                f"{'at least' if row.least else 'at most'} {_unit(row.bound, row.unit)}",
                _unit(row.measured, row.unit) + (f", {row.by}" if row.by else ""),
                "yes" if row.met else "**no**",
                "" if row.paper is None else _unit(row.paper, row.unit),
            )
            for row in rows
        ),
    )
    for row in rows:
        if name == "mnist" and not row.met:
            yield (
                f"- Missed: {row.what}, {_unit(row.measured, row.unit)} instead of "
                f"{_unit(row.bound, row.unit)}. The limit: {row.limit}."
            )
    yield ""


def _users(results: dict[str, Any]) -> Iterator[str]:
    yield from ("## Honest users", "")
    yield (
        "Time over the undefended time, estimator included, of whole accounts. The first row is "
        "what the target is about. By themselves stand short accounts, users with shifted images "
        "(by a pixel, the same way for all of an account), and users who hammer: every other query "
        "repeats an earlier one, so that few images make up most. Neither is exchangeable with the "
        "reference, and the tariff promises them nothing."
    )
    yield ""
    real = results["solved"]
    yield (
        f"Held to a clock: {real['accounts']} users of {real['queries']} queries each solved all "
        f"they owed through the gate. At the median it took {real['measured']:.2f}x by the clock, "
        f"and {real['predicted']:.2f}x by the conversion that the tables use."
    )
    yield ""
    joined = results["users"]["with_hammering"]
    yield (
        "Counted among the users that the target is about, as many as of each other kind, users "
        f"who hammer would make its 99 % quantile {_times(max(seed['99%'] for seed in joined))} at "
        "the worst seed, with "
        f"{max(seed['above_100_base_prices'] for seed in joined):.1%} of accounts ever above 100 "
        "base prices: few images that look odd, repeated often, add up as an extractor's would."
    )
    yield ""
    rows = {"all that the target is about": results["users"]["judged_together"]}
    rows |= results["users"]["groups"]
    yield from _table(
        (
            "users",
            "accounts",
            "50 %",
            "95 %",
            "99 %",
            "most",
            "ever above 100 base prices",
            "paper's tariff, 50 %",
            "paper's tariff, 99 %",
        ),
        (
            (
                name,
                f"{row['accounts']:.0f}",
                *(_overhead(row[key]) for key in ("50%", "95%", "99%", "most")),
                f"{row['above_100_base_prices']:.1%}",
                *(_times(row[f"paper_{key}"]) for key in ("50%", "99%")),
            )
            for name, row in rows.items()
        ),
    )


def _attacks(results: dict[str, Any]) -> Iterator[str]:
    queries = results["setting"]["checkpoints"][-1]
    yield from (f"## Extraction at {_number(queries)} queries", "")
    yield (
        "Medians over seeds. One account: all queries from it. Best split: over any number of "
        "accounts, each left when that is best. Best dilution: also among the most ordinary "
        "queries, at the best rate. Evidence averages at most 1 where queries are honest."
    )
    yield ""
    yield from _table(
        (
            "attack",
            "accuracy",
            "fidelity",
            "evidence",
            *STRATEGIES,
            *(f"paper's, {s}" for s in STRATEGIES),
        ),
        (
            (
                name,
                _percent(row["accuracy"][-1]),
                _percent(row["fidelity"][-1]),
                f"{row['curve'][-1]['evidence']['median']:.3g}",
                *(_times(row["at_hash_rate"]["1x"][s]["median"]) for s in STRATEGIES),
                *(_times(row["paper"][s]["median"]) for s in STRATEGIES),
            )
            for name, row in results["attacks"].items()
        ),
    )
    unnoticed = [
        f"{name} ({_percent(row['accuracy'][-1])})"
        for name, row in results["attacks"].items()
        if _cheapest(row) <= 2.0
    ]
    yield (
        "Taken for honest users by the scores, so at most 2x by the best strategy (accuracy of "
        f"their copies): {', '.join(unnoticed) or 'none'}."
    )
    yield ""
    checkpoints = results["setting"]["checkpoints"]
    yield from ("Accuracy of the copy after so many queries, median over seeds:", "")
    yield from _table(
        ("attack", *(_number(n) for n in checkpoints)),
        ((name, *map(_percent, row["accuracy"])) for name, row in results["attacks"].items()),
    )


def _reaching(results: dict[str, Any]) -> Iterator[str]:
    service, rate = results["times"]["service"], results["times"]["hash_rate"]
    yield from ("## Work to reach the victim's accuracy", "")
    yield (
        "Queries until the copy has 90 % or 95 % of the victim's accuracy (between checkpoints "
        "interpolated in their logarithm; a dash: not in every seed), what they cost by the "
        "cheapest strategy, in times of the undefended calls, in hashes that take as long, and in "
        "times of an honest user who asks as many."
    )
    yield ""
    rows = []
    for name, row in results["attacks"].items():
        cells: list[str] = [name]
        for reach in row["reach"].values():
            if reach is None:
                cells += ["-"] * 4
                continue
            cheapest = min(reach["multiple"][strategy]["median"] for strategy in STRATEGIES)
            queries = reach["queries"]["median"]
            at_once = queries <= results["setting"]["checkpoints"][0]
            cells += [
                "at most " * at_once + _number(queries),
                _times(cheapest),
                f"{cheapest * queries * service * rate:.1e}",
                _times(cheapest / reach["of_user"]["median"]),
            ]
        rows.append(tuple(cells))
    columns = ("queries", "undefended", "hashes", "honest user")
    yield from _table(
        ("attack", *(f"{share}: {c}" for share in ("90 %", "95 %") for c in columns)), rows
    )


def _hash_rates(results: dict[str, Any]) -> Iterator[str]:
    yield from ("## More hash rate", "")
    yield "The cheapest strategy of an extractor that hashes so many times faster than the client:"
    yield ""
    yield from _table(
        ("attack", *(f"{faster}x" for faster in HASH_RATES)),
        (
            (
                name,
                *(_times(_cheapest(row, faster)) for faster in HASH_RATES),
            )
            for name, row in results["attacks"].items()
        ),
    )


def _newcomers(results: dict[str, Any]) -> Iterator[str]:
    attacks = {name: row["newcomers"] for name, row in results["attacks"].items()}
    shares = list(next(iter(attacks.values())))
    yield from ("## New accounts", "")
    yield (
        "Accounts that have not paid the opening share one e-process. A stream of honest newcomers "
        "has an extractor among them, with this part of the queries. Seen after: its queries until "
        "newcomers pay 100 base prices, each query from a fresh account (a dash: not in every "
        "seed). Pays: the cheapest of fresh accounts left after 1 to 1000 queries, with all its "
        "queries, the half that looks more ordinary, or one in 3, 10 or 30 among ordinary ones, "
        "and of accounts that paid the opening, split or diluted. Honest: mean price of the "
        "newcomers meanwhile, and that of the dearest hundredth of them."
    )
    yield ""
    yield from _table(
        (
            "attack",
            *(f"{share}: {what}" for share in shares for what in ("seen after", "pays", "honest")),
        ),
        (
            (name, *(cell for share in shares for cell in _stream(row[share])))
            for name, row in attacks.items()
        ),
    )
    yield from (f"What it pays at {shares[1]} with more hash rate:", "")
    yield from _table(
        ("attack", *(f"{faster}x" for faster in HASH_RATES)),
        (
            (
                name,
                *(
                    _times(row[shares[1]]["at_hash_rate"][f"{faster}x"]["median"])
                    for faster in HASH_RATES
                ),
            )
            for name, row in attacks.items()
        ),
    )


def _stream(row: dict[str, Any]) -> tuple[str, str, str]:
    noticed = row["noticed"]
    return (
        "-" if noticed is None else _number(noticed["median"]),
        _times(row["at_hash_rate"]["1x"]["median"]),
        f"{row['honest_price']['median']:.2f}, {_number(row['honest_price_99%']['median'])}",
    )


def _cheapest(attack: dict[str, Any], faster: int = 1) -> float:
    """Return what the best strategy costs at so many times the client's hash rate."""
    return float(min(way["median"] for way in attack["at_hash_rate"][f"{faster}x"].values()))


def _evasions(results: dict[str, Any]) -> Iterator[str]:
    yield from ("## Against powfast itself", "")
    yield (
        "Through the real gate, in process, challenges solved. A published work is rounded up "
        "by an eighth at most, and what is too much is credit."
    )
    yield ""
    yield from _table(
        ("tried", "counted", "measured", "where nothing is gained", "evaded"),
        (
            (
                row["tried"],
                row["counted"],
                f"{row['measured']:.3g}",
                f"{row['honest']:.3g}",
                "**yes**" if row["evaded"] else "no",
            )
            for row in results["evasions"]
        ),
    )


def _method(results: dict[str, Any], name: str, docs: Path) -> Iterator[str]:
    template = (Path(__file__).parent / "method.md").read_text()
    yield template.rstrip()
    other = docs / "results-cifar10.md"
    if name == "mnist":
        yield ""
        yield (
            f"[CIFAR-10]({other.name}) has a page of its own: the scores separate less there."
            if other.exists()
            else "CIFAR-10 runs by `python -m benchmarks.extraction cifar10`; its full figures are "
            "not measured yet."
        )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = tuple(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _percent(summary: dict[str, float]) -> str:
    return f"{summary['median']:.1%}"


def _times(value: float) -> str:
    return f"{_number(value)}x"


def _overhead(value: float) -> str:
    return f"{value:.2f}x" if value < 100 else _times(value)


def _unit(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "%" else _times(value)


def _number(value: float) -> str:
    if value >= 1e6:
        return f"{value:.1e}"
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def _range(values: list[float], form: str) -> str:
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} to {high}"


def _rounded(value: Any) -> Any:
    """Six digits are enough for everybody, and keep the file small."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
