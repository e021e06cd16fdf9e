"""Many small classes: clustered on queries that do not calibrate, and what then holds."""

from __future__ import annotations

import naive
import numpy as np
import pytest

from powfast.errors import InvalidInput
from powfast.leakage import HonestReference, LeakageEstimator
from powfast.leakage.clusters import SIZE, cluster_small, clusters
from powfast.tariff import EvidenceTariff


def test_strata_are_ordered_by_their_scores_and_cut_evenly():
    rng = np.random.default_rng(0)
    strata = np.repeat(np.arange(40), 10)
    level = rng.permutation(40)
    scores = level[strata, None] + rng.normal(size=(400, 2))
    found = clusters(scores, strata, 4)
    assert (found[:, 0] == np.arange(40)).all()
    assert (found[:, 1] == level // 10).mean() > 0.9
    assert (np.bincount(found[:, 1]) == 10).all()


def test_what_clusters_does_not_calibrate():
    rng = np.random.default_rng(1)
    sizes = np.concatenate([np.full(60, 8), [1] * 20, [30, 400]])
    strata = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    scores = rng.normal(size=(len(strata), 3))
    pairs, calibrates = cluster_small(scores, strata, 20, 0)
    assert sorted(pairs[:, 0]) == list(range(80)), "the large classes stay by themselves"
    left = np.bincount(strata[calibrates], minlength=82)
    assert (left[:60] == 4).all() and left[60:80].sum() == 10 and (left[80:] == [30, 400]).all()
    scores[calibrates] = rng.normal(size=(calibrates.sum(), 3))
    again, same = cluster_small(scores, strata, 20, 0)
    assert (again == pairs).all() and (same == calibrates).all()


def test_too_few_small_queries_are_left_alone():
    strata = np.repeat(np.arange(20), 4 * SIZE // 20 - 1)
    pairs, calibrates = cluster_small(np.zeros((len(strata), 1)), strata, 20, 0)
    assert len(pairs) == 0 and calibrates.all()


def test_a_query_is_compared_with_its_cluster():
    rng = np.random.default_rng(2)
    strata = np.repeat([3, 5, 8, 9], [30, 9, 14, 25])
    scores = rng.integers(0, 6, (len(strata), 2)).astype(float)
    pairs = [[5, 0], [8, 0], [11, 0], [9, 1]]
    reference = HonestReference.fit(scores, strata, clusters=pairs)
    query, half = np.array([[3.0, 2.0]]), np.array([0.5])
    for asked, own in (
        (3, [3]),
        (5, [5, 8]),
        (8, [5, 8]),
        (11, [5, 8]),
        (9, [9]),
        (7, [3, 5, 8, 9]),
    ):
        expected = naive.p_values(scores[np.isin(strata, own)], query, half)
        assert reference.p_values(query, [asked], half) == pytest.approx(expected)
    rows = {row.strata: row for row in reference.check(scores, strata)}
    assert set(rows) == {(3,), (5, 8), (9,)}
    assert "stratum 3" in rows[3,].promise
    assert "3 clustered strata together" in rows[5, 8].promise
    grown = reference.update(scores[:3], strata[:3])
    assert (grown.clusters == pairs).all()


@pytest.mark.parametrize("wrong", [[[1, 0], [1, 1]], [[1]], [1, 0], [[0.5, 1]]])
def test_wrong_clusters_raise(wrong):
    with pytest.raises(InvalidInput):
        HonestReference.fit(np.zeros((30, 1)), clusters=wrong)


def test_accounts_of_one_rare_class_keep_to_honest_prices():
    """200 classes of 8 honest queries in the median, each with a distribution of its own."""
    rng = np.random.default_rng(0)
    counts = np.maximum(2, np.rint(8 * np.exp(0.8 * rng.normal(size=200)))).astype(int)
    centre, spread = 0.3 * rng.normal(size=(200, 4)), np.exp(0.25 * rng.normal(size=(200, 4)))

    def draw(strata):
        common = 0.6 * rng.normal(size=(len(strata), 1))
        own = common + 0.8 * rng.normal(size=(len(strata), 4))
        return centre[strata] + spread[strata] * own

    strata = np.repeat(np.arange(200), counts)
    scores = draw(strata)
    pairs, kept = cluster_small(scores, strata, 20, 0)
    fitted = HonestReference.fit(scores[kept], strata[kept], delta=0.05, clusters=pairs)
    pooled = HonestReference.fit(scores, strata, delta=0.05, minimum=10)
    asked = np.repeat(np.arange(200), 300)
    fresh = draw(asked)
    tariff = EvidenceTariff(1.0)

    def high_price(reference):
        """Mean price of accounts of one class each, the 99 % quantile, in base prices."""
        evidence = reference.evidence(fresh, asked).reshape(200, 300)
        return np.quantile([tariff.work(np.tile(e, 4))[0].mean() for e in evidence], 0.99)

    assert high_price(fitted) <= 2.0
    assert high_price(pooled) > 2.0, "which small classes by themselves do not"
    assert np.log(fitted.evidence(fresh + 3.0, asked)).mean() > 1.0, "and evidence still tells"


def test_an_estimator_clusters_what_is_small_and_says_what_is_missing(tmp_path):
    rng = np.random.default_rng(3)
    centres = 3 * rng.normal(size=(60, 8))
    train, labels = np.repeat(centres, 10, axis=0), np.repeat(np.arange(60), 10)
    train = train + rng.normal(size=train.shape)
    counts = np.full(60, 8)
    counts[0] = 150
    strata = np.repeat(np.arange(60), counts)
    honest = centres[strata] + rng.normal(size=(len(strata), 8))
    answers = np.full((len(strata), 60), 0.1 / 59)
    answers[np.arange(len(strata)), strata] = 0.9
    estimator = LeakageEstimator(10).fit(train, labels).calibrate(honest, answers)
    assert len(estimator.reference_.clusters) == 59
    missing = estimator.missing()
    assert 0 not in missing and missing[1] == 96
    file = tmp_path / "estimator.npz"
    estimator.save(file)
    again = LeakageEstimator.load(file)
    assert (again.evidence(honest, answers) == estimator.evidence(honest, answers)).all()
