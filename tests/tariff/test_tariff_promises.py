"""Ville's promise and the expected price, by simulation of 10 000 accounts of 1000 queries."""

from __future__ import annotations

import numpy as np
import pytest

from powfast.tariff import EvidenceTariff, simulate

ACCOUNTS, QUERIES = 10_000, 1000
KAPPAS = (0.05, 0.1, 0.2, 0.5)


def calibrator(p: np.ndarray) -> np.ndarray:
    return sum(kappa * p ** (kappa - 1) for kappa in KAPPAS) / len(KAPPAS)


def independent(rng: np.random.Generator) -> np.ndarray:
    """Three scores that know nothing of each other."""
    return sum(calibrator(1 - rng.random((ACCOUNTS, QUERIES))) for _ in range(3)) / 3


def one_score(rng: np.random.Generator) -> np.ndarray:
    """The scores say the same: the heaviest tail."""
    return calibrator(1 - rng.random((ACCOUNTS, QUERIES)))


def opposed(rng: np.random.Generator) -> np.ndarray:
    """Two scores that contradict each other."""
    p = rng.uniform(1e-16, 1 - 1e-16, (ACCOUNTS, QUERIES))
    return (calibrator(p) + calibrator(1 - p)) / 2


def adversarial(rng: np.random.Generator) -> np.ndarray:
    """Who picks the next stratum from its wealth so far: tiny, tied and large references.

    The p-values come from the conformal formula itself. With ties between reference and query
    and a smoothing U they are uniform whatever stratum is picked, and nothing else is assumed.
    """
    evidence = np.empty((ACCOUNTS, QUERIES))
    wealth = np.zeros(ACCOUNTS)
    for n in range(1, QUERIES + 1):
        size = np.where(wealth > 1.5, 1, np.where(wealth > 0.8, 4, 0))
        levels = np.where(wealth > 1.2, 2, 1000)  # few levels: nearly everything is tied
        scores = rng.integers(0, levels[:, None], (ACCOUNTS, 5))
        reference, query = scores[:, :4], scores[:, 4:]
        counted = np.arange(4) < size[:, None]
        above = (counted & (reference > query)).sum(axis=1)
        tied = (counted & (reference == query)).sum(axis=1)
        p = (above + (1 - rng.random(ACCOUNTS)) * (tied + 1)) / (size + 1)
        evidence[:, n - 1] = calibrator(p)
        wealth = (wealth + 1 / (n * (n + 1))) * (1 + 0.3 * (evidence[:, n - 1] - 1))
    return evidence


@pytest.fixture(scope="module", params=[independent, one_score, opposed, adversarial])
def prices(request: pytest.FixtureRequest) -> np.ndarray:
    """(accounts, queries) prices in base prices."""
    seed = 20260101
    print(f"seed {seed}")
    evidence = request.param(np.random.default_rng(seed))
    return np.stack(simulate(EvidenceTariff(1.0, max_work=2.0**63), evidence).work)


@pytest.mark.parametrize("c", [2, 5, 10, 100])
def test_a_price_above_c_is_as_rare_as_promised(prices: np.ndarray, c: int) -> None:
    share = (prices.max(axis=1) > c).mean()
    assert share <= 1 / c + 3 * np.sqrt(share * (1 - share) / ACCOUNTS)


def test_the_mean_price_is_at_most_two(prices: np.ndarray) -> None:
    error = prices.std(axis=0) / np.sqrt(ACCOUNTS)
    assert (prices.mean(axis=0) <= 2 + 3 * error).all()


@pytest.mark.parametrize("c", [2, 5, 100])
def test_stopping_at_will_does_not_raise_the_mean_price(prices: np.ndarray, c: int) -> None:
    stop = np.where((prices > c).any(axis=1), (prices > c).argmax(axis=1), QUERIES - 1)
    price = prices[np.arange(ACCOUNTS), stop]
    assert price.mean() <= 2 + 3 * price.std() / np.sqrt(ACCOUNTS)


def waiting(rng: np.random.Generator, tariff: EvidenceTariff) -> np.ndarray:
    """Prices of accounts that wait as long as they please, knowing all that they have paid."""
    prices = np.empty((400, 150))
    for account in prices:
        state = None
        for n in range(150):
            if state is not None:
                richest = state[1:].max()
                wait = 600.0 if richest < 0.2 else (0.0 if richest > 2 else 60.0 * rng.random())
                state = tariff.decayed(state, wait)
            (account[n],), state = tariff.work([calibrator(1 - rng.random())], state)
    return prices


def test_a_half_life_keeps_both_promises() -> None:
    prices = waiting(np.random.default_rng(3), EvidenceTariff(1.0, half_life=300.0))
    for c in (2, 5, 10):
        share = (prices.max(axis=1) > c).mean()
        assert share <= 1 / c + 3 * np.sqrt(share * (1 - share) / len(prices))
    error = prices.std(axis=0) / np.sqrt(len(prices))
    assert (prices.mean(axis=0) <= 2 + 3 * error).all()
