"""What a stream of new accounts pays while somebody extracts with fresh accounts among them.

Honest newcomers and an extractor's share one e-process. The extractor may leave an account after
any number of queries, pay the opening and leave the pool, hide its queries among ordinary ones,
send only those that look most ordinary to it, and come as slowly as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from benchmarks.extraction.data import Floats
from powfast.tariff import LAMBDAS

SHARES = (0.005, 0.02, 0.1, 0.5)
"""Parts of the newcomers' queries that are the extractor's."""

ACCOUNTS = (1, 10, 100, 1000)
"""Queries after which the extractor leaves an account."""

ALARM = 100.0
"""Base prices at which the pool is said to have noticed."""

DEAR = 50.0
"""Base prices from which on work may be asked for in walks (docs/fairness.md)."""

HONEST_QUERIES = 30
"""Queries of an honest newcomer in the stream."""

_DECAY = 2.0 ** (-1.0 / 5000.0)
_RESTART = 1.0 - _DECAY  # d / N
_CAP = 2.0**100  # of wealth, and of a price: those of the tariff
_HIGHEST = 2.0**63
_HIDING = (3, 10, 30)  # one query in so many is wanted, where it hides
_LAMBDAS = np.array(LAMBDAS)


@dataclass(frozen=True)
class Stream:
    """What came of one stream, in base prices.

    Attributes
    ----------
    asked : queries of the extractor for each one it wanted
    paid : what it paid for each query it wanted
    dear : what of that were prices of `DEAR` and more
    noticed : its queries before newcomers first paid `ALARM` base prices; infinite for never
    honest : (m,) mean price of each honest newcomer's queries
    """

    asked: float
    paid: float
    dear: float
    noticed: float
    honest: Floats


def stream(
    honest: Floats,
    sent: Floats,
    period: int,
    share: float,
    leave_after: int,
    opening: float,
    honest_mean: float,
    wanted: int,
    seed: int = 0,
) -> Stream:
    """Simulate a stream until the extractor has what it wants.

    Parameters
    ----------
    honest : (n,) evidence of honest queries
    sent : (m,) evidence of the extractor's queries, sent in order and over again
    period : one in so many of them is wanted
    share : part of the stream that is the extractor's
    leave_after : queries of each of its accounts
    opening : base prices after which an account has left the pool
    honest_mean : the tariff's
    wanted : queries it wants answered
    """
    rng = np.random.default_rng(seed)
    asked = wanted * period
    gaps = rng.geometric(share, asked) - 1
    drawn = rng.choice(honest, int(gaps.sum()))
    paid, dear, noticed, prices = _simulated(drawn, sent, gaps, leave_after, opening, honest_mean)
    accounts = len(prices) // HONEST_QUERIES
    of_accounts = prices[: accounts * HONEST_QUERIES].reshape(accounts, HONEST_QUERIES)
    first = float(noticed) if noticed >= 0 else np.inf
    return Stream(float(period), paid / wanted, dear / wanted, first, of_accounts.mean(axis=1))


@dataclass(frozen=True)
class Newcomers:
    """What an extractor can do among newcomers, simulated once for all hash rates.

    Parameters
    ----------
    honest : (n,) evidence of honest queries
    wanted : (m,) evidence of the queries that the extractor wants answered
    ordinary : evidence of the most ordinary queries
    opening : base prices
    honest_mean : the tariff's
    queries : how many it asks
    """

    honest: Floats
    wanted: Floats
    ordinary: float
    opening: float
    honest_mean: float
    queries: int

    def streams(self, share: float) -> list[Stream]:
        """Return what came of every way to ask at one share of the stream."""
        filtered = self.wanted[self.wanted <= np.median(self.wanted)]
        ways = [(self.wanted, 1), (filtered, 1), *((self._hidden(k), k) for k in _HIDING)]
        return [
            stream(
                self.honest,
                sent,
                period,
                share,
                leave,
                self.opening,
                self.honest_mean,
                max(1, self.queries // period),
            )
            for sent, period in ways
            for leave in ACCOUNTS
        ]

    def _hidden(self, period: int) -> Floats:
        among = np.full((len(self.wanted), period), self.ordinary)
        among[:, -1] = self.wanted
        return among.ravel()


@njit(cache=True)
def _bet(wealth, evidence, most):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(_LAMBDAS)):
        wealth[i] = min(wealth[i] * (1.0 + _LAMBDAS[i] * (evidence - 1.0)), most)
        total += wealth[i]
    return total / len(_LAMBDAS)


@njit(cache=True)
def _simulated(drawn, sent, gaps, leave_after, opening, mean):  # type: ignore[no-untyped-def]
    """Return what it paid, in all and in dear prices, when it was noticed or -1, honest prices."""
    pool = np.zeros(len(_LAMBDAS))
    wealth = np.zeros((2, len(_LAMBDAS)))  # of the honest account and the extractor's
    queries, surcharges = np.zeros(2), np.zeros(2)
    lengths = (HONEST_QUERIES, leave_after)
    prices = np.empty(len(drawn))
    paid, dear, noticed, honest = 0.0, 0.0, -1, 0
    for turn in range(len(gaps)):
        for step in range(gaps[turn] + 1):
            who = 1 if step == gaps[turn] else 0
            evidence = sent[turn % len(sent)] if who else drawn[honest]
            if queries[who] == lengths[who]:
                wealth[who] = 0.0
                queries[who] = surcharges[who] = 0.0
            n = queries[who] + 1.0
            queries[who] = n
            wealth[who] += 1.0 / (n * (n + 1.0))
            price = min(max(1.0, _bet(wealth[who], evidence, _CAP)), _HIGHEST)
            if surcharges[who] < opening:
                pool[:] = _DECAY * pool + _RESTART
                surplus = min(_bet(pool, evidence / mean, len(pool) * opening), opening) - price
                surplus = min(max(surplus, 0.0), opening - surcharges[who])
                surcharges[who] += surplus
                price += surplus
                if noticed < 0 and min(pool.mean(), opening) >= min(ALARM, opening):
                    noticed = turn
            if who:
                paid += price
                dear += price if price >= DEAR else 0.0
            else:
                prices[honest] = price
                honest += 1
    return paid, dear, noticed, prices
