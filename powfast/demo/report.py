"""What the demo shows: a table, one sentence, and a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.table import Table

from powfast.demo.caller import Row
from powfast.demo.run import FIRST, Result

mpl.use("Agg")

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_MINUTE, _HOUR, _DAY, _YEAR = 60.0, 3600.0, 86400.0, 31557600.0


def table(result: Result) -> Table:
    """Return the rows as a table for a terminal."""
    drawn = Table(
        title="One model, served with proof of work",
        caption="first request: every request from a new account; "
        "mean evidence: at most about 1 where honest; "
        "solved in part: for the stated seconds, beyond it the price is computed",
        title_justify="left",
        caption_justify="left",
    )
    drawn.add_column("who calls")
    for name in ("accounts", "queries", "copy's\naccuracy", "copy's\nfidelity", "mean\nevidence"):
        drawn.add_column(name, justify="right")
    for name in ("hashes", "time", "undefended\ntime", "multiple", "solved"):
        drawn.add_column(name, justify="right")
    for row in result.rows:
        drawn.add_row(
            row.name,
            str(row.accounts),
            str(row.queries),
            _share(row.accuracy),
            _share(row.fidelity),
            f"{row.mean_leakage:.2g}",
            f"{row.work:.3g}",
            duration(row.seconds),
            duration(row.undefended_seconds),
            f"{row.multiple:.3g}x",
            row.solved,
            style="green" if row.kind == "honest" else "",
        )
    return drawn


def sentence(result: Result) -> str:
    """Say what the table shows, and what it does not."""
    honest = max(row.multiple for row in result.rows if row.kind == "honest")
    first = next(row.multiple for row in result.rows if row.name == FIRST)
    thieves = [row for row in result.rows if row.kind == "extractor"]
    cheapest, dearest = (pick(thieves, key=_multiple) for pick in (min, max))
    ahead = max(thieves, key=lambda row: row.curve[0]["accuracy"])
    start = ahead.curve[0]
    return (
        f"Honest users took at most {honest:.1f} times as long as without the gate, {first:.1f} "
        "times with the first request of a new account; copying the model took "
        f"{cheapest.multiple:,.0f} times as long at the cheapest ({cheapest.name}, a copy with "
        f"{_share(cheapest.accuracy)} accuracy) and {dearest.multiple:,.0f} times at "
        f"the dearest ({dearest.name}).\n"
        f"Whoever has what honest users send pays like them: the first {start['queries']:.0f} "
        f"queries of {ahead.name}, real digits among them, took {duration(start['seconds'])} "
        f"and made a copy with {_share(start['accuracy'])} accuracy."
    )


def plot(result: Result, path: Path) -> None:
    """Draw the accuracy of each copy against the time it took, with and without the defence."""
    figure = Figure(figsize=(9, 5.4), layout="constrained", dpi=130)
    axes = figure.subplots()
    thieves = [row for row in result.rows if row.kind == "extractor"]
    for row, colour in zip(thieves, _COLOURS, strict=False):
        accuracy = [100 * point["accuracy"] for point in row.curve]
        without = [point["undefended_seconds"] for point in row.curve]
        axes.plot(without, accuracy, "--", color=colour, linewidth=1.3, alpha=0.6)
        axes.plot(
            [point["seconds"] for point in row.curve],
            accuracy,
            "o-",
            color=colour,
            markersize=4,
            label=row.name,
        )
    axes.axhline(100 * result.victim_accuracy, color="0.6", linewidth=0.8)
    axes.annotate(
        "the model itself",
        (0.995, 100 * result.victim_accuracy),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        color="0.4",
    )
    axes.set_xscale("log")
    axes.set_ylim(0, 105)
    axes.set_xticks(*_ticks(axes.get_xlim()))
    axes.minorticks_off()
    axes.set_xlabel("time to get the answers")
    axes.set_ylabel("accuracy of the copy, %")
    honest = max(row.multiple for row in result.rows if row.kind == "honest")
    title = "Stealing a model, without (dashed) and with (solid) proof of work"
    axes.set_title(f"{title}\nHonest users take {honest:.1f} times as long", loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def duration(seconds: float) -> str:
    """Write a time with the unit that people would choose."""
    units = (("years", _YEAR), ("days", _DAY), ("h", _HOUR), ("min", _MINUTE), ("s", 1.0))
    for name, size in units:
        if seconds >= size:
            return f"{seconds / size:.3g} {name}"
    return f"{1000 * seconds:.3g} ms"


def _ticks(limits: tuple[float, float]) -> tuple[list[float], list[str]]:
    named = {0.01: "10 ms", 0.1: "100 ms", 1.0: "1 s", 10.0: "10 s", _MINUTE: "1 min"}
    named |= {600.0: "10 min", _HOUR: "1 h", 10 * _HOUR: "10 h", 4 * _DAY: "4 days"}
    named |= {40 * _DAY: "40 days", _YEAR: "1 year"}
    named |= {10.0**k * _YEAR: f"{10**k} years" for k in (1, 2, 3, 4, 5)}
    shown = {at: name for at, name in named.items() if limits[0] <= at <= limits[1]}
    return list(shown), list(shown.values())


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _multiple(row: Row) -> float:
    return row.multiple
