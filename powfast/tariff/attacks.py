"""What an extractor pays who splits, stops and dilutes as well as it can, in base prices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from powfast.tariff.evidence import EvidenceTariff
from powfast.tariff.recursion import FloatArray

# One query in so many is useful to the extractor, the others are as ordinary as can be.
_DILUTIONS = (2, 3, 5, 10, 20, 50, 100, 200, 500)
_STOP_ABOVE = np.concatenate([2.0 ** np.arange(0.5, 40, 0.5), [np.inf]])

_BASE = EvidenceTariff(base_work=1.0, max_work=2.0**63)


class SplitPrices:
    """Simulated accounts of one extractor, for its price at any opening.

    Parameters
    ----------
    evidence : (r, n) float64
        Evidence of r accounts' queries, in order.
    useful : (n,) bool
        Which of them the extractor wants answered.
    """

    def __init__(self, evidence: FloatArray, useful: npt.NDArray[np.bool_]) -> None:
        price = np.stack([_BASE.work(row)[0] for row in evidence])
        accounts, queries = price.shape
        paid = np.concatenate([np.zeros((accounts, 1)), price.cumsum(axis=1)], axis=1)
        gained = np.concatenate([[0], useful.cumsum()])
        # Leave before paying a price above some limit, or after a fixed number of queries.
        over = np.maximum.accumulate(price, axis=1)[:, :, None] > _STOP_ABOVE[:-1]
        stop = np.concatenate(
            [
                np.where(over.any(axis=1), over.argmax(axis=1), queries).T,
                np.repeat(np.arange(1, queries + 1)[:, None], accounts, axis=1),
            ]
        )
        self._paid = paid[np.arange(accounts), stop].mean(axis=1)
        self._opened = (stop > 0).mean(axis=1)
        self._gained = gained[stop].mean(axis=1)

    def best(self, opening: float) -> float:
        """Least work per useful query over all ways to stop, where accounts open at `opening`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            price = (opening * self._opened + self._paid) / self._gained
        return float(price[self._gained > 0].min())


def split(evidence: FloatArray, rng: np.random.Generator) -> SplitPrices:
    """Every query useful, spread over any number of accounts."""
    return SplitPrices(_accounts(evidence, 50, 1000, rng), np.ones(1000, dtype=bool))


def best_dilution(
    evidence: FloatArray, ordinary: float, opening: float, rng: np.random.Generator
) -> float:
    """Least work per useful query, diluted among queries of evidence `ordinary`, and split."""
    prices = [split(evidence, rng).best(opening)]
    for period in _DILUTIONS:
        useful = np.arange(4000) % period == period - 1
        diluted = np.where(useful, _accounts(evidence, 20, 4000, rng), ordinary)
        prices.append(SplitPrices(diluted, useful).best(opening))
    return min(prices)


def single(tariff: EvidenceTariff, evidence: FloatArray, rng: np.random.Generator) -> float:
    """Work per query of one account with 10 000 queries, clamped as `tariff` does."""
    work, _ = tariff.work(_accounts(evidence, 1, 10_000, rng)[0])
    return float(work.mean() / tariff.base_work)


def _accounts(
    evidence: FloatArray, accounts: int, queries: int, rng: np.random.Generator
) -> FloatArray:
    return rng.choice(evidence, size=(accounts, queries))
