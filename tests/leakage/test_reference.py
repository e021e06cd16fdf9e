"""HonestReference against counting, and the promise that honest evidence averages at most 1."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from scipy import integrate, stats

from powfast.errors import InvalidInput
from powfast.leakage import HonestReference
from powfast.leakage.reference import KAPPAS, p_to_e


@pytest.mark.parametrize("sizes", [(40, 25, 7), (64, 63), (1,), (5, 5, 5)])
def test_p_values_by_counting(sizes):
    rng = np.random.default_rng(3)
    strata = np.repeat(np.arange(len(sizes)) * 7 - 3, sizes)
    scores = rng.integers(0, 6, (len(strata), 3)).astype(float)  # many ties
    reference = HonestReference.fit(scores, strata, minimum=1)
    queries = rng.integers(-1, 8, (50, 3)).astype(float)
    asked = rng.choice(strata, 50)
    for ties in (rng.uniform(size=50), rng.uniform(size=(50, 3))):
        got = reference.p_values(queries, asked, ties)
        for i in range(50):
            own = scores[strata == asked[i]]
            expected = naive.p_values(own, queries[i : i + 1], ties[i : i + 1])
            assert got[i] == pytest.approx(expected[0], rel=1e-14)


def test_calibrator_integrates_to_one():
    total, _ = integrate.quad(lambda x: float(p_to_e(np.exp(-x))) * np.exp(-x), 0, 700)
    assert total == pytest.approx(1.0, abs=1e-6)
    assert p_to_e(np.array([0.01]))[0] == pytest.approx(
        np.mean([k * 0.01 ** (k - 1) for k in KAPPAS]), rel=1e-13
    )


def test_evidence_without_ties_is_its_average_over_them():
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 5, (30, 2)).astype(float)
    reference = HonestReference.fit(scores)
    queries = np.array([[-1.0, 2.0], [4.0, 4.0], [0.0, 5.0], [9.0, 9.0]])
    grid = np.geomspace(1e-100, 1.0, 100_001)
    middle, width = np.sqrt(grid[1:] * grid[:-1]), np.diff(grid)
    for query, got in zip(queries, reference.evidence(queries), strict=True):
        many = np.repeat(query[None], len(middle), axis=0)
        averaged = (reference.evidence(many, None, middle) * width).sum()
        assert got == pytest.approx(averaged, rel=1e-4)
        p = reference.p_values(many[:1], None, np.array([0.25]))[0]
        by_hand = naive.p_values(scores, query[None], np.array([0.25]))[0]
        assert p == pytest.approx(by_hand)


def test_evidence_of_every_possible_rank_averages_exactly_one():
    """A new honest score is equally likely to fall into each of the n + 1 gaps."""
    for n in (1, 7, 60, 500):
        reference = HonestReference.fit(np.arange(1.0, n + 1)[:, None], minimum=1)
        assert reference.evidence(np.arange(n + 1)[:, None] + 0.5).mean() == pytest.approx(1.0)


def test_honest_evidence_averages_one_over_references():
    """Over the joint draw of reference and query, dependent and discrete scores included."""
    rng = np.random.default_rng(11)
    means = []
    for _ in range(3000):
        scores = rng.normal(size=(100, 2))
        scores[:, 1] = np.round(scores[:, 0])
        reference = HonestReference.fit(scores[:60])
        means.append(reference.evidence(scores[60:]).mean())
    error = np.std(means) / np.sqrt(len(means))
    assert error < 0.02
    assert abs(np.mean(means) - 1.0) < 4 * error


@pytest.mark.parametrize("size, delta", [(20, 0.05), (60, 0.05), (60, 0.3), (400, 0.01)])
def test_delta_bounds_the_mean_given_the_reference(size, delta):
    """Shares of references whose true mean evidence exceeds 1, the truth by Dirichlet masses."""
    rng = np.random.default_rng(size)
    draws = rng.exponential(size=(4000, size + 1))
    gaps = HonestReference.fit(np.arange(1.0, size + 1)[:, None], delta=delta)
    evidence = gaps.evidence(np.arange(size + 1)[::-1, None] + 0.5)
    means = draws @ evidence / draws.sum(axis=1)
    share = (means > 1.0).mean()
    assert share <= delta
    assert np.quantile(means, 1.0 - delta) > 0.5, "and it is no blunt bound"


def test_delta_holds_with_ties_and_several_scores():
    rng = np.random.default_rng(4)
    exceeded = 0
    for _ in range(300):
        normal = rng.normal(size=50)
        honest = np.column_stack([normal, np.round(normal), rng.integers(0, 2, 50)])
        reference = HonestReference.fit(honest, delta=0.1)
        fresh = rng.normal(size=4000)
        table = np.column_stack([fresh, np.round(fresh), rng.integers(0, 2, 4000)])
        exceeded += reference.evidence(table).mean() > 1.0
    assert exceeded <= 30


def test_small_strata_are_pooled_smallest_first():
    scores = np.arange(100.0)[:, None]
    strata = np.repeat([0, 1, 2, 3], [60, 28, 7, 5])
    reference = HonestReference.fit(scores, strata, minimum=20)
    half = np.full(1, 0.5)
    # 2 and 3 together are too few, so 1 joins them: scores 60..99
    for stratum in (1, 2, 3, 99):
        p = reference.p_values([[79.5]], [stratum], half)
        assert p[0, 0] == pytest.approx((20 + 0.5) / 41)
    assert reference.p_values([[29.5]], [0], half)[0, 0] == pytest.approx((30 + 0.5) / 61)


def test_unseen_strata_meet_all_queries_where_nothing_is_pooled():
    reference = HonestReference.fit(np.arange(60.0)[:, None], np.repeat([0, 1], 30))
    p = reference.p_values([[44.5]], [5], [0.5])
    assert p[0, 0] == pytest.approx((15 + 0.5) / 61)


def test_more_extreme_scores_never_give_less_evidence():
    rng = np.random.default_rng(0)
    reference = HonestReference.fit(rng.normal(size=(200, 1)), np.zeros(200, dtype=int))
    grid = np.linspace(-5, 5, 400)[:, None]
    evidence = reference.evidence(grid, np.zeros(400, dtype=int), np.full(400, 0.3))
    assert (np.diff(evidence) >= 0).all()


@pytest.mark.parametrize(
    "scores, strata, ties",
    [
        ([[np.nan, 1.0]], [0], [0.5]),
        ([[np.inf, 1.0]], [0], [0.5]),
        ([[1.0]], [0], [0.5]),
        ([[1.0, 1.0]], [0.5], [0.5]),
        ([[1.0, 1.0]], [0, 1], [0.5]),
        ([[1.0, 1.0]], [0], [0.0]),
        ([[1.0, 1.0]], [0], [1.0]),
        ([[1.0, 1.0]], [0], [np.nan]),
        ([[1.0, 1.0]], [0], [0.5, 0.5]),
        ([[np.nan, 1.0]], [0], None),
    ],
)
def test_bad_input_raises(scores, strata, ties):
    reference = HonestReference.fit(np.zeros((30, 2)), np.zeros(30, dtype=int))
    with pytest.raises(InvalidInput):
        reference.evidence(scores, strata, ties)


def test_an_empty_reference_raises():
    with pytest.raises(InvalidInput):
        HonestReference.fit(np.empty((0, 2)), np.empty(0, dtype=int))


def test_check_finds_the_stratum_that_is_not_honest():
    rng = np.random.default_rng(8)
    strata = np.repeat([0, 1, 2], 400)
    reference = HonestReference.fit(rng.normal(size=(1200, 2)), strata, delta=0.05)
    fresh = rng.normal(size=(1200, 2))
    assert all(row.passed and row.queries == 400 for row in reference.check(fresh, strata))
    fresh[strata == 1] += 2.0
    rows = {row.strata[0]: row for row in reference.check(fresh, strata)}
    assert not rows[1].passed and rows[1].low < rows[1].mean < rows[1].high
    assert rows[0].passed and rows[2].passed


def test_drift_is_the_two_sample_kolmogorov_smirnov_test():
    rng = np.random.default_rng(9)
    old, new = rng.normal(size=(300, 2)), rng.normal(0.6, 1.0, size=(200, 2))
    reference = HonestReference.fit(old)
    for row in reference.drift(new):
        expected = stats.ks_2samp(old[:, row.score], new[:, row.score], method="asymp")
        assert row.distance == pytest.approx(expected.statistic)
        assert row.p_value >= 0.5 * expected.pvalue
        assert row.p_value < 0.01
    assert min(row.p_value for row in reference.drift(rng.normal(size=(200, 2)))) > 1e-3


def test_update_equals_fitting_anew_and_keeps_the_newest():
    rng = np.random.default_rng(10)
    scores, strata = rng.normal(size=(90, 2)), rng.integers(0, 3, 90)
    queries, asked = rng.normal(size=(40, 2)), rng.integers(0, 4, 40)
    grown = HonestReference.fit(scores[:60], strata[:60], delta=0.1).update(
        scores[60:], strata[60:]
    )
    anew = HonestReference.fit(scores, strata, delta=0.1)
    assert (grown.evidence(queries, asked) == anew.evidence(queries, asked)).all()
    newest = HonestReference.fit(scores[:60], strata[:60]).update(scores[60:], strata[60:], keep=50)
    last = HonestReference.fit(scores[40:], strata[40:])
    assert (newest.evidence(queries, asked) == last.evidence(queries, asked)).all()


def test_weights_weigh_the_scores():
    rng = np.random.default_rng(13)
    scores, queries = rng.normal(size=(80, 3)), rng.normal(size=(30, 3))
    alone = [HonestReference.fit(scores[:, [d]]).evidence(queries[:, [d]]) for d in range(3)]
    weighted = HonestReference.fit(scores, weights=(1, 3, 6)).evidence(queries)
    np.testing.assert_allclose(weighted, 0.1 * alone[0] + 0.3 * alone[1] + 0.6 * alone[2])
    for bad in ((1, 2), (1, 2, -1), (0, 0, 0), (1, 2, np.inf), (1, 2, np.nan)):
        with pytest.raises(InvalidInput):
            HonestReference.fit(scores, weights=bad)
