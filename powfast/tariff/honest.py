"""Honest accounts as calibration counts them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from powfast.errors import InvalidInput
from powfast.tariff.checks import FloatArray, alike, nonnegative_columns
from powfast.tariff.evidence import EvidenceTariff

# The overhead is that of a whole account of at least so many queries.
ACCOUNT_QUERIES = 1000
SHORTEST = 50

_NEWCOMER_QUERIES, _POOL_QUERIES = 30, 100_000

LENGTHS = (1, 3, 10, 30, 100, 300, 1000, 4000)
"""Queries of accounts whose overhead is reported, and kept within the bound, from the first on."""


def usable(accounts: list[FloatArray], least: int) -> list[FloatArray]:
    """Accounts that are long enough to be counted; at least `least` of them."""
    long_enough = [trace for trace in accounts if len(trace) >= SHORTEST]
    if len(long_enough) < least:
        raise InvalidInput(
            f"honest accounts of {SHORTEST} queries and more: at least {least} are needed, "
            f"got {len(long_enough)}"
        )
    return long_enough


def read(accounts: Iterable[npt.ArrayLike]) -> list[FloatArray]:
    """One validated array per account."""
    return alike([nonnegative_columns(trace, "honest evidence") for trace in accounts])


def extended(trace: FloatArray, rng: np.random.Generator) -> FloatArray:
    """`trace`, continued to a whole account by draws from itself where it is shorter."""
    missing = ACCOUNT_QUERIES - len(trace)
    return np.concatenate([trace, rng.choice(trace, missing)]) if missing > 0 else trace


def resized(trace: FloatArray, queries: int) -> FloatArray:
    """`trace` from its beginning, and again where it is over."""
    repeated: FloatArray = np.resize(trace, (queries, *trace.shape[1:]))
    return repeated


def of_queries(trace: FloatArray) -> FloatArray:
    """Evidence of the queries themselves, (n,), without that of the account."""
    evidence: FloatArray = trace if trace.ndim == 1 else trace[:, 0]
    return evidence


class Running:
    """Running means of the accounts' prices, for any opening.

    Parameters
    ----------
    accounts : list of (n_i,) or (n_i, 2) float64
        Each of at least `least` queries.
    least : int
        Queries from which on an account counts.
    """

    def __init__(self, accounts: list[FloatArray], least: int = ACCOUNT_QUERIES) -> None:
        tariff = EvidenceTariff(1.0, max_work=2.0**63, account_evidence=True)
        self._totals = [tariff.work(trace)[0].cumsum()[least - 1 :] for trace in accounts]
        self._counts = [np.arange(least, len(trace) + 1) for trace in accounts]

    def highest(self, opening: float) -> FloatArray:
        """Work per query in base prices, opening included, when it is highest for the account."""
        pairs = zip(self._totals, self._counts, strict=True)
        return np.array([((opening + total) / count).max() for total, count in pairs])


def first(accounts: list[FloatArray], queries: int, opening: float = 0.0) -> FloatArray:
    """Work per query in base prices of the accounts' first ones; with an opening, on a hot pool."""
    tariff = EvidenceTariff(1.0, max_work=2.0**63, account_evidence=True)
    prices = [tariff.work(resized(trace, queries))[0] for trace in accounts]
    surcharges = [min(opening, np.maximum(0.0, opening - price).sum()) for price in prices]
    totals: FloatArray = np.array([price.sum() for price in prices]) + surcharges
    return totals / queries


def newcomers_mean(accounts: list[FloatArray]) -> float:
    """Return the mean evidence that nineteen in twenty accounts keep below.

    Newcomers may all be like the twentieth. At most 1, which evidence promises by itself.
    """
    means = [float(of_queries(trace).mean()) for trace in accounts]
    return float(np.clip(np.quantile(means, 0.95, method="higher"), 0.001, 1.0))


def hottest(tariff: EvidenceTariff, accounts: list[FloatArray], rng: np.random.Generator) -> float:
    """Return the highest price, in base prices, of a pool whose newcomers are these accounts.

    Each asks its first 30 queries, one account after the other in random order, over and over.
    """
    firsts = [of_queries(trace)[:_NEWCOMER_QUERIES] for trace in accounts]
    rounds = math.ceil(_POOL_QUERIES / sum(map(len, firsts)))
    order = np.concatenate([rng.permutation(len(firsts)) for _ in range(rounds)])
    heat, _ = tariff.newcomers(np.concatenate([firsts[i] for i in order])[:_POOL_QUERIES])
    return max(1.0, min(float(heat.max()), tariff.opening_work / tariff.base_work))


def mean_logs(accounts: list[FloatArray]) -> list[float]:
    """One number per account that moves when its queries look more, or less, usual."""
    queries = map(of_queries, accounts)
    return [float(np.log(np.clip(trace, 1e-6, 1e6)).mean()) for trace in queries]
