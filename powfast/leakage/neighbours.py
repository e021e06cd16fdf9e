"""Labels of the nearest reference points as votes, and the distance to the k-th of them."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage.approximate import ApproximateIndex
from powfast.leakage.arrays import Floats, Integers
from powfast.leakage.gnmax import count
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
    approximate : bool
        Search by FAISS (the extra `neighbours`) in a part of the points instead of all: for
        references of a million points. Saved without its index, which `load` builds anew.
    seed : int

    Attributes
    ----------
    classes_ : (C,) the labels, sorted
    points_ : (r, d) float64 standardised reference points
    codes_ : (r,) indices of their labels
    """

    classes_: NDArray[Any]
    mean_: Floats
    spread_: Floats
    points_: Floats
    codes_: Integers

    _settings = ("neighbours", "metric", "subsample", "approximate", "seed")
    _arrays = ("classes_", "mean_", "spread_", "points_", "codes_")

    def __init__(
        self,
        neighbours: int = 10,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        subsample: int | None = None,
        approximate: bool = False,
        seed: int = 0,
    ) -> None:
        self.neighbours = neighbours
        self.metric = metric
        self.subsample = subsample
        self.approximate = approximate
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
        self._restore()
        return self

    def votes(self, X: ArrayLike) -> Integers:
        """Return the (n, C) votes of the k nearest reference points of X (n, d)."""
        nearest, _ = self._nearest(X)
        return count(self.codes_[nearest], len(self.classes_))

    def distance(self, X: ArrayLike) -> Floats:
        """Return the (n,) distances to the k-th nearest reference point."""
        return self._nearest(X)[1]

    def _restore(self) -> None:
        self._squares = (self.points_**2).sum(axis=1)
        if self.approximate:
            self._index = ApproximateIndex(self.points_)

    def _place(self, data: Floats) -> Floats:
        data = (data - self.mean_) / self.spread_
        if self.metric == "cosine":
            data /= np.maximum(np.linalg.norm(data, axis=1, keepdims=True), 1e-300)
        return data

    def _nearest(self, X: ArrayLike) -> tuple[Integers, Floats]:
        """Return the (n, k) nearest points, the k-th last, and the (n,) distances to it."""
        self._fitted("points_")
        data = self._place(_checks.features(X, "X", len(self.mean_)))
        if not self.approximate:
            return self._exact(data)
        order = self._index.search(data, self.neighbours)
        short = (order < 0).any(axis=1)
        order[short] = self._exact(data[short])[0]
        return order, np.linalg.norm(data - self.points_[order[:, -1]], axis=1)

    def _exact(self, data: Floats) -> tuple[Integers, Floats]:
        k = self.neighbours
        nearest = np.empty((len(data), k), dtype=np.int64)
        farthest = np.empty(len(data))
        step = max(1, _BLOCK // len(self.points_))
        for start in range(0, len(data), step):
            rows = slice(start, start + step)
            squared: Floats = data[rows] @ self.points_.T
            squared *= -2.0
            squared += self._squares
            squared += (data[rows] ** 2).sum(axis=1)[:, None]
            order = np.argpartition(squared, k - 1, axis=1)[:, :k]
            nearest[rows] = order
            farthest[rows] = np.take_along_axis(squared, order[:, k - 1 :], axis=1)[:, 0]
        return nearest, np.sqrt(np.maximum(farthest, 0.0))
