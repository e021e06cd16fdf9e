"""The paper's evaluation, recomputed from the figures its authors published.

Dziedzic, Kaleem, Lu, Papernot, "Increasing the Cost of Model Extraction with Calibrated Proof of
Work" (ICLR 2022, arXiv 2201.09243): section 5, Table 2, Figures 7 and 8.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from powfast.errors import InvalidInput, MissingExtra
from powfast.tariff import Iclr2022Tariff

DATASETS = ("mnist", "svhn", "cifar10")

# Sixteen batches of 64 are counted as 1000 queries.
_QUERIES_PER_BATCH = 1000 / 16


@dataclass(frozen=True)
class Checkpoint:
    """One row of an attack: where it stands after so many queries, and its puzzle.

    Times in seconds. `seconds` is the attack alone and `pow_seconds` with proof of work, both
    from the start; `puzzle_seconds` is the one puzzle of the batches since the previous row.
    """

    mode: str
    row: int
    accuracy: float
    queries: float
    cost: float
    expected: float
    puzzle_seconds: float
    bits: int
    seconds: float
    pow_seconds: float


@dataclass(frozen=True)
class Table2Row:
    """One row of Table 2: as printed, and as recomputed; times in seconds."""

    dataset: str
    attack: str
    queries: float
    printed_seconds: float
    printed_pow_seconds: float
    seconds: float
    pow_seconds: float

    @property
    def deviation(self) -> float:
        """Relative difference of the recomputed time with proof of work from the printed one."""
        return self.pow_seconds / self.printed_pow_seconds - 1.0


def tariff(data: Path, dataset: str) -> Iclr2022Tariff:
    """Return the tariff fitted on the honest user's published trace.

    Raises
    ------
    InvalidInput
        If the data set is unknown or its file is not in `data`.
    """
    trace = _read(data / "paper" / f"time_privacy_cost_{_known(dataset)}.csv")
    queries, costs = ([float(row[column]) for row in trace] for column in ("queries", "privacy"))
    return Iclr2022Tariff.fit(queries, costs)


def evaluate(data: Path, dataset: str) -> list[Checkpoint]:
    """Recompute every published attack on a data set, row by row.

    Raises
    ------
    InvalidInput
        If the data set is unknown or its files are not in `data`.
    """
    fitted = tariff(data, dataset)
    published = _read(data / "paper" / f"model_extraction_attack_accuracy_{dataset}.csv")
    checkpoints = []
    for mode in dict.fromkeys(row["mode"] for row in published):
        rows = [row for row in published if row["mode"] == mode]
        checkpoints += _attack(fitted, mode, rows)
    return checkpoints


def table2(data: Path) -> list[Table2Row]:
    """Table 2 beside its recomputation, all three data sets.

    Raises
    ------
    InvalidInput
        If a file is not in `data`.
    """
    printed = _read(data / "paper" / "golden" / "table2_paper_vs_recomputed.csv")
    checkpoints = {
        (dataset, point.mode, point.row): point
        for dataset in DATASETS
        for point in evaluate(data, dataset)
    }
    rows = []
    for row in printed:
        point = checkpoints[row["dataset"], row["csv_mode"], int(row["csv_row"])]
        rows.append(
            Table2Row(
                dataset=row["dataset"],
                attack=row["attack"],
                queries=float(row["paper_queries"]),
                printed_seconds=float(row["paper_time_s"]),
                printed_pow_seconds=float(row["paper_time_pow_s"]),
                seconds=point.seconds,
                pow_seconds=point.pow_seconds,
            )
        )
    return rows


def plot(data: Path, file: Path) -> None:
    """Draw accuracy against time, without and with proof of work, after Figures 7 and 8.

    Raises
    ------
    InvalidInput
        If a file is not in `data`.
    MissingExtra
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("plots need matplotlib: pip install 'powfast[demo]'") from None
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    axes = figure.subplots(2, len(DATASETS), sharex="col", sharey="col")
    colours: dict[str, str] = {}
    for column, dataset in enumerate(DATASETS):
        checkpoints = evaluate(data, dataset)
        for mode in dict.fromkeys(point.mode for point in checkpoints):
            points = [point for point in checkpoints if point.mode == mode]
            accuracy = [point.accuracy for point in points]
            label = None if mode in colours else mode
            colour = colours.setdefault(mode, f"C{len(colours)}")
            style = {"color": colour, "linewidth": 1.2}
            axes[0, column].plot([p.seconds for p in points], accuracy, label=label, **style)
            axes[1, column].plot([p.pow_seconds for p in points], accuracy, **style)
        axes[0, column].set_title(dataset)
        for row, name in enumerate(("without proof of work", "with proof of work")):
            axes[row, column].set_xscale("log")
            axes[row, column].set_xlabel(f"seconds, {name}")
            axes[row, column].tick_params(labelbottom=True)
            axes[row, column].grid(alpha=0.25)
            axes[row, column].spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(colours), frameon=False)
    for row in (0, 1):
        axes[row, 0].set_ylabel("accuracy of the copy, %")
    figure.savefig(file, dpi=150)


def _attack(fitted: Iclr2022Tariff, mode: str, rows: list[dict[str, str]]) -> list[Checkpoint]:
    """Follow the authors' code in what it does to the first row.

    Its batches and its cost count as nothing, and one second is taken off its puzzle.
    """
    batches = np.array([float(row["diff queries"]) for row in rows])
    costs = np.array([float(row["privacy cost"]) for row in rows])
    batches[0] = costs[0] = 0.0
    queries = batches.cumsum() * _QUERIES_PER_BATCH
    seconds = np.array([float(row["time (sec)"]) for row in rows])
    puzzles = fitted.seconds(queries, costs)
    puzzles[0] -= 1.0
    bits = fitted.bits(puzzles)
    expected, pow_seconds = fitted.expected(queries), seconds + puzzles.cumsum()
    return [
        Checkpoint(
            mode=mode,
            row=i,
            accuracy=float(rows[i]["accuracy"]),
            queries=float(queries[i]),
            cost=float(costs[i]),
            expected=float(expected[i]),
            puzzle_seconds=float(puzzles[i]),
            bits=int(bits[i]),
            seconds=float(seconds[i]),
            pow_seconds=float(pow_seconds[i]),
        )
        for i in range(len(rows))
    ]


def _known(dataset: str) -> str:
    if dataset not in DATASETS:
        raise InvalidInput(f"data set must be one of {', '.join(DATASETS)}, got {dataset!r}")
    return dataset


def _read(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="") as lines:
            return list(csv.DictReader(lines))
    except OSError as error:
        raise InvalidInput(f"the paper's figures are not there: {error}") from None
