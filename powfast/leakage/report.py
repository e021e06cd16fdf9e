"""Does leakage mean anything for this model? Honest against suspicious queries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from powfast.archives import read_npz
from powfast.errors import InvalidInput, MissingExtra
from powfast.leakage.arrays import Floats
from powfast.leakage.estimator import LeakageEstimator

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.995)
CONTESTED = 0.995  # a query beyond this honest quantile is contested


@dataclass(frozen=True)
class Separation:
    """How one score, or the evidence, differs between honest and suspicious queries."""

    name: str
    auroc: float
    """Probability that a suspicious query scores above an honest one; 0.5 is blind."""
    contested: float
    """Share of suspicious queries beyond the honest 99.5 % quantile."""
    honest_contested: float
    honest_mean: float
    suspicious_mean: float
    ratio: float | None
    """Suspicious over honest mean, of scores that are never negative."""
    honest_quantiles: tuple[float, ...]
    suspicious_quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """Separation by evidence and by each score, and how fast evidence grows."""

    rows: tuple[Separation, ...]
    honest_growth: float
    suspicious_growth: float
    """Mean log evidence a query: above 0, prices climb by about that factor each query."""
    honest_evidence: Floats
    suspicious_evidence: Floats

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the raw evidence, for JSON."""
        return {
            "quantiles": list(QUANTILES),
            "rows": [asdict(row) for row in self.rows],
            "honest_growth": self.honest_growth,
            "suspicious_growth": self.suspicious_growth,
        }

    def __str__(self) -> str:
        lines = [f"{'score':10} {'AUROC':>6} {'contested':>9} {'honest':>7} {'mean ratio':>10}"]
        for row in self.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            lines.append(
                f"{row.name:10} {row.auroc:6.3f} {row.contested:9.1%} {row.honest_contested:7.1%}"
                f" {ratio:>10}"
            )
        lines.append(
            f"log evidence per query: honest {self.honest_growth:+.2f},"
            f" suspicious {self.suspicious_growth:+.2f}"
        )
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """Write the share of queries at or above each evidence, for both kinds, to `path`.

        Raises
        ------
        MissingExtra
            matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtra("the plot needs matplotlib: pip install 'powfast[demo]'") from error
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        for values, name, colour in (
            (self.honest_evidence, "honest", "#1b7f5c"),
            (self.suspicious_evidence, "suspicious", "#c4412d"),
        ):
            share = np.arange(len(values), 0, -1) / len(values)
            axes.step(np.sort(values), share, where="post", label=name, color=colour, lw=2)
        axes.axvline(1.0, color="0.6", lw=1, ls=":")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="evidence of a query (1: as expected of honest ones)",
            ylabel="share of queries at or above it",
            title="What the tariff gets to see",
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=150)


def report(
    estimator: LeakageEstimator,
    honest: tuple[Any, Any],
    suspicious: tuple[Any, Any],
) -> Report:
    """Compare held-out honest with suspicious queries under a calibrated estimator.

    Parameters
    ----------
    honest, suspicious : (features (n, d), probabilities (n, C)), not those it was calibrated on
    """
    ours = np.column_stack([estimator.evidence(*honest), estimator.scores(*honest)])
    theirs = np.column_stack([estimator.evidence(*suspicious), estimator.scores(*suspicious)])
    if not len(ours) or not len(theirs):
        raise InvalidInput("a report needs honest and suspicious queries")
    names = ("evidence", *estimator.score_names)
    rows = tuple(separation(name, a, b) for name, a, b in zip(names, ours.T, theirs.T, strict=True))
    growth = [float(np.log(np.maximum(table[:, 0], 1e-300)).mean()) for table in (ours, theirs)]
    return Report(rows, growth[0], growth[1], ours[:, 0], theirs[:, 0])


def report_files(
    training: str | Path, honest: str | Path, suspicious: str | Path, *, seed: int = 0
) -> Report:
    """Fit, calibrate and report from .npz files, as the command line does.

    Parameters
    ----------
    training : file with `features` (n, d) and `labels` (n,)
    honest : file with `features` and `probabilities`; a random half calibrates
    suspicious : file with `features` and `probabilities`
    """
    features, labels = read(training, "features", "labels")
    estimator = LeakageEstimator(seed=seed).fit(features, labels)
    table, probabilities = read(honest, "features", "probabilities")
    if len(table) != len(probabilities):
        raise InvalidInput(f"{honest}: features and probabilities differ in length")
    order = np.random.default_rng(seed).permutation(len(table))
    half, rest = np.array_split(order, 2)
    estimator.calibrate(table[half], probabilities[half])
    strange = read(suspicious, "features", "probabilities")
    return report(estimator, (table[rest], probabilities[rest]), strange)


def separation(name: str, honest: Floats, suspicious: Floats) -> Separation:
    """Compare two samples (n,) and (m,) of one score."""
    limit = np.quantile(honest, CONTESTED)
    additive = min(honest.min(), suspicious.min()) >= 0.0 and honest.mean() > 0.0
    return Separation(
        name,
        auroc(honest, suspicious),
        float((suspicious > limit).mean()),
        float((honest > limit).mean()),
        float(honest.mean()),
        float(suspicious.mean()),
        float(suspicious.mean() / honest.mean()) if additive else None,
        tuple(float(q) for q in np.quantile(honest, QUANTILES)),
        tuple(float(q) for q in np.quantile(suspicious, QUANTILES)),
    )


def auroc(honest: Floats, suspicious: Floats) -> float:
    """Return the probability that a suspicious score exceeds an honest one, ties half."""
    ranked = np.sort(honest)
    below = np.searchsorted(ranked, suspicious, "left")
    upto = np.searchsorted(ranked, suspicious, "right")
    return float((below + upto).mean() / (2 * len(ranked)))


def read(path: str | Path, *names: str) -> tuple[Any, ...]:
    """Return the named arrays of an .npz file."""
    return tuple(read_npz(path, *names).values())
