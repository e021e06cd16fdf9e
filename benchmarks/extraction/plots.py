"""The results as pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

_SHOWN = {  # families share a colour
    "Standard": ("#1b7837", "-"),
    "MixMatch": ("#1b7837", "--"),
    "Entropy": ("#7fbf7b", "-"),
    "Greedy": ("#7fbf7b", "--"),
    "InOut": ("#8073ac", "-"),
    "MixUp": ("#8073ac", "--"),
    "Mixtures": ("#8073ac", ":"),
    "Jacobian": ("#e08214", "-"),
    "Jacobian-TR": ("#e08214", "--"),
    "CopyCat": ("#2166ac", "-"),
    "Knockoff": ("#2166ac", "--"),
    "Knockoff adaptive": ("#2166ac", ":"),
    "DataFree": ("#b2182b", "-"),
    "Noise": ("#b2182b", "--"),
}


def draw(results: dict[str, Any], folder: Path, name: str) -> dict[str, Path]:
    """Write the plots and return them by title."""
    queries = results["setting"]["checkpoints"]
    attacks = results["attacks"]

    def middle(points: list[Any]) -> list[float]:
        return [point["median"] for point in points]

    def accuracy(axes: Axes) -> None:
        for attack, style in _SHOWN.items():
            points = attacks[attack]["accuracy"]
            _line(axes, attack, style, queries, middle(points))
            low, high = ([point[end] for point in points] for end in ("lowest", "highest"))
            axes.fill_between(queries, low, high, color=style[0], alpha=0.08, lw=0)
        axes.axhline(0.9 * min(results["victims"]), color="grey", lw=0.8, ls=":")
        axes.set(xscale="log", xlabel="queries", ylabel="accuracy of the copy", ylim=(0, 1))

    def leakage(axes: Axes) -> None:
        for attack, style in _SHOWN.items():
            points = [point["evidence"] for point in attacks[attack]["curve"]]
            _line(axes, attack, style, queries, middle(points))
        axes.axhline(1.0, color="grey", lw=0.8, ls=":")
        axes.set(xscale="log", yscale="log", xlabel="queries", ylabel="mean evidence of a query")

    def cost(strategy: str) -> Callable[[Axes], None]:
        def panel(axes: Axes) -> None:
            for attack, style in _SHOWN.items():
                points = [point["multiple"][strategy] for point in attacks[attack]["curve"]]
                _line(axes, attack, style, queries, middle(points))
            axes.axhline(2.0, color="grey", lw=0.8, ls=":")
            axes.set(xscale="log", yscale="log", xlabel="queries", title=strategy)
            axes.set_ylabel("time over the undefended time")

        return panel

    def against_time(strategy: str | None) -> Callable[[Axes], None]:
        def panel(axes: Axes) -> None:
            service = results["times"]["service"]
            for attack, style in _SHOWN.items():
                seconds = [
                    n * service * (point["multiple"][strategy]["median"] if strategy else 1.0)
                    for n, point in zip(queries, attacks[attack]["curve"], strict=True)
                ]
                _line(axes, attack, style, seconds, middle(attacks[attack]["accuracy"]))
            axes.set(xscale="log", xlim=(queries[0] * service / 2, 1e3 * queries[-1] * service))
            axes.set(xlabel="seconds", ylabel="accuracy of the copy", ylim=(0, 1))
            axes.set_title(f"with powfast, {strategy}" if strategy else "undefended")

        return panel

    pictures: dict[str, tuple[str, list[Callable[[Axes], None]]]] = {
        "accuracy": ("Accuracy of copies", [accuracy]),
        "leakage": ("Leakage", [leakage]),
        "cost": ("What extraction costs", [cost("one account"), cost("best dilution")]),
        "time": ("Accuracy against time", [against_time(None), against_time("best dilution")]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return {
        title: _figure(panels, folder / f"{name}-{file}.svg")
        for file, (title, panels) in pictures.items()
    }


def _line(axes: Axes, label: str, style: tuple[str, str], x: list[float], y: list[float]) -> None:
    axes.plot(x, y, label=label, color=style[0], ls=style[1], marker="o", ms=2.5, lw=1.4)


def _figure(panels: list[Callable[[Axes], None]], file: Path) -> Path:
    with plt.rc_context({"svg.hashsalt": "powfast", "font.size": 9}):
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(1.8 + 4.6 * len(panels), 4.0),
            squeeze=False,
            layout="constrained",
        )
        for panel, place in zip(panels, axes[0], strict=True):
            panel(place)
            place.grid(alpha=0.2)
            place.spines[["top", "right"]].set_visible(False)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)
    return file
