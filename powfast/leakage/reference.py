"""From scores to evidence: how rare each query's scores are among honest queries of its stratum."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage._checks import Floats, Integers

KAPPAS = (0.05, 0.1, 0.2, 0.5)


def p_to_e(p: Floats) -> Floats:
    """Return the mean over kappa of kappa p^(kappa - 1): its integral over (0, 1) is 1.

    Vovk, Wang, "E-values: Calibration, combination and applications" (2021), eq. 1.
    """
    log_p = np.log(p)
    total = np.zeros_like(log_p)
    for kappa in KAPPAS:
        total += kappa * np.exp((kappa - 1.0) * log_p)
    return total / len(KAPPAS)


class HonestReference:
    """Scores of honest queries, sorted per stratum; turns new scores into e-values.

    A query is compared with the honest queries of its stratum alone (Mondrian conformal
    prediction: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World"), one smoothed
    p-value per score; each is calibrated to an e-value and their mean is the evidence, at most
    1 on average for a query exchangeable with the honest ones of its stratum.

    Pooling: strata with fewer than `minimum` honest queries form one pooled stratum, which takes
    in the smallest of the others until it has `minimum` as well. Strata never seen are compared
    with the pool, or, where there is none, with all honest queries. Make one with `fit`.
    """

    def __init__(self, values: Floats, starts: Integers, sizes: Integers, strata: Integers) -> None:
        self._values = values  # (m, total): per score the groups' sorted values, end to end
        self._starts = starts  # (groups,), the last group the one for unseen strata
        self._sizes = sizes
        self._strata = strata  # (s, 2): stratum -> group, sorted by stratum

    @classmethod
    def fit(cls, scores: ArrayLike, strata: ArrayLike, *, minimum: int = 20) -> Self:
        """Return the reference of honest scores (n, m) in strata (n,) of integers.

        Raises
        ------
        InvalidInput
            Scores are not finite, shapes differ, or there is no query.
        """
        table = _checks.matrix(scores, "scores")
        groups = _strata(strata, len(table))
        if len(table) == 0:
            raise InvalidInput("an honest reference needs at least one honest query")
        names, counts = np.unique(groups, return_counts=True)
        pooled = _pool(counts, _checks.whole(minimum, "minimum"))
        own = names[~pooled]
        members = [np.flatnonzero(groups == name) for name in own]
        rest = (
            np.flatnonzero(np.isin(groups, names[pooled]))
            if pooled.any()
            else np.arange(len(table))
        )
        members.append(rest)
        sizes = np.array([len(rows) for rows in members])
        values = np.concatenate([np.sort(table[rows], axis=0) for rows in members]).T
        home = np.column_stack([own, np.arange(len(own))])
        return cls(np.ascontiguousarray(values), np.cumsum(sizes) - sizes, sizes, home)

    def p_values(self, scores: ArrayLike, strata: ArrayLike, ties: ArrayLike) -> Floats:
        """Return the (n, m) smoothed conformal p-values, small where a score is unusually large.

        Parameters
        ----------
        scores : (n, m) finite
        strata : (n,) integers
        ties : (n,) or (n, m) in (0, 1), uniform: decide how equal scores are ordered
        """
        table = _checks.matrix(scores, "scores", len(self._values))
        uniform = np.asarray(ties, dtype=np.float64)
        if uniform.ndim == 1:
            uniform = uniform[:, None]
        if uniform.shape not in {(len(table), 1), table.shape}:
            raise InvalidInput(
                f"ties must be ({len(table)},) or {table.shape}, not {np.shape(ties)}"
            )
        if not ((uniform > 0.0) & (uniform < 1.0)).all():
            raise InvalidInput("ties must lie strictly between 0 and 1")
        group = self._group(_strata(strata, len(table)))
        sizes = self._sizes[group][:, None]
        below = self._count(table, group, strict=True)
        upto = self._count(table, group, strict=False)
        p: Floats = (sizes - upto + uniform * (upto - below + 1)) / (sizes + 1)
        return p

    def evidence(self, scores: ArrayLike, strata: ArrayLike, ties: ArrayLike) -> Floats:
        """Return the (n,) e-values of queries: at least 0, at most 1 on average if honest.

        Parameters as in `p_values`.
        """
        value: Floats = p_to_e(self.p_values(scores, strata, ties)).mean(axis=1)
        return value

    def _group(self, strata: Integers) -> Integers:
        unseen = len(self._sizes) - 1
        if len(self._strata) == 0:
            return np.full(len(strata), unseen)
        names = self._strata[:, 0]
        at = np.minimum(np.searchsorted(names, strata), len(names) - 1)
        return np.where(names[at] == strata, self._strata[at, 1], unseen)

    def _count(self, table: Floats, group: Integers, *, strict: bool) -> Integers:
        """Return how many honest scores of each query's group lie below (strict) or not above it.

        One binary search for all queries and scores at once.
        """
        low = np.broadcast_to(self._starts[group][:, None], table.shape).copy()
        high = low + self._sizes[group][:, None]
        score = np.arange(table.shape[1])
        last = self._values.shape[1] - 1
        for _ in range(int(self._sizes.max()).bit_length()):
            middle = (low + high) >> 1
            value = self._values[score, np.minimum(middle, last)]
            right = (value < table if strict else value <= table) & (low < high)
            low = np.where(right, middle + 1, low)
            high = np.where(right, high, middle)
        return low - self._starts[group][:, None]


def _strata(strata: ArrayLike, rows: int) -> Integers:
    groups = _checks.integers(strata, "strata")
    if groups.shape != (rows,):
        raise InvalidInput(f"strata must be ({rows},), one per query, not {groups.shape}")
    return groups


def _pool(counts: Integers, minimum: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which strata go into the pool: the smallest first, until it is large enough."""
    pooled = np.zeros(len(counts), dtype=bool)
    total = 0
    for stratum in np.argsort(counts, kind="stable"):
        if counts[stratum] >= minimum and (total == 0 or total >= minimum):
            break
        pooled[stratum] = True
        total += counts[stratum]
    return pooled
