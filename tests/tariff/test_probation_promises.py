"""What a pool of newcomers promises, by simulation, and what extractors do to one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from powfast.tariff import LAMBDAS, EvidenceTariff

POOLS, QUERIES, SEED = 100, 20_000, 20261128
N = 1 / (2 ** (1 / 5000) - 1)
TARIFF = EvidenceTariff(1.0, 4096.0, max_work=2.0**63)
KAPPAS = (0.05, 0.1, 0.2, 0.5)


def calibrator(p: np.ndarray) -> np.ndarray:
    return np.mean([kappa * p ** (kappa - 1) for kappa in KAPPAS], axis=0)


@pytest.fixture(scope="module")
def honest() -> np.ndarray:
    """(pools, queries) evidence of one score: the heaviest tail."""
    print(f"seed {SEED}")
    return calibrator(1 - np.random.default_rng(SEED).random((POOLS, QUERIES)))


@pytest.fixture(scope="module", params=[1.0, 0.25])
def heat(request: pytest.FixtureRequest, honest: np.ndarray) -> np.ndarray:
    """Of pools whose evidence averages the tariff's honest mean."""
    mean: float = request.param
    tariff = replace(TARIFF, honest_mean=mean)
    return np.stack([tariff.newcomers(mean * pool)[0] for pool in honest])


@pytest.mark.parametrize("mean", [1.0, 0.4])
def test_the_recursion_in_plain_python(mean: float) -> None:
    evidence, d = [1.0, 0.3, 50.0, 9.0, 0.0], 2 ** (-1 / 5000)
    tariff = replace(TARIFF, honest_mean=mean)
    heat, wealths = [], [0.0] * len(LAMBDAS)
    for e in evidence:
        wealths = [
            d * (r + (1 - d) / d) * (1 + bet * (e / mean - 1))
            for r, bet in zip(wealths, LAMBDAS, strict=True)
        ]
        heat.append(sum(wealths) / len(wealths))
    found, state = tariff.newcomers(evidence)
    assert found == pytest.approx(heat)
    assert state == pytest.approx([5, *wealths])
    halves = tariff.newcomers(evidence[2:], tariff.newcomers(evidence[:2])[1])
    assert np.array_equal(halves[1], state)


def test_the_mean_heat_of_an_honest_pool_is_at_most_one(heat: np.ndarray) -> None:
    error = heat.std(axis=0) / np.sqrt(POOLS)
    assert (heat.mean(axis=0) <= 1 + 3 * error).all()


@pytest.mark.parametrize("c", [0.05, 0.1, 0.2, 0.5])
def test_an_honest_pool_takes_c_n_queries_to_reach_c(heat: np.ndarray, c: float) -> None:
    reached = heat >= c
    until = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, QUERIES)
    assert until.mean() >= c * N - 3 * until.std() / np.sqrt(POOLS)


@pytest.mark.parametrize("length", [20, 200])
def test_the_mean_price_of_an_honest_newcomer_is_at_most_three(
    honest: np.ndarray, heat: np.ndarray, length: int
) -> None:
    """One account of so many queries after the other."""
    pools = 10
    own = [TARIFF.work(part)[0] for part in honest[:pools].reshape(-1, length)]
    opening = np.tile([TARIFF.opening_work] + [0.0] * (length - 1), (len(own), 1))
    price = np.maximum((own - opening).reshape(pools, QUERIES), np.minimum(heat[:pools], 4096.0))
    means = price.reshape(-1, length).mean(axis=0)
    assert (means <= 3 + 3 * price.std() / np.sqrt(len(own))).all()


@pytest.mark.parametrize(
    ("evidence", "share", "queries"),
    [(50.0, 1.0, 5), (50.0, 0.1, 10), (24.0, 0.1, 20), (200.0, 0.01, 10)],
)
def test_an_extractor_with_fresh_accounts_heats_its_pool(
    honest: np.ndarray, evidence: float, share: float, queries: int
) -> None:
    """Each of its queries is of an account of its own, among honest ones."""
    rng = np.random.default_rng(SEED)
    its = rng.random(QUERIES) < share
    heat, _ = TARIFF.newcomers(np.where(its, evidence, honest[0]))
    assert its[: (heat >= 100).argmax() + 1].sum() <= queries
    assert heat[QUERIES // 2 :].min() > 100


def test_a_pool_notices_who_hides_among_ordinary_queries(honest: np.ndarray) -> None:
    """Evidence averages 0.3 where queries are honest; one in 500 is an extractor's."""
    evidence = 0.3 * honest[1]
    evidence[::500] = 180.0
    calm, _ = TARIFF.newcomers(evidence)
    assert calm.max() < 10
    heat, _ = replace(TARIFF, honest_mean=0.3).newcomers(evidence)
    assert heat[-1] > 100


def test_ordinary_queries_bank_nothing_for_an_extractor() -> None:
    _, banked = TARIFF.newcomers(np.full(100_000, 0.3))
    for state in (None, banked):
        assert (TARIFF.newcomers(np.full(30, 24.0), state)[0] >= 100).argmax() < 8


def test_a_pool_that_was_hot_cools_down(honest: np.ndarray) -> None:
    _, hot = TARIFF.newcomers(np.full(1000, np.inf))
    assert TARIFF.newcomers_price(hot) == 4096
    heat, _ = TARIFF.newcomers(np.ones(5000 * 15), hot)
    assert heat[5000 * 11] > 2 > heat[-1]
    assert TARIFF.newcomers_price(None) == 1


def test_a_pool_without_an_opening_costs_nothing() -> None:
    heat, state = EvidenceTariff(10.0).newcomers([np.inf, 9.0])
    assert heat.tolist() == [0, 0]
    assert EvidenceTariff(10.0).newcomers_price(state) == 1
