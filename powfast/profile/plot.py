"""Devices side by side, for people: how long a work takes, and what a second is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from powfast.errors import MissingExtra
from powfast.profile.document import ClientProfile, Fleet
from powfast.profile.solve_time import affordable_work, solve_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WORKS = np.rint(np.geomspace(1e4, 1e9, 41)).astype(int)
_TIMES = {1e-4: "0.1 ms", 1e-3: "1 ms", 0.01: "10 ms", 0.1: "0.1 s", 1.0: "1 s", 10.0: "10 s"}
_LONG = {60.0: "1 min", 600.0: "10 min", 3600.0: "1 h", 36000.0: "10 h", 86400.0: "1 day"}
_NAME = 32  # characters of a device's name


def plot_devices(
    profiles: Sequence[ClientProfile],
    path: Path,
    *,
    seconds: float = 1.0,
    parts: int = 16,
    quantile: float = 0.99,
) -> None:
    """Draw devices: seconds over work, and the work that each solves within `seconds`.

    Parameters
    ----------
    profiles : sequence of ClientProfile
    path : Path
        File; its suffix says which format.
    seconds : float
        Time allowed, of the right half.
    parts : int
        Of the puzzle.
    quantile : float
        Upper end of the band that begins at the median, and what keeps to `seconds`.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    InvalidInput
        If an argument is out of its range.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plots need matplotlib: pip install 'powfast[demo]'") from error
    figure = Figure(figsize=(12.0, 3.6 + 0.3 * len(profiles)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    ranked = sorted(profiles, key=lambda profile: profile.hash_rate)
    colours = [f"C{i % 10}" for i in range(len(ranked))]
    for profile, colour in zip(ranked, colours, strict=True):
        _draw_times(left, profile, colour, parts, quantile)
    _dress_times(left, parts, quantile)
    works = [
        affordable_work(
            Fleet((profile,), (1.0,)), seconds=seconds, share=1.0, parts=parts, quantile=quantile
        )
        for profile in ranked
    ]
    _draw_works(right, [_label(profile) for profile in ranked], works, colours)
    right.set_title(f"Work solved within {seconds:g} s,\n{quantile:.4g} of the times", loc="left")
    figure.savefig(path, dpi=150)


def _draw_times(
    axes: Axes, profile: ClientProfile, colour: str, parts: int, quantile: float
) -> None:
    works = _WORKS[parts <= _WORKS]
    median, high = (
        [solve_seconds(profile, int(work), parts, q) for work in works] for q in (0.5, quantile)
    )
    axes.fill_between(works, median, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(works, median, color=colour, label=_label(profile))
    measured = [
        row
        for row in profile.solving
        if (row.parts, row.threads) == (parts, profile.solver.threads)
    ]
    x = [row.work for row in measured]
    axes.plot(x, [row.p50 for row in measured], "o", color=colour, markersize=5)
    axes.plot(x, [row.p99 for row in measured], "^", color=colour, markersize=5)


def _dress_times(axes: Axes, parts: int, quantile: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = {at: name for at, name in {**_TIMES, **_LONG}.items() if low <= at <= high}
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.set_xlabel("work (expected SHA-256 evaluations)")
    axes.set_ylabel("time to solve")
    axes.set_title(
        f"Puzzles of {parts} parts: median to {quantile:.4g} quantile\n"
        "(lines exact; measured: ● median, ▲ 0.99)",
        loc="left",
    )
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[:12], names[:12], loc="upper left", fontsize="small")


def _draw_works(axes: Axes, names: list[str], works: list[int], colours: list[str]) -> None:
    at = range(len(works))
    bars = axes.barh(at, works, color=colours, alpha=0.8, height=0.6)
    axes.set_yticks(at, names)
    axes.bar_label(bars, [_short(work) for work in works], padding=4)
    axes.set_xlim(0, 1.25 * max(*works, 1))
    axes.set_xticks([])
    axes.set_xlabel("expected SHA-256 evaluations")
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _label(profile: ClientProfile) -> str:
    """Return the start of a name; a dollar sign would begin a formula."""
    return shorten(profile.name, _NAME, placeholder=" ...").replace("$", r"\$")


def _short(number: float) -> str:
    """Return a number with three digits and a word for its size."""
    for scale, word in (
        (1e12, " trillion"),
        (1e9, " billion"),
        (1e6, " million"),
        (1e3, " thousand"),
    ):
        if number >= scale:
            return f"{number / scale:.3g}{word}"
    return f"{number:.3g}"
