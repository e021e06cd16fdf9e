"""Labels of the nearest reference points as votes, and the distance to the k-th of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage.arrays import Floats, Integers
from powfast.leakage.parameters import Parameters
from powfast.leakage.scaling import mean_and_spread
from powfast.leakage.storage import Stored

_BLOCK = 1 << 22  # distances held at once


class NeighbourVotes(Parameters, Stored):
    """The k nearest reference points vote with their labels (the paper's pkNN).

    Parameters
    ----------
    neighbours : int
        k.
    metric : {"euclidean", "cosine"}
        Of standardised features; "cosine" first scales every point to length 1.
    subsample : int, optional
        Keep at most this many reference points, drawn with `seed`.
    index : optional
        Anything with scikit-learn's `fit(points)` and `kneighbors(points, k)`, say an approximate
        index of a library of its own, instead of the exact search in blocks: for more than a
        million reference points. Fitted by `fit`; not saved.
    seed : int

    Attributes
    ----------
    classes_ : (C,) the labels, sorted
    points_ : (r, d) float64 standardised reference points, codes_ : (r,) their labels' indices
    """

    _settings = ("neighbours", "metric", "subsample", "seed")
    _arrays = ("classes_", "mean_", "spread_", "points_", "codes_")

    def __init__(
        self,
        neighbours: int = 10,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        subsample: int | None = None,
        index: Any = None,
        seed: int = 0,
    ) -> None:
        self.neighbours = neighbours
        self.metric = metric
        self.subsample = subsample
        self.index = index
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Keep X (n, d) and its labels y (n,) as the reference."""
        k = _checks.whole(self.neighbours, "neighbours")
        if self.metric not in ("euclidean", "cosine"):
            raise InvalidInput(f"metric must be 'euclidean' or 'cosine', not {self.metric!r}")
        data = _checks.features(X, "X")
        self.classes_, codes = np.unique(_checks.labels(y, len(data)), return_inverse=True)
        if self.subsample is not None:
            keep = min(_checks.whole(self.subsample, "subsample"), len(data))
            rows = np.random.default_rng(self.seed).choice(len(data), keep, replace=False)
            data, codes = data[rows], codes[rows]
        if len(data) < k:
            raise InvalidInput(f"{k} neighbours need at least as many points, not {len(data)}")
        self.mean_, self.spread_ = mean_and_spread(data)
        self.points_, self.codes_ = self._place(data), codes
        if self.index is not None:
            self.index.fit(self.points_)
        self._restore()
        return self

    def votes(self, X: ArrayLike) -> Integers:
        """Return the (n, C) votes of the k nearest reference points of X (n, d)."""
        classes = len(self.classes_)
        parts = [np.empty((0, classes), dtype=np.int64)]
        for nearest, _ in self._nearest(X):
            cells = self.codes_[nearest] + np.arange(len(nearest))[:, None] * classes
            counts = np.bincount(cells.ravel(), minlength=len(nearest) * classes)
            parts.append(counts.reshape(-1, classes))
        return np.concatenate(parts)

    def distance(self, X: ArrayLike) -> Floats:
        """Return the (n,) distances to the k-th nearest reference point."""
        return np.concatenate([np.empty(0), *(farthest for _, farthest in self._nearest(X))])

    def save(self, path: str | Path) -> None:
        """Write to `path` as `Stored.save` does; refuse where there is an `index`."""
        if self.index is not None:
            raise InvalidInput("an index of another library cannot be saved: save without it")
        super().save(path)

    def _restore(self) -> None:
        self._squares = (self.points_**2).sum(axis=1)

    def _place(self, data: Floats) -> Floats:
        data = (data - self.mean_) / self.spread_
        if self.metric == "cosine":
            data /= np.maximum(np.linalg.norm(data, axis=1, keepdims=True), 1e-300)
        return data

    def _nearest(self, X: ArrayLike) -> Iterator[tuple[Integers, Floats]]:
        """Yield (rows, k) nearest points and (rows,) distances to the k-th, block by block."""
        self._fitted("points_")
        k = self.neighbours
        data = self._place(_checks.features(X, "X", len(self.mean_)))
        step = max(1, _BLOCK // len(self.points_))
        for start in range(0, len(data), step):
            block = data[start : start + step]
            if self.index is not None:
                distances, nearest = self.index.kneighbors(block, k)
                yield np.asarray(nearest), np.asarray(distances, dtype=np.float64)[:, -1]
                continue
            squared: Floats = block @ self.points_.T
            squared *= -2.0
            squared += self._squares
            squared += (block**2).sum(axis=1)[:, None]
            order = np.argpartition(squared, k - 1, axis=1)[:, :k]
            farthest = np.take_along_axis(squared, order[:, k - 1 :], axis=1)[:, 0]
            yield order, np.sqrt(np.maximum(farthest, 0.0))
