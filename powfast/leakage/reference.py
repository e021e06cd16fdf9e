"""From scores to evidence: how rare each query's scores are among honest queries of its stratum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage.arrays import Floats, Integers
from powfast.leakage.storage import Stored

KAPPAS = (0.05, 0.1, 0.2, 0.5)


def p_to_e(p: Floats) -> Floats:
    """Return g(p), the mean over kappa of kappa p^(kappa - 1); its integral over (0, 1) is 1.

    Vovk, Wang, "E-values: Calibration, combination and applications" (2021), section 2.
    """
    kappas, log_p = np.array(KAPPAS), np.log(p)[..., None]
    value: Floats = (kappas * np.exp((kappas - 1.0) * log_p)).mean(axis=-1)
    return value


class StratumCheck(NamedTuple):
    """Mean evidence of honest queries compared alike, with an interval of `confidence`."""

    strata: tuple[int, ...]
    """One stratum, or those asked about of one cluster or of the pool."""
    promise: str
    """Over which honest queries evidence averages at most 1."""
    queries: int
    mean: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether a mean of at most 1 lies within the interval."""
        return self.low <= 1.0


class Drift(NamedTuple):
    """Distance between fresh and reference scores of one stratum, and how often chance does it."""

    stratum: int
    score: int
    queries: int
    distance: float
    p_value: float


class HonestReference(Stored):
    """Scores of honest queries, sorted per stratum; turns new scores into e-values.

    A query is compared with the honest queries of its stratum alone (Mondrian conformal
    prediction: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World"): one smoothed
    p-value per score, each calibrated to an e-value; their (weighted) mean is the evidence, at
    most 1 on average for a query exchangeable with the honest ones of its stratum, however the
    scores depend on each other.

    Pooling: strata with fewer than `minimum` honest queries form one pooled stratum, which takes
    in the smallest of the others until it has `minimum` as well. Strata never seen are compared
    with the pool, or, where there is none, with all honest queries. Strata may be clustered
    beforehand: the average is then over the cluster's honest queries. Make one with `fit`.

    Attributes
    ----------
    scores : (n, m) float64 honest scores, oldest first
    strata : (n,) int64
    clusters : (k, 2) int64 strata that are compared together, each with its cluster
    minimum, delta, weights : as given to `fit`
    """

    _settings = ("minimum", "delta", "weights")
    _arrays = ("scores", "strata", "clusters")

    scores: Floats
    strata: Integers
    clusters: Integers
    minimum: int
    delta: float | None
    weights: Sequence[float] | None

    @classmethod
    def fit(
        cls,
        scores: ArrayLike,
        strata: ArrayLike | None = None,
        *,
        minimum: int = 20,
        delta: float | None = None,
        weights: Sequence[float] | None = None,
        clusters: ArrayLike | None = None,
    ) -> Self:
        """Return the reference of honest scores (n, m) in strata (n,), one stratum if None.

        `clusters` (k, 2) lists strata that are compared together with their cluster's number, as
        `powfast.leakage.clusters.clusters` finds them among honest queries that are not in
        `scores`.

        `weights` (m,) say how much each score's e-value counts in the mean; equal unless given.
        They have to be chosen without a look at the queries that are judged.

        "At most 1 on average" holds over honest queries *and* over the draw of the reference
        itself; which reference was drawn is the luck of all accounts. With `delta`, evidence is
        divided by `luck`, so that in each stratum it averages at most 1 with probability
        1 - delta over the reference.

        Raises
        ------
        InvalidInput
            Scores are not finite, shapes differ, or there is no query.
        """
        made = cls()
        made.scores = _checks.matrix(scores, "scores")
        made.strata = _strata(strata, len(made.scores))
        made.minimum, made.delta, made.weights = minimum, delta, weights
        made.clusters = _clusters(clusters)
        made._restore()
        return made

    def p_values(self, scores: ArrayLike, strata: ArrayLike | None, ties: ArrayLike) -> Floats:
        """Return the (n, m) smoothed conformal p-values, small where a score is unusually large.

        Parameters
        ----------
        scores : (n, m) finite
        strata : (n,) integers, or None where the reference has one stratum
        ties : (n,) or (n, m) in (0, 1), uniform: they order a score among its equals
        """
        table = _checks.matrix(scores, "scores", self.scores.shape[1])
        uniform = _checks.uniforms(ties, table.shape)
        size, above, equal = self._ranks(table, self._group(_strata(strata, len(table))))
        p: Floats = (above + uniform * (equal + 1)) / (size + 1)
        return p

    def evidence(
        self, scores: ArrayLike, strata: ArrayLike | None = None, ties: ArrayLike | None = None
    ) -> Floats:
        """Return the (n,) e-values of queries: at least 0, at most 1 on average if honest.

        Without `ties` every p-value's evidence is averaged over them in closed form: the same
        mean, less spread, faster growth for who is not honest, and no randomness to re-roll.
        Parameters else as in `p_values`.
        """
        table = _checks.matrix(scores, "scores", self.scores.shape[1])
        group = self._group(_strata(strata, len(table)))
        size, above, equal = self._ranks(table, group)
        if ties is None:
            # the integral of g from 0 to p, at p = k / (size + 1), is in _gain at _at + k
            at = self._at[group][:, None] + above
            mean = self._gain[at + equal + 1] - self._gain[at]
            each = mean * (size + 1) / (equal + 1)
        else:
            each = p_to_e((above + _checks.uniforms(ties, table.shape) * (equal + 1)) / (size + 1))
        value: Floats = (each @ self._weights) / self._luck[group]
        return value

    def check(
        self, scores: ArrayLike, strata: ArrayLike | None = None, *, confidence: float = 0.99
    ) -> list[StratumCheck]:
        """Return the mean evidence of held-out honest queries, per stratum, cluster or pool.

        The interval is the normal one, two-sided; where there is one query it is infinite.
        """
        level = _checks.probability(confidence, "confidence")
        evidence = self.evidence(scores, strata)
        asked = _strata(strata, len(evidence))
        groups = self._group(asked)
        width = NormalDist().inv_cdf(0.5 + level / 2.0)
        rows = []
        for group in np.unique(groups):
            own, names = evidence[groups == group], np.unique(asked[groups == group])
            error = float(own.std(ddof=1)) / math.sqrt(len(own)) if len(own) > 1 else math.inf
            mean, reach = float(own.mean()), width * error
            strata_ = tuple(map(int, names))
            promise = self._promise(int(group))
            rows.append(StratumCheck(strata_, promise, len(own), mean, mean - reach, mean + reach))
        return rows

    def update(
        self, scores: ArrayLike, strata: ArrayLike | None = None, *, keep: int | None = None
    ) -> HonestReference:
        """Return a new reference with fresh honest queries added, of the newest `keep` of all.

        Whoever can add to the reference decides what counts as honest: look at `drift` first,
        and add only traffic that an operator vouches for.
        """
        table = _checks.matrix(scores, "scores", self.scores.shape[1])
        groups = _strata(strata, len(table))
        start = 0
        if keep is not None:
            start = max(0, len(self.scores) + len(table) - _checks.whole(keep, "keep"))
        return HonestReference.fit(
            np.concatenate([self.scores, table])[start:],
            np.concatenate([self.strata, groups])[start:],
            minimum=self.minimum,
            delta=self.delta,
            weights=self.weights,
            clusters=self.clusters,
        )

    def drift(self, scores: ArrayLike, strata: ArrayLike | None = None) -> list[Drift]:
        """Return, per stratum and score, the Kolmogorov-Smirnov distance of fresh traffic.

        p_value bounds how often chance alone does as much (Smirnov's two-sample limit,
        2 exp(-2 D^2 n r / (n + r))); by itself it means little with many strata: divide.
        """
        table = _checks.matrix(scores, "scores", self.scores.shape[1])
        groups = _strata(strata, len(table))
        home = self._group(groups)
        values = self._honest.imag.reshape(table.shape[1], -1)
        rows = []
        for name in np.unique(groups):
            of = np.flatnonzero(groups == name)
            group = int(home[of[0]])
            start, size = int(self._starts[group]), int(self._sizes[group])
            effective = len(of) * size / (len(of) + size)
            for d in range(table.shape[1]):
                old, new = values[d, start : start + size], np.sort(table[of, d])
                at = np.concatenate([old, new])
                cdf_old = np.searchsorted(old, at, "right") / size
                cdf_new = np.searchsorted(new, at, "right") / len(new)
                distance = float(np.abs(cdf_old - cdf_new).max())
                p = min(1.0, 2.0 * math.exp(-2.0 * effective * distance**2))
                rows.append(Drift(int(name), d, len(of), distance, p))
        return rows

    def _restore(self) -> None:
        """Check and sort the honest scores by group; the last group serves all other strata."""
        self.scores = _checks.matrix(self.scores, "scores")
        self.strata = _strata(self.strata, len(self.scores))
        self.minimum = _checks.whole(self.minimum, "minimum")
        if self.delta is not None:
            self.delta = _checks.probability(self.delta, "delta")
        if len(self.scores) == 0:
            raise InvalidInput("an honest reference needs at least one honest query")
        self._weights = _normal(self.weights, self.scores.shape[1])
        self.clusters = _clusters(self.clusters)
        self._names, home = self._homes()
        codes = home[np.searchsorted(self._names, self.strata)]
        pooled = _pool(np.bincount(codes, minlength=home.max() + 1), self.minimum)
        kept = np.flatnonzero(~pooled)
        members = [np.flatnonzero(codes == group) for group in kept]
        pool = np.flatnonzero(pooled[codes])
        members.append(pool if len(pool) else np.arange(len(self.scores)))
        self._home = np.where(pooled[home], len(kept), np.searchsorted(kept, home))
        self._sizes = np.array([len(rows) for rows in members])
        self._starts = np.cumsum(self._sizes) - self._sizes
        groups = np.repeat(np.arange(len(members)), self._sizes)
        columns = np.arange(self.scores.shape[1])[:, None]
        cells = columns * len(members) + groups
        self._honest = np.sort(_keys(cells, self.scores[np.concatenate(members)].T), axis=None)
        gains = [_gain(int(size)) for size in self._sizes]
        self._gain = np.concatenate(gains)
        self._at = np.cumsum([0] + [len(g) for g in gains[:-1]])
        self._luck = np.array([luck(int(size), self.delta) for size in self._sizes])

    def _homes(self) -> tuple[Integers, Integers]:
        """Return all known strata and, for each, the number of its cluster or stratum."""
        names = np.union1d(self.strata, self.clusters[:, 0])
        keys = np.column_stack([np.zeros_like(names), names])
        keys[np.searchsorted(names, self.clusters[:, 0])] = np.column_stack(
            [np.ones(len(self.clusters), dtype=np.int64), self.clusters[:, 1]]
        )
        return names, np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    def _group(self, strata: Integers) -> Integers:
        at = np.minimum(np.searchsorted(self._names, strata), len(self._names) - 1)
        return np.where(self._names[at] == strata, self._home[at], len(self._sizes) - 1)

    def _promise(self, group: int) -> str:
        """Say over which honest queries the evidence of a group averages at most 1."""
        if group == len(self._sizes) - 1:
            return "the pool's strata together, in the proportions of its honest queries"
        names = self._names[self._home == group]
        if len(names) == 1:
            return f"stratum {names[0]}"
        return f"{len(names)} clustered strata together, in the proportions of their honest queries"

    def _ranks(self, table: Floats, group: Integers) -> tuple[Integers, Integers, Integers]:
        """Return (size of the group, honest scores above, honest scores equal), each (n, m)."""
        columns = np.arange(table.shape[1])
        keys = _keys(columns * len(self._sizes) + group[:, None], table)
        low, high = (np.searchsorted(self._honest, keys, side) for side in ("left", "right"))
        size = self._sizes[group][:, None]
        end = columns * self._sizes.sum() + self._starts[group][:, None] + size
        return size, end - high, high - low


def _keys(cells: Integers, scores: Floats) -> NDArray[np.complex128]:
    """Return numbers that sort by cell, and within one by score: complex ones do."""
    keys = np.empty(scores.shape, dtype=np.complex128)
    keys.real, keys.imag = cells, scores
    return keys


@lru_cache(maxsize=256)
def luck(size: int, delta: float | None, kappas: tuple[float, ...] = KAPPAS) -> float:
    """Return c such that evidence averages at most c with probability 1 - delta.

    The honest mass between neighbouring order statistics of `size` honest scores is Dirichlet(1,
    ..., 1), whatever their distribution, so the mean of evidence given the reference is
    sum_r w_r e_r with w so distributed. By Markov and Markov-Krein, for 0 < t < 1/(e_max - c),
    P(sum_r w_r e_r >= c) <= prod_r 1 / (1 - t (e_r - c)); the left side's argument may be any
    conditional expectation or average of such sums (ties, several scores), the function being
    convex. c is the smallest value for which some t brings the product down to delta.
    """
    if delta is None:
        return 1.0
    evidence = (size + 1) * np.diff(_gain(size, kappas))
    low, high = 1.0, float(evidence[0])
    fractions = np.linspace(0.0, 1.0, 202)[1:-1, None]
    for _ in range(30):
        c = 0.5 * (low + high)
        excess = evidence - c
        bound = -np.log1p(-fractions * (excess / excess[0])).sum(axis=1).max()
        low, high = (c, high) if bound > math.log(delta) else (low, c)
    return high


@lru_cache(maxsize=256)
def _gain(size: int, kappas: tuple[float, ...] = KAPPAS) -> Floats:
    """Return the integral of g from 0 to k / (size + 1), mean of p^kappa, for k = 0 .. size + 1."""
    p = np.arange(size + 2) / (size + 1)
    gain: Floats = (p[:, None] ** np.array(kappas)).mean(axis=1)
    return gain


def _strata(strata: ArrayLike | None, rows: int) -> Integers:
    if strata is None:
        return np.zeros(rows, dtype=np.int64)
    groups = _checks.integers(strata, "strata")
    if groups.shape != (rows,):
        raise InvalidInput(f"strata must be ({rows},), one per query, not {groups.shape}")
    return groups


def _clusters(clusters: ArrayLike | None) -> Integers:
    if clusters is None:
        return np.empty((0, 2), dtype=np.int64)
    pairs = _checks.integers(clusters, "clusters")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(np.unique(pairs[:, 0])) != len(pairs):
        raise InvalidInput("clusters must be (k, 2): distinct strata, each with its cluster")
    return pairs


def _normal(weights: Sequence[float] | None, scores: int) -> Floats:
    """Return (m,) weights that sum to 1."""
    raw = np.ones(scores) if weights is None else np.asarray(weights, dtype=np.float64)
    if raw.shape != (scores,) or not ((raw >= 0.0) & (raw < np.inf)).all() or raw.sum() <= 0.0:
        raise InvalidInput(f"weights must be {scores} nonnegative numbers, not {weights!r}")
    value: Floats = raw / raw.sum()
    return value


def _pool(counts: Integers, minimum: int) -> NDArray[np.bool_]:
    """Return which strata go into the pool: the smallest first, until it is large enough."""
    pooled = np.zeros(len(counts), dtype=bool)
    total = 0
    for stratum in np.argsort(counts, kind="stable"):
        if counts[stratum] >= minimum and (total == 0 or total >= minimum):
            break
        pooled[stratum] = True
        total += counts[stratum]
    return pooled
