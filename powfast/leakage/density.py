"""How far features lie from every class: a Gaussian per class, whitened by what they share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage.arrays import Floats
from powfast.leakage.parameters import Parameters
from powfast.leakage.scaling import mean_and_spread
from powfast.leakage.storage import Stored

_RIDGE = 1e-3  # in variances of the standardised features
_LARGEST = 1 << 24  # entries of all classes' matrices; beyond, classes share one covariance


class ClassDensity(Parameters, Stored):
    """Squared Mahalanobis distance to the nearest class, by that class's own covariance.

    The nearest class is found in the space whitened by the pooled covariance; there each class
    has a covariance shrunk towards the pooled one by d / (d + n_c) (regularised discriminant
    analysis: Friedman 1989; as a detector of unusual inputs: Lee, Lee, Lee, Shin 2018).

    Attributes
    ----------
    means_ : (C, d) class means, whitened
    factors_ : (C or 1, d, d) whitening of each class
    logdets_ : (C or 1,) log determinants of the classes' covariances
    """

    mean_: Floats
    whiten_: Floats
    means_: Floats
    factors_: Floats
    logdets_: Floats

    _arrays = ("mean_", "whiten_", "means_", "factors_", "logdets_")

    def fit(self, X: ArrayLike, y: ArrayLike) -> ClassDensity:
        """Fit on X (n, d), n at least 2, and labels y (n,); small classes share more."""
        data = _checks.features(X, "X")
        names, codes = np.unique(_checks.labels(y, len(data)), return_inverse=True)
        if len(data) < 2:
            raise InvalidInput("a density needs at least two rows")
        d = data.shape[1]
        self.mean_, spread = mean_and_spread(data)
        data = (data - self.mean_) / spread
        means = np.stack([data[codes == c].mean(axis=0) for c in range(len(names))])
        residual = data - means[codes]
        pooled = residual.T @ residual / len(data) + _RIDGE * np.eye(d)
        whiten = _inverse_root(pooled)
        self.whiten_ = whiten / spread[:, None]
        self.means_ = means @ whiten
        residual = residual @ whiten
        if len(names) * d * d > _LARGEST:
            shrunk = np.eye(d)[None]
        else:
            shrunk = np.stack([_shrunk(residual[codes == c]) for c in range(len(names))])
        self.factors_ = np.stack([_inverse_root(matrix) for matrix in shrunk])
        self.logdets_ = np.linalg.slogdet(shrunk)[1]
        self._restore()
        return self

    def distance(self, X: ArrayLike) -> Floats:
        """Return (n,) squared distances plus log determinant: -2 log density up to a constant."""
        self._fitted("whiten_")
        data = (_checks.features(X, "X", len(self.mean_)) - self.mean_) @ self.whiten_
        nearest = (self._squares - 2.0 * (data @ self.means_.T)).argmin(axis=1)
        data -= self.means_[nearest]
        which = nearest if len(self.factors_) > 1 else np.zeros_like(nearest)
        out: Floats = self.logdets_[which]
        for c in set(which.tolist()):
            rows = which == c
            out[rows] += ((data[rows] @ self.factors_[c]) ** 2).sum(axis=1)
        return out

    def _restore(self) -> None:
        self._squares = (self.means_**2).sum(axis=1)


def _shrunk(residual: Floats) -> Floats:
    n, d = residual.shape
    share = d / (d + n)
    value: Floats = (1.0 - share) * (residual.T @ residual / n) + share * np.eye(d)
    return value


def _inverse_root(covariance: Floats) -> Floats:
    """Return W with W W^T the inverse of the covariance."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)).T, dtype=np.float64)
