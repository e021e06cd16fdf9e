"""The bound against what it bounds: 60 digits, closed forms, quadrature."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from scipy import integrate, special, stats

from powfast.leakage import Accountant, from_votes, gnmax
from powfast.leakage.votes import rdp

ENGINES = ("numba", "numpy")


@pytest.mark.parametrize("engine", ENGINES)
def test_theorem_6_in_60_digits(engine):
    """1600 random cases, half of them where the theorem applies."""
    rng = np.random.default_rng(2018)
    applied = 0
    for _ in range(400):
        sigma = float(np.exp(rng.uniform(np.log(0.5), np.log(200))))
        log_q = -float(np.exp(rng.uniform(np.log(0.01), np.log(400))))
        orders = np.sort(1.0 + np.exp(rng.uniform(np.log(1e-3), np.log(300), 4)))
        values = rdp(np.array([log_q]), sigma, orders, engine=engine)[0]
        for order, value in zip(orders, values, strict=True):
            exact = naive.rdp(log_q, sigma, order)
            assert value == pytest.approx(float(exact), rel=1e-12, abs=1e-300), (log_q, sigma)
            applied += exact < order / sigma**2
    assert applied > 400


def divergence(p, r, order):
    """Renyi divergence of two distributions on the same classes, from log probabilities."""
    return special.logsumexp(order * p + (1 - order) * r, axis=-1) / (order - 1)


def test_two_classes_exactly():
    """2100 cases: with two classes the answer is a coin, and its divergence has a closed form."""
    checked = 0
    for teachers, sigma in ((50, 2.0), (250, 10.0), (30, 5.0), (100, 1.0), (20, 0.5), (40, 20.0)):
        gaps = np.unique(np.linspace(0, teachers // 2, 70).astype(int)) * 2
        votes = np.stack([(teachers + gaps) // 2, (teachers - gaps) // 2], axis=1)
        orders = np.array([1.1, 1.5, 2.0, 4.0, 8.0, 32.0, 100.0])
        bound = rdp(from_votes(votes, sigma), sigma, orders)
        for i, gap in enumerate(gaps):
            here = coin(gap / (math.sqrt(2) * sigma))
            for neighbour in (gap - 2, gap + 2):  # one teacher changes sides
                there = coin(neighbour / (math.sqrt(2) * sigma))
                for k, order in enumerate(orders):
                    assert divergence(here, there, order) <= bound[i, k] * (1 + 1e-9) + 1e-290
                    checked += 1
    assert checked >= 2000


def coin(z):
    return np.array([stats.norm.logcdf(z), stats.norm.logsf(z)])


def winners(votes, sigma):
    """Log probability (m, C) that each class's noisy count is the largest, votes (m, C)."""
    # equal steps: on Gaussians times smooth factors they converge like exp(-1 / step^2)
    x = np.arange(votes.min() - 12 * sigma, votes.max() + 12 * sigma, sigma / 2)
    z = (x[:, None] - votes[:, None, :]) / sigma  # (m, nodes, C)
    log_cdf = special.log_ndtr(z)
    log_pdf = -0.5 * z**2 - math.log(sigma * math.sqrt(2 * math.pi))
    log_terms = log_cdf.sum(axis=2, keepdims=True) - log_cdf + log_pdf
    return np.log(np.exp(log_terms).sum(axis=1) * (sigma / 2))


def neighbours(votes):
    """Every vote vector that differs by one teacher's vote."""
    classes = len(votes)
    steps = np.eye(classes, dtype=int)
    moved = [
        votes - steps[a] + steps[b] for a in np.flatnonzero(votes) for b in range(classes) if a != b
    ]
    return np.stack(moved)


def test_many_classes_by_quadrature():
    """520 vote vectors, every neighbour: neither q nor the divergence exceeds its bound."""
    rng = np.random.default_rng(6)
    orders = np.array([1.2, 2.0, 5.0, 20.0])
    close = 0
    for _ in range(520):
        classes = int(rng.integers(3, 6))
        teachers = int(rng.integers(10, 60))
        sigma = float(rng.uniform(1.0, 8.0))
        votes = rng.multinomial(teachers, rng.dirichlet(np.full(classes, 0.5)))
        log_q = from_votes(votes[None], sigma)
        here = winners(votes[None], sigma)
        assert special.logsumexp(here) == pytest.approx(0.0, abs=1e-9)
        assert special.logsumexp(np.delete(here, votes.argmax())) <= log_q[0] + 1e-9
        bound = rdp(log_q, sigma, orders)[0]
        there = winners(neighbours(votes), sigma)
        largest = np.array([max(divergence(here, there, order)) for order in orders])
        assert (largest <= bound * (1 + 1e-6) + 1e-12).all(), (votes, sigma)
        close += largest[1] > 0.1 * bound[1]
    assert close > 50, "and the bound is of the right size"


def test_quadrature_by_another_one():
    votes, sigma = np.array([9, 6, 2]), 3.0
    for j in range(3):
        others = np.delete(votes, j)
        value, _ = integrate.quad(
            lambda x, j=j, others=others: (
                stats.norm.pdf(x, votes[j], sigma) * stats.norm.cdf(x, others, sigma).prod()
            ),
            -30,
            50,
        )
        assert winners(votes[None], sigma)[0, j] == pytest.approx(math.log(value), rel=1e-9)


def test_rdp_is_monotone_and_bounded():
    """In q it never falls, in sigma never rises, and never exceeds order / sigma^2."""
    orders = gnmax.ORDERS
    log_q = -np.geomspace(300, 1e-4, 20_000)
    for sigma in (0.3, 1.0, 2.0, 10.0, 80.0):
        values = rdp(log_q, sigma, orders)
        assert (np.diff(values, axis=0) >= -1e-13 * values[1:]).all()
        assert (values <= orders / sigma**2 * (1 + 1e-15)).all()
    sigmas = np.geomspace(0.2, 100, 300)
    for lq in (-0.5, -3.0, -20.0, -150.0):
        values = np.stack([rdp(np.array([lq]), s, orders)[0] for s in sigmas])
        assert (np.diff(values, axis=0) <= 1e-13 * values[:-1]).all()


@pytest.mark.parametrize(
    "engine, sigma",
    [("numba", 0.5), ("numba", 2.0), ("numba", 10.0), ("numba", 60.0), ("numpy", 2.0)],
)
@pytest.mark.parametrize("metric", ["rdp", "iclr2022", "eps"])
def test_tables_bound_from_above_within_a_thousandth(engine, sigma, metric):
    rng = np.random.default_rng(12)
    parts = [rng.multinomial(250, rng.dirichlet(np.full(10, a)), size=800) for a in (0.02, 0.3, 3)]
    votes = np.concatenate([*parts, [[125, 125] + [0] * 8, [25] * 10, [250] + [0] * 9]])
    table = from_votes(votes, sigma, metric, exact=False, engine=engine)
    exact = from_votes(votes, sigma, metric, engine=engine)
    assert (table >= exact).all()
    assert (table <= exact * 1.001).all()


def test_pknn_without_the_bound_is_not_monotone():
    """Why the paper's pkNN metric is for reproduction only: more agreement may score higher."""
    split = [[10, 5, 5, 5, 5, 4, 4, 4, 4, 4]] * 1000
    level = [[5] * 10] * 1000
    for metric, falls in (("iclr2022", False), ("iclr2022-pknn", True)):
        more, less = (Accountant(2.0, metric).add(v).epsilon() for v in (split, level))
        assert (more > less) == falls, metric


def test_accountants_add_and_merge():
    rng = np.random.default_rng(3)
    votes = rng.multinomial(50, [0.8, 0.1, 0.1], size=90)
    one = Accountant(2.0).add(votes)
    two = Accountant(2.0).add(votes[:40]).merge(Accountant(2.0).add(votes[40:]))
    np.testing.assert_allclose(one.total, two.total, rtol=1e-12)
    assert one.queries == two.queries == 90
    by_hand = [
        float(sum(naive.rdp(float(naive.log_q(v, 2.0)), 2.0, order) for v in votes[:5]))
        for order in gnmax.ORDERS[:12]
    ]
    np.testing.assert_allclose(Accountant(2.0).add(votes[:5]).total[:12], by_hand, rtol=1e-10)
    assert one.epsilon(1e-5) < from_votes(votes, 2.0, "eps").sum()
    assert Accountant(2.0).epsilon() == 0.0 or Accountant(2.0).epsilon() < 0.1


def test_confident_gnmax_by_simulation_and_by_hand():
    """Answer rate by drawing noise; cost as the check's plus the answer's times that rate."""
    votes = np.array([[48, 1, 1], [30, 15, 5], [20, 15, 15], [0, 50, 0]])
    orders = np.array([2.0, 8.0])
    answered, cost = gnmax.confident_rdp(votes, 35.0, 8.0, 2.0, orders)
    noise = np.random.default_rng(0).normal(scale=8.0, size=200_000)
    for row, rate in zip(votes, answered, strict=True):
        assert (row.max() + noise >= 35.0).mean() == pytest.approx(rate, abs=0.005)
    for i, row in enumerate(votes):
        z = abs(35.0 - row.max()) / 8.0
        rarer = min(float(stats.norm.logsf(z)), math.log(0.5))
        for k, order in enumerate(orders):
            check = float(naive.rdp(rarer, math.sqrt(2) * 8.0, order))
            answer = float(naive.rdp(float(naive.log_q(row, 2.0)), 2.0, order))
            assert cost[i, k] == pytest.approx(check + answered[i] * answer, rel=1e-9)
