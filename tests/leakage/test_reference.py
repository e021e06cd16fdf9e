"""HonestReference against counting, and the promise that honest evidence averages at most 1."""

from __future__ import annotations

import naive
import numpy as np
import pytest

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
    mpmath = naive.mp
    total = mpmath.quad(
        lambda p: sum(k * p ** (k - 1) for k in KAPPAS) / len(KAPPAS), [0, 1e-30, 1e-10, 1e-3, 1]
    )
    assert float(total) == pytest.approx(1.0, abs=2e-2)  # the rest lies below 1e-30
    assert p_to_e(np.array([0.01]))[0] == pytest.approx(
        np.mean([k * 0.01 ** (k - 1) for k in KAPPAS]), rel=1e-13
    )


def test_honest_evidence_averages_one_over_references():
    """Exact over the joint draw of reference and query, ties and discrete scores included."""
    rng = np.random.default_rng(11)
    means = []
    for _ in range(600):
        scores = np.column_stack([rng.normal(size=100), rng.integers(0, 3, 100)])
        reference = HonestReference.fit(scores[:60], np.zeros(60, dtype=int))
        means.append(
            reference.evidence(scores[60:], np.zeros(40, dtype=int), rng.uniform(size=40)).mean()
        )
    error = np.std(means) / np.sqrt(len(means))
    assert abs(np.mean(means) - 1.0) < 4 * error


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
    ],
)
def test_bad_input_raises(scores, strata, ties):
    reference = HonestReference.fit(np.zeros((30, 2)), np.zeros(30, dtype=int))
    with pytest.raises(InvalidInput):
        reference.evidence(scores, strata, ties)


def test_an_empty_reference_raises():
    with pytest.raises(InvalidInput):
        HonestReference.fit(np.empty((0, 2)), np.empty(0, dtype=int))
