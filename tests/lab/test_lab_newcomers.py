"""The stream of newcomers against one that is followed account by account."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.extraction.newcomers import HONEST_QUERIES, Newcomers, stream
from powfast.tariff import LAMBDAS, EvidenceTariff

BASE = EvidenceTariff(base_work=1.0, max_work=2.0**63)


class Pool:
    """The e-process of all newcomers, as docs/tariff.md defines it."""

    def __init__(self, opening: float, mean: float) -> None:
        self.wealth, self.most, self.mean = [0.0] * len(LAMBDAS), len(LAMBDAS) * opening, mean

    def after(self, evidence: float) -> float:
        decay = 2.0 ** (-1 / 5000)
        restart = 1 / (decay / (1 - decay))
        self.wealth = [
            min(decay * (wealth + restart) * (1 + bet * (evidence / self.mean - 1)), self.most)
            for wealth, bet in zip(self.wealth, LAMBDAS, strict=True)
        ]
        return sum(self.wealth) / len(self.wealth)


def followed(
    order: list[tuple[bool, float]], lengths: tuple[int, int], opening: float, mean: float
) -> tuple[float, list[float]]:
    """Return what the extractor pays and what honest queries pay."""
    pool, paid, honest = Pool(opening, mean), 0.0, []
    asked: dict[bool, list[float]] = {True: [], False: []}
    left = {True: opening, False: opening}
    for is_extractor, evidence in order:
        if len(asked[is_extractor]) == lengths[is_extractor]:
            asked[is_extractor], left[is_extractor] = [], opening
        asked[is_extractor].append(evidence)
        price = float(BASE.work(asked[is_extractor])[0][-1])
        if left[is_extractor] > 0:
            surcharge = max(0.0, min(pool.after(evidence), opening) - price)
            surcharge = min(surcharge, left[is_extractor])
            left[is_extractor] -= surcharge
            price += surcharge
        if is_extractor:
            paid += price
        else:
            honest.append(price)
    return paid, honest


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    opening=st.sampled_from([2.0, 50.0, 700.0]),
    leave_after=st.sampled_from([1, 3, 10]),
    high=st.sampled_from([2.0, 30.0, 1000.0]),
    mean=st.sampled_from([0.4, 1.0]),
)
def test_a_stream_costs_what_its_accounts_pay(
    seed: int, opening: float, leave_after: int, high: float, mean: float
) -> None:
    rng = np.random.default_rng(seed)
    honest, sent = rng.exponential(1.0, 500), rng.exponential(high, 60)
    found = stream(honest, sent, 1, 0.2, leave_after, opening, mean, 60, seed=7)

    rng = np.random.default_rng(7)  # the same draws, in the order of the stream
    gaps = rng.geometric(0.2, 60) - 1
    drawn = iter(rng.choice(honest, int(gaps.sum())))
    order = []
    for gap, evidence in zip(gaps, sent, strict=True):
        order += [(False, float(next(drawn))) for _ in range(gap)] + [(True, float(evidence))]
    paid, prices = followed(order, (HONEST_QUERIES, leave_after), opening, mean)
    assert found.paid == pytest.approx(paid / 60, rel=1e-9)
    whole = len(prices) // HONEST_QUERIES * HONEST_QUERIES
    means = np.reshape(prices[:whole], (-1, HONEST_QUERIES)).mean(axis=1)
    assert found.honest == pytest.approx(means, rel=1e-9)


def test_nobody_pays_more_than_the_opening_above_its_own_price() -> None:
    sent = np.full(500, 1e6)
    found = stream(np.ones(10), sent, 1, 0.5, 1, 50.0, 1.0, 500)
    own = float(BASE.work([1e6])[0][0])
    assert found.noticed < 3
    assert found.paid == pytest.approx(max(own, 50.0), rel=1e-9)


def test_whoever_hides_asks_more() -> None:
    rng = np.random.default_rng(3)
    honest, wanted = rng.exponential(1.0, 500), rng.exponential(20.0, 300)
    newcomers = Newcomers(honest, wanted, 0.3, 100.0, 1.0, 200)
    streams = newcomers.streams(0.1)
    assert {way.asked for way in streams} == {1.0, 3.0, 10.0, 30.0}
    assert all(way.paid >= way.asked for way in streams)
