"""An ensemble of ridge classifiers in closed form: the teachers whose votes are counted."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage._checks import Floats, Integers
from powfast.leakage.parameters import Parameters


class TeacherEnsemble(Parameters):
    """K ridge heads on disjoint shards or bootstraps of standardised features, one matrix product.

    Parameters
    ----------
    teachers : int
        K. More teachers resolve disagreement more finely and see less data each.
    ridge : float
        Penalty per training row, on standardised features.
    split : {"shards", "bootstrap"}
        Disjoint parts of the data, or samples of its size drawn with replacement.
    seed : int
        Of the split; the same seed and data give the same heads.

    Attributes
    ----------
    classes_ : (C,) the labels, sorted
    weights_ : (d + 1, K * C) float64, the last row the intercepts
    """

    def __init__(
        self,
        teachers: int = 50,
        *,
        ridge: float = 1e-2,
        split: Literal["shards", "bootstrap"] = "shards",
        seed: int = 0,
    ) -> None:
        self.teachers = teachers
        self.ridge = ridge
        self.split = split
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit all heads on X (n, d) and labels y (n,), the served model's own ones included.

        Raises
        ------
        InvalidInput
            Shapes do not fit, values are not finite, there is only one class, or there are
            fewer rows than teachers.
        """
        heads = _checks.whole(self.teachers, "teachers", 2)
        ridge = _checks.positive(self.ridge, "ridge")
        data = _checks.matrix(X, "X")
        n = len(data)
        if n < heads:
            raise InvalidInput(f"{heads} teachers need at least as many rows, not {n}")
        self.classes_, codes = np.unique(_checks.labels(y, n), return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidInput("labels must hold at least two classes")
        self.mean_ = data.mean(axis=0)
        spread = data.std(axis=0)
        self.scale_ = np.where(spread > 1e-12 * (1.0 + np.abs(self.mean_)), spread, 1.0)
        data = self._standardise(data)
        targets = np.eye(len(self.classes_))[codes] * 2.0 - 1.0
        solved = [_ridge(data[rows], targets[rows], ridge) for rows in self._parts(n, heads)]
        self.weights_ = np.ascontiguousarray(np.concatenate(solved, axis=1))
        return self

    def votes(self, X: ArrayLike) -> Integers:
        """Return the (n, C) votes of the heads on X (n, d)."""
        self._fitted("weights_")
        data = self._standardise(_checks.matrix(X, "X", len(self.mean_)))
        classes = len(self.classes_)
        winners = (data @ self.weights_).reshape(-1, classes).argmax(axis=1)
        heads = self.weights_.shape[1] // classes
        cells = winners + np.repeat(np.arange(len(data)) * classes, heads)
        return np.bincount(cells, minlength=len(data) * classes).reshape(-1, classes)

    def _standardise(self, data: Floats) -> Floats:
        out = np.empty((len(data), data.shape[1] + 1))
        np.subtract(data, self.mean_, out=out[:, :-1])
        out[:, :-1] /= self.scale_
        out[:, -1] = 1.0
        return out

    def _parts(self, n: int, heads: int) -> list[Integers]:
        rng = np.random.default_rng(self.seed)
        if self.split == "shards":
            return np.array_split(rng.permutation(n), heads)
        if self.split == "bootstrap":
            return [rng.integers(n, size=n) for _ in range(heads)]
        raise InvalidInput(f"split must be 'shards' or 'bootstrap', not {self.split!r}")


def _ridge(X: Floats, Y: Floats, ridge: float) -> Floats:
    """Return the (d + 1, C) weights that minimise the penalised squared error."""
    gram = X.T @ X
    gram[np.diag_indices_from(gram)] += ridge * len(X)
    return np.asarray(np.linalg.solve(gram, X.T @ Y), dtype=np.float64)
