"""Labels of the nearest reference points as votes, and the distance to the k-th of them."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage._checks import Floats, Integers
from powfast.leakage.parameters import Parameters

_BLOCK = 1 << 22  # distances held at once


class NeighbourVotes(Parameters):
    """The k nearest reference points vote with their labels (the paper's pkNN).

    Parameters
    ----------
    neighbours : int
        k.
    subsample : int, optional
        Keep at most this many reference points, drawn with `seed`.
    seed : int

    Attributes
    ----------
    classes_ : (C,) the labels, sorted
    points_ : (r, d) float64 standardised reference points
    """

    def __init__(
        self, neighbours: int = 10, *, subsample: int | None = None, seed: int = 0
    ) -> None:
        self.neighbours = neighbours
        self.subsample = subsample
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Keep X (n, d) and its labels y (n,) as the reference."""
        k = _checks.whole(self.neighbours, "neighbours")
        data = _checks.matrix(X, "X")
        self.classes_, codes = np.unique(_checks.labels(y, len(data)), return_inverse=True)
        if self.subsample is not None:
            keep = min(_checks.whole(self.subsample, "subsample"), len(data))
            rows = np.random.default_rng(self.seed).choice(len(data), keep, replace=False)
            data, codes = data[rows], codes[rows]
        if len(data) < k:
            raise InvalidInput(f"{k} neighbours need at least as many points, not {len(data)}")
        self.mean_ = data.mean(axis=0)
        spread = data.std(axis=0)
        self.scale_ = np.where(spread > 1e-12 * (1.0 + np.abs(self.mean_)), spread, 1.0)
        self.points_ = (data - self.mean_) / self.scale_
        self.codes_ = codes
        self.squares_ = (self.points_**2).sum(axis=1)
        return self

    def votes(self, X: ArrayLike) -> Integers:
        """Return the (n, C) votes of the k nearest reference points of X (n, d)."""
        k, classes = self.neighbours, len(self.classes_)
        out = np.zeros((len(np.asarray(X)), classes), dtype=np.int64)
        for start, distances in self._blocks(X):
            nearest = self.codes_[np.argpartition(distances, k - 1, axis=1)[:, :k]]
            rows = np.repeat(np.arange(start, start + len(distances)), k)
            np.add.at(out, (rows, nearest.ravel()), 1)
        return out

    def distance(self, X: ArrayLike) -> Floats:
        """Return the (n,) Euclidean distances to the k-th nearest, in standard deviations."""
        k = self.neighbours
        parts = [np.partition(block, k - 1, axis=1)[:, k - 1] for _, block in self._blocks(X)]
        squared = np.concatenate(parts) if parts else np.empty(0)
        return np.sqrt(np.maximum(squared, 0.0))

    def _blocks(self, X: ArrayLike) -> list[tuple[int, Floats]]:
        self._fitted("points_")
        data = (_checks.matrix(X, "X", len(self.mean_)) - self.mean_) / self.scale_
        step = max(1, _BLOCK // len(self.points_))
        return [
            (start, self._squared(data[start : start + step]))
            for start in range(0, len(data), step)
        ]

    def _squared(self, data: Floats) -> Floats:
        squared: Floats = data @ self.points_.T
        squared *= -2.0
        squared += self.squares_
        squared += (data**2).sum(axis=1)[:, None]
        return squared
