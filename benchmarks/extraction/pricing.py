"""What queries cost an extractor that does its best, in times of the undefended call.

Prices come from the evidence of the queries, through the calibrated tariff, as the ledger charges
them (`tests/lab` holds the two equal). Work becomes time by the measured hash rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.extraction.data import Floats
from benchmarks.extraction.newcomers import DEAR, Stream
from benchmarks.extraction.service import Times
from powfast.tariff import EvidenceTariff
from powfast.tariff.attacks import DILUTIONS, Abandoned

HASH_RATES = (1, 10, 100, 1000)
WALK_RATES = (2, 4, 8, 16)
STRATEGIES = ("one account", "best split", "best dilution")


@dataclass(frozen=True)
class Solver:
    """An extractor's machines, in times the client's.

    Attributes
    ----------
    hashes : its hash rate
    walks : its rate of walks, where prices of `DEAR` and more are asked for in them
    """

    hashes: float = 1.0
    walks: float | None = None

    @property
    def dear(self) -> float:
        """How much faster it pays a dear price, such as an opening."""
        return self.hashes if self.walks is None else self.walks

    def times(self, prices: Floats) -> Floats:
        """What prices take, in the client's times of a base price."""
        return prices / np.where(prices >= DEAR, self.dear, self.hashes)


CLIENT = Solver()


@dataclass(frozen=True)
class Prices:
    """A tariff and the times that make its work comparable.

    Attributes
    ----------
    tariff : EvidenceTariff
    times : Times
    """

    tariff: EvidenceTariff
    times: Times

    @property
    def base_price(self) -> float:
        """Solving time of one base price in service times."""
        return self.tariff.base_work / (self.times.service * self.times.hash_rate)

    @property
    def opening(self) -> float:
        """What a new account pays, in base prices."""
        return self.tariff.opening_work / self.tariff.base_work

    def account(self, evidence: Floats, solver: Solver = CLIENT) -> Floats:
        """Service times that one account has spent after each of its queries, (n,).

        Nobody else is dear among the newcomers, so that it pays its own price.
        """
        work, _ = replace(self.tariff, opening_work=0.0).work(evidence)
        asked = np.arange(1, len(work) + 1)
        owed = solver.times(work / self.tariff.base_work).cumsum()
        return np.asarray((1.0 + self.times.handling) * asked + owed * self.base_price)

    def strategies(
        self, evidence: Floats, ways: Ways, streams: Sequence[Stream], solver: Solver = CLIENT
    ) -> dict[str, float]:
        """Service times per useful query, when all n are wanted, by each strategy.

        Accounts are new, or have paid the opening, whichever is cheaper.
        """
        alone = float(self.account(evidence, solver)[-1] / len(evidence))
        whole = [self.streamed(stream, solver) for stream in streams if stream.asked == 1.0]
        hidden = [self.streamed(stream, solver) for stream in streams if stream.asked > 1.0]
        split = min(alone, self._best([ways.split], solver), *whole)
        diluted = min(split, self._best(ways.dilutions, solver), *hidden)
        return dict(zip(STRATEGIES, (alone, split, diluted), strict=True))

    def streamed(self, stream: Stream, solver: Solver = CLIENT) -> float:
        """Service times per useful query of an extractor among newcomers."""
        owed = (stream.paid - stream.dear) / solver.hashes + stream.dear / solver.dear
        return stream.asked * (1.0 + self.times.handling) + owed * self.base_price

    def _best(self, ways: list[Abandoned], solver: Solver) -> float:
        opening = float(solver.times(np.array(self.opening)))
        calls = (1.0 + self.times.handling) / self.base_price
        return self.base_price * min(way.best(opening, calls, solver.times) for way in ways)


class Ways:
    """Every way to spread n wanted queries over accounts, simulated once for all rates and prices.

    Splitting, an account is left after any number of queries, or before any price. Diluting,
    useful queries are spread evenly at any rate among the most ordinary ones, in accounts of
    10 000 at most, which are split as well. The extractor is granted the best choice; no account
    serves it for more than it wants.

    Parameters
    ----------
    evidence : (n,) of the queries that are wanted
    ordinary : evidence of the most ordinary queries
    """

    def __init__(self, evidence: Floats, ordinary: float, seed: int = 0) -> None:
        self._draw = np.random.default_rng(seed)
        self._evidence, self._ordinary = evidence, ordinary
        self.split = self._spread(1, accounts=50, longest=1000)
        self.dilutions = [self._spread(period, 5, 10_000) for period in DILUTIONS]

    def _spread(self, period: int, accounts: int, longest: int) -> Abandoned:
        """One query in `period` is useful, the others are ordinary."""
        queries = min(longest, period * len(self._evidence))
        useful = np.arange(queries) % period == period - 1
        drawn = self._draw.choice(self._evidence, (accounts, queries))
        return Abandoned(np.where(useful, drawn, self._ordinary), useful)


def reached(checkpoints: Sequence[int], accuracy: list[float], wanted: float) -> float | None:
    """Queries after which a copy is this accurate: interpolated in their logarithm, or None."""
    for i, value in enumerate(accuracy):
        if value < wanted:
            continue
        if i == 0:
            return float(checkpoints[0])
        share = (wanted - accuracy[i - 1]) / (value - accuracy[i - 1])
        low, high = np.log(checkpoints[i - 1 : i + 1])
        return float(np.exp(low + share * (high - low)))
    return None
