"""Account evidence: whether an account's queries lie together, in a direction of their own.

Evidence of a query is blind where each query looks ordinary and only all of them do not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.errors import InvalidInput, MissingExtra
from powfast.leakage import _checks
from powfast.leakage.arrays import Floats, Integers
from powfast.leakage.parameters import Parameters
from powfast.leakage.reference import luck
from powfast.leakage.scaling import mean_and_spread
from powfast.leakage.storage import Stored
from powfast.sketch import VERSION_BYTES, Advance, Sketch

PROJECTIONS = 32
KAPPAS = (0.1, 0.2, 0.5)
"""What calibrates a p-value here, see `reference.p_to_e`; the kernel's own constants."""

_CLIP = 4.0
_RIDGE = 1e-3  # of the projections' mean variance
_OF_ALL = 1.0, 20.0  # rows of all classes that each class's centre, and spread, take in

Singles = NDArray[np.float32]


class OwnDirection(Parameters, Stored):
    """Account evidence from 32 random projections z of class-centred, whitened features.

    The sketch of an account is k, the sum of z and the sum of z^2 over its distinct queries, and a
    Bloom filter that tells them from repeats: 1.5 KB, of which a ledger keeps two. At
    k = 5, 7, 9, 12, ... (times 1.3) the account's mean m and variance v are fixed, each shrunk
    towards 0 and 1 as by 20 queries more. Its next queries score

        s = 1/2 sum(z^2 - (z - m)^2 / v),

    log likelihood of the account's own direction against a standard normal, and the e-value of a
    query is that of its rank among the s of honest queries, of the same class where there are
    `minimum` of them, else of all other classes. m and v come from the account's past alone.

    Parameters
    ----------
    minimum : int
        Honest queries of a class from which on its queries are compared among themselves.
    delta : float
        Evidence is divided by `reference.luck`: for one class, between two moments at which m and
        v are fixed, it averages at most 1 with probability 1 - delta over reference and account.
    pooled : float
        What pooled evidence is divided by at least, as one account may ask about few of the
        classes that it is compared with.
    seed : int
        Of the projections.

    Attributes
    ----------
    means_, spreads_, project_ : from features to projections
    honest_, strata_ : projections of honest queries, (n, 32) float32, and their classes
    """

    _settings = ("minimum", "delta", "pooled", "seed")
    _arrays = ("names_", "means_", "spreads_", "project_", "honest_", "strata_")

    names_: Integers
    means_: Floats
    spreads_: Floats
    project_: Floats
    honest_: Singles
    strata_: Integers

    def __init__(
        self, *, minimum: int = 500, delta: float = 0.01, pooled: float = 3.0, seed: int = 0
    ) -> None:
        self.minimum = minimum
        self.delta = delta
        self.pooled = pooled
        self.seed = seed

    def fit(self, features: ArrayLike, classes: ArrayLike) -> OwnDirection:
        """Centre, spread and whiten by features (n, d) of classes (n,); n at least 2.

        Classes are integers, those that the model predicts. Others met later are centred by all.

        Raises
        ------
        InvalidInput
            Features are not finite, shapes differ, or there are fewer than two rows.
        """
        data = _checks.features(features, "features")
        strata = _classes(classes, len(data))
        if len(data) < 2:
            raise InvalidInput("a direction needs at least two rows")
        mean, spread = mean_and_spread(data)
        self.names_, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
        rows = [np.flatnonzero(codes == c) for c in range(len(counts))]
        of_mean, of_spread = ((more / (more + counts))[:, None] for more in _OF_ALL)
        own = np.stack([data[of].mean(axis=0) for of in rows])
        within = np.stack([data[of].var(axis=0) for of in rows])
        pooled = counts @ within / len(data)
        means = (1.0 - of_mean) * own + of_mean * mean
        least = np.maximum(pooled, 1e-6 * spread**2)  # of features that vary within no class
        spreads = np.sqrt((1.0 - of_spread) * within + of_spread * least)
        self.means_ = np.vstack([means, mean])
        self.spreads_ = np.vstack([spreads, spread])
        residual = (data - self.means_[codes]) / self.spreads_[codes]
        self.project_ = _projections(residual, self.seed)
        return self

    def calibrate(self, features: ArrayLike, classes: ArrayLike) -> OwnDirection:
        """Take honest queries that `fit` has not seen as the reference; return self."""
        self._fitted("project_")
        self.honest_ = self._clipped(self._projected(features, classes))
        self.strata_ = _classes(classes, len(self.honest_))
        self._restore()
        return self

    def project(self, features: ArrayLike, classes: ArrayLike) -> Singles:
        """Return the (n, 32) projections of queries of such classes (n,), within -4 and 4.

        Raises
        ------
        InvalidInput
            Not fitted, features are not finite, or shapes differ.
        """
        return self._clipped(self._projected(features, classes))

    def ask(self, features: ArrayLike, classes: ArrayLike) -> Asked:
        """Return what a request's queries add to whatever sketch; errors as for `project`."""
        self._fitted("honest_")
        far = self._projected(features, classes)
        return Asked(self, far, _classes(classes, len(far)))

    def advance(
        self, features: ArrayLike, classes: ArrayLike, sketch: Sketch | None = None
    ) -> Advance:
        """Return what a request of such queries adds to a sketch as it was before it.

        A query that the account has asked before, in this request or another, has evidence 1 and
        advances nothing. A sketch of another estimator, or none, is one of no queries. Errors as
        for `project`.
        """
        return self.ask(features, classes).advance(sketch)

    def _advance(self, far: Floats, strata: Integers, sketch: Sketch | None) -> Advance:
        kernels = _kernels()
        before = fixed = np.zeros(1 + 2 * far.shape[1] + kernels.WORDS)
        if sketch is not None and sketch.version == self.version:
            before, fixed = sketch.sums, sketch.fixed
        after, fixed, evidence = before.copy(), fixed.copy(), np.empty(len(far))
        reference = self._sorted, self._starts, self._luck
        kernels.walk(far, strata, self._group(strata), *reference, after, fixed, evidence)
        return Advance(evidence, after - before, fixed, self.version)

    @cached_property
    def version(self) -> bytes:
        """Eight bytes that name this estimator: a hash of everything its evidence depends on."""
        self._fitted("honest_")
        digest = hashlib.sha256(repr([getattr(self, name) for name in self._settings]).encode())
        for name in self._arrays:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.digest()[:VERSION_BYTES]

    def _projected(self, features: ArrayLike, classes: ArrayLike) -> Floats:
        data = _checks.features(features, "features", self.means_.shape[1])
        strata = _classes(classes, len(data))
        at = np.minimum(np.searchsorted(self.names_, strata), len(self.names_) - 1)
        code = np.where(self.names_[at] == strata, at, len(self.names_))
        value: Floats = ((data - self.means_[code]) / self.spreads_[code]) @ self.project_
        return value

    def _clipped(self, far: Floats) -> Singles:
        return far.clip(-_CLIP, _CLIP).astype(np.float32)

    def _restore(self) -> None:
        """Sort the honest projections by group; the last group serves all other classes."""
        self.__dict__.pop("version", None)
        self._check()
        names, counts = np.unique(self.strata_, return_counts=True)
        self._apart = names[counts >= self.minimum]
        group = self._group(self.strata_)
        is_pooled = group == len(self._apart)
        pool = np.flatnonzero(is_pooled) if is_pooled.any() else np.arange(len(group))
        members = [np.flatnonzero(group == g) for g in range(len(self._apart))] + [pool]
        sizes = [len(rows) for rows in members]
        self._starts = np.cumsum([0, *sizes])
        self._sorted = np.ascontiguousarray(self.honest_[np.concatenate(members)].T)
        self._luck = np.array([luck(size, self.delta, KAPPAS) for size in sizes])
        self._luck[-1] = max(self._luck[-1], self.pooled)

    def _check(self) -> None:
        _checks.whole(self.minimum, "minimum")
        _checks.probability(self.delta, "delta")
        _checks.positive(self.pooled, "pooled")
        honest = len(self.honest_)
        if honest == 0:
            raise InvalidInput("a direction needs at least one honest query")
        d, m = self.project_.shape
        rows = len(self.names_) + 1, d
        shapes = self.means_.shape, self.spreads_.shape, self.honest_.shape, self.strata_.shape
        if shapes != (rows, rows, (honest, m), (honest,)):
            raise InvalidInput("the arrays of a direction do not fit together")

    def _group(self, strata: Integers) -> Integers:
        at = np.searchsorted(self._apart, strata)
        known = np.append(self._apart, 0)[at] == strata
        return np.where(known & (at < len(self._apart)), at, len(self._apart))


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """A request's queries, projected once for the sketches of its account and its group."""

    _direction: OwnDirection
    _far: Floats
    _classes: Integers

    def advance(self, sketch: Sketch | None) -> Advance:
        """See `OwnDirection.advance`."""
        return self._direction._advance(self._far, self._classes, sketch)


def _kernels() -> Any:
    try:
        from powfast.leakage import direction_kernels
    except ImportError:
        raise MissingExtra("account evidence needs Numba: pip install 'powfast[leakage]'") from None
    return direction_kernels


def _classes(classes: ArrayLike, rows: int) -> Integers:
    strata = _checks.integers(classes, "classes")
    if strata.shape != (rows,):
        raise InvalidInput(f"classes must be ({rows},), one per query, not {strata.shape}")
    return strata


def _projections(residual: Floats, seed: int) -> Floats:
    """Return (d, m) random directions in which the residuals' covariance is the identity.

    They are drawn before they are whitened: what queries have in common lies in the directions in
    which features vary most, and whitening all d first would hide it among the others. m is
    `PROJECTIONS`, or d where that is less.
    """
    n, d = residual.shape
    drawn = np.random.default_rng(seed).normal(size=(d, min(d, PROJECTIONS)))
    drawn = np.linalg.qr(drawn)[0]
    seen = residual @ drawn
    covariance = seen.T @ seen / n
    covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    value: Floats = drawn @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    return value
