"""What an extractor pays who splits, stops and dilutes as well as it can, in base prices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from powfast.tariff.checks import FloatArray
from powfast.tariff.evidence import EvidenceTariff
from powfast.tariff.honest import of_queries, resized

DILUTIONS = sorted({round(1.12**k) for k in range(6, 53)})
"""One query in so many is useful to the extractor, the others are as ordinary as can be."""

_STOP_ABOVE = 2.0 ** np.arange(0.5, 40.0, 0.5)

_BASE = EvidenceTariff(base_work=1.0, max_work=2.0**63, account_evidence=True)


class Abandoned:
    """Accounts of one extractor, each left at the best moment.

    An account is left after a fixed number of queries, or before it would pay a price above a
    fixed limit; what is asked and not paid for costs nothing and gains nothing.

    Parameters
    ----------
    evidence : (r, n) or (r, n, 2) float64
        Evidence of r simulated accounts' queries, in order.
    useful : (n,) bool
        Which of them the extractor wants answered.
    """

    def __init__(self, evidence: FloatArray, useful: npt.NDArray[np.bool_]) -> None:
        price = np.stack([_BASE.work(row)[0] for row in evidence])
        accounts, queries = price.shape
        gained = np.concatenate([[0], useful.cumsum()])
        highest = np.maximum.accumulate(price, axis=1)
        at_limit = np.stack([row.searchsorted(_STOP_ABOVE, side="right") for row in highest], 1)
        after_count = np.repeat(np.arange(1, queries + 1)[:, None], accounts, axis=1)
        stop = np.concatenate([at_limit, after_count])  # (ways to stop, accounts)
        self._price, self._stop = price, stop
        self._opened = (stop > 0).mean(axis=1)
        self._asked = stop.mean(axis=1)
        self._gained = gained[stop].mean(axis=1)

    def best(
        self,
        opening: float,
        service: float = 0.0,
        cost: Callable[[FloatArray], FloatArray] = np.asarray,
    ) -> float:
        """Least cost per useful query over all ways to stop.

        Parameters
        ----------
        opening : float
            Work of a new account.
        service : float
            Cost of the bare call, where it is counted.
        cost : callable
            What it costs to pay prices, elementwise; by default the prices themselves.
        """
        accounts = len(self._price)
        costs = cost(self._price).cumsum(axis=1)
        paid = np.concatenate([np.zeros((accounts, 1)), costs], axis=1)
        paid = paid[np.arange(accounts), self._stop].mean(axis=1)
        gains = self._gained > 0
        spent = opening * self._opened + paid + service * self._asked
        return float((spent[gains] / self._gained[gains]).min())


def split(evidence: FloatArray, seed: int) -> Abandoned:
    """Every query useful, spread over any number of accounts."""
    return Abandoned(_accounts(evidence, 50, 1000, seed), np.ones(1000, dtype=bool))


def diluted(evidence: FloatArray, ordinary: float, seed: int) -> list[Abandoned]:
    """Spread useful queries evenly among ones of evidence `ordinary`: one item per dilution.

    What account evidence would say of such a mixture is not known: it is counted as seeing nothing.
    """
    dilutions, queries = [], of_queries(evidence)
    for period in DILUTIONS:
        useful = np.arange(10_000) % period == period - 1
        mixed = np.where(useful, _accounts(queries, 5, 10_000, seed), ordinary)
        if evidence.ndim == 2:
            mixed = np.stack([mixed, np.ones_like(mixed)], axis=-1)
        dilutions.append(Abandoned(mixed, useful))
    return dilutions


def single(tariff: EvidenceTariff, evidence: FloatArray, seed: int) -> float:
    """Work per query of one account with 10 000 queries, clamped as `tariff` does."""
    work, _ = tariff.work(_accounts(evidence, 1, 10_000, seed)[0])
    return float(work.mean() / tariff.base_work)


def _accounts(evidence: FloatArray, accounts: int, queries: int, seed: int) -> FloatArray:
    if evidence.ndim == 2:  # account evidence follows from what was asked before
        return resized(evidence, queries)[None]
    return np.random.default_rng(seed).choice(evidence, size=(accounts, queries))
