"""The estimator on scikit-learn's digits: deterministic, keyed, and it tells digits from noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from powfast.errors import InvalidInput
from powfast.leakage import (
    ClassDensity,
    LeakageEstimator,
    NeighbourVotes,
    TeacherEnsemble,
    entropy,
    from_predictions,
    margin,
    neighbours,
    votes,
)


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    images = images / 16.0
    model = LogisticRegression(max_iter=500).fit(images[:700], labels[:700])
    return images, labels, model


@pytest.fixture(scope="module")
def estimator(digits):
    images, labels, model = digits
    estimator = LeakageEstimator(seed=1).fit(images[:700], labels[:700])
    return estimator.calibrate(images[700:1250], model.predict_proba(images[700:1250]))


def test_honest_queries_average_at_most_one_and_others_more(digits, estimator):
    images, _, model = digits
    rng = np.random.default_rng(0)

    def evidence(x):
        return estimator.evidence(x, model.predict_proba(x))

    honest = evidence(images[1250:])
    assert honest.mean() < 1.0 + 4 * honest.std() / np.sqrt(len(honest))
    for strange in (rng.uniform(size=(300, 64)), 1.0 - images[1250:1550]):
        assert np.median(evidence(strange)) > 2.0
        assert np.log(evidence(strange)).mean() > 0.5 > np.log(honest).mean()


def test_same_seed_same_evidence(digits, estimator):
    images, labels, model = digits
    x, p = images[1250:1300], model.predict_proba(images[1250:1300])
    again = LeakageEstimator(seed=1).fit(images[:700], labels[:700])
    again.calibrate(images[700:1250], model.predict_proba(images[700:1250]))
    first = estimator.evidence(x, p)
    assert (again.evidence(x, p) == first).all()
    assert (estimator.evidence(x, p) == first).all(), "asking again draws nothing new"
    parts = np.concatenate([estimator.evidence(x[:7], p[:7]), estimator.evidence(x[7:], p[7:])])
    np.testing.assert_allclose(parts, first, rtol=1e-9, err_msg="splitting a batch")
    other = LeakageEstimator(seed=2).fit(images[:700], labels[:700])
    assert (other.scores(x, p)[:, 0] != estimator.scores(x, p)[:, 0]).any()


def test_warm_up_leaves_nothing_to_prepare(digits, estimator, tmp_path):
    images, _, model = digits
    answers = model.predict_proba(images[1250:])
    expected = estimator.evidence(images[1250:], answers)
    estimator.save(tmp_path / "saved.npz")
    fresh = LeakageEstimator.load(tmp_path / "saved.npz")
    votes._made.cache_clear()
    assert fresh.warmup() is fresh
    prepared = votes._made.cache_info().misses
    np.testing.assert_array_equal(fresh.evidence(images[1250:], answers), expected)
    assert votes._made.cache_info().misses == prepared
    with pytest.raises(InvalidInput, match="calibrate first"):
        LeakageEstimator().warmup()


def test_scores_have_names_and_shape(digits, estimator):
    images, _, model = digits
    scores = estimator.scores(images[:5], model.predict_proba(images[:5]))
    assert scores.shape == (5, len(estimator.score_names))
    assert estimator.scores(np.empty((0, 64)), np.empty((0, 10))).shape == (0, 4)


@pytest.mark.parametrize(
    "features, probabilities",
    [
        (np.full((1, 64), np.nan), np.full((1, 10), 0.1)),
        (np.full((1, 64), np.inf), np.full((1, 10), 0.1)),
        (np.full((1, 64), 1e200), np.full((1, 10), 0.1)),
        (np.zeros((1, 63)), np.full((1, 10), 0.1)),
        (np.zeros(64), np.full((1, 10), 0.1)),
        ([["1"] * 64], np.full((1, 10), 0.1)),
        ([[1.0] * 64, [1.0]], np.full((2, 10), 0.1)),
        (np.zeros((1, 64), dtype=complex), np.full((1, 10), 0.1)),
        (np.zeros((1, 64), dtype=object), np.full((1, 10), 0.1)),
        (np.zeros((1, 64)), np.full((2, 10), 0.1)),
        (np.zeros((1, 64)), np.full((1, 10), 0.2)),
        (np.zeros((1, 64)), np.full((1, 10), np.nan)),
        (np.zeros((1, 64)), [[-0.1, 1.1] + [0.0] * 8]),
    ],
)
def test_bad_queries_raise(estimator, features, probabilities):
    with pytest.raises(InvalidInput):
        estimator.evidence(features, probabilities)


def test_unfitted_raises(digits):
    images, labels, model = digits
    estimator = LeakageEstimator()
    with pytest.raises(InvalidInput, match="fit first"):
        estimator.scores(images[:1], model.predict_proba(images[:1]))
    estimator.fit(images[:700], labels[:700])
    with pytest.raises(InvalidInput, match="calibrate first"):
        estimator.evidence(images[:1], model.predict_proba(images[:1]))


@pytest.mark.parametrize("split", ["shards", "bootstrap"])
def test_each_head_is_a_ridge_regression(split):
    """The first head equals the textbook normal equations on its own rows."""
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(120, 4)) * [1, 10, 0.1, 3] + 2.0, rng.integers(0, 3, 120)
    ensemble = TeacherEnsemble(6, ridge=0.1, split=split, seed=9).fit(X, y)
    draw = np.random.default_rng(9)
    rows = draw.permutation(120)[:20] if split == "shards" else draw.integers(120, size=120)
    Z = np.column_stack([(X - X.mean(0)) / X.std(0), np.ones(120)])[rows]
    target = np.where(y[rows][:, None] == np.arange(3), 1.0, -1.0)
    weights = np.linalg.lstsq(
        np.vstack([Z, np.sqrt(0.1 * len(rows)) * np.eye(5)]),
        np.vstack([target, np.zeros((5, 3))]),
        rcond=None,
    )[0]
    np.testing.assert_allclose(ensemble.weights_[:, :3], weights, rtol=1e-9)


def test_teacher_votes_are_counted_winners(digits):
    images, labels, _ = digits
    ensemble = TeacherEnsemble(20).fit(images[:700], labels[:700])
    votes = ensemble.votes(images[700:])
    assert (votes.sum(axis=1) == 20).all()
    assert (ensemble.classes_[votes.argmax(axis=1)] == labels[700:]).mean() > 0.8
    Z = np.column_stack([(images[700:710] - ensemble.mean_) / ensemble.spread_, np.ones(10)])
    for i in range(10):
        heads = [Z[i] @ ensemble.weights_[:, 10 * k : 10 * k + 10] for k in range(20)]
        winners = [int(np.argmax(h)) for h in heads]
        assert votes[i].tolist() == [winners.count(c) for c in range(10)]


def test_neighbours_by_sorting(digits):
    images, labels, _ = digits
    reference = NeighbourVotes(7).fit(images[:300], labels[:300])
    queries = images[300:340]
    points = (images[:300] - reference.mean_) / reference.spread_
    for i, query in enumerate((queries - reference.mean_) / reference.spread_):
        distances = np.sqrt(((points - query) ** 2).sum(axis=1))
        order = np.argsort(distances)[:7]
        assert reference.distance(queries)[i] == pytest.approx(distances[order[-1]], rel=1e-9)
        assert reference.votes(queries)[i].tolist() == [
            int((labels[order] == c).sum()) for c in range(10)
        ]


def test_neighbours_in_blocks(digits, monkeypatch):
    """Memory is bounded: many small blocks answer what one large one does."""
    images, labels, _ = digits
    for metric in ("euclidean", "cosine"):
        reference = NeighbourVotes(5, metric=metric, subsample=200, seed=4).fit(images, labels)
        assert len(reference.points_) == 200
        votes, distance = reference.votes(images), reference.distance(images)
        with monkeypatch.context() as patch:
            patch.setattr(neighbours, "_BLOCK", 200 * 7)
            assert (reference.votes(images) == votes).all()
            np.testing.assert_allclose(reference.distance(images), distance, atol=1e-7)


@pytest.mark.parametrize(
    "estimator, X, y",
    [
        (TeacherEnsemble(50), np.zeros((49, 2)), np.arange(49)),
        (TeacherEnsemble(2), np.zeros((9, 2)), np.zeros(9)),
        (TeacherEnsemble(2), np.full((9, 2), np.nan), np.arange(9)),
        (TeacherEnsemble(2), np.zeros((9, 2)), np.arange(8)),
        (TeacherEnsemble(2, ridge=0.0), np.zeros((9, 2)), np.arange(9)),
        (TeacherEnsemble(2, split="thirds"), np.zeros((9, 2)), np.arange(9)),
        (TeacherEnsemble(1), np.zeros((9, 2)), np.arange(9)),
        (NeighbourVotes(10), np.zeros((9, 2)), np.arange(9)),
        (NeighbourVotes(0), np.zeros((9, 2)), np.arange(9)),
    ],
)
def test_fitting_on_bad_data_raises(estimator, X, y):
    with pytest.raises(InvalidInput):
        estimator.fit(X, y)


def test_density_by_hand(digits):
    """Distances written out: pool, whiten, shrink, and the nearest class's own covariance."""
    images, labels, _ = digits
    keep = images[:500].std(axis=0) > 0.2
    X, y = images[:500, keep], labels[:500]
    d = X.shape[1]
    density = ClassDensity().fit(X, y)
    Z = (X - X.mean(0)) / X.std(0)
    means = np.stack([Z[y == c].mean(0) for c in range(10)])
    pooled = sum((Z[y == c] - means[c]).T @ (Z[y == c] - means[c]) for c in range(10)) / 500
    pooled += 1e-3 * np.eye(d)
    for x in images[500:520, keep]:
        z = (x - X.mean(0)) / X.std(0)
        c = np.argmin([(z - m) @ np.linalg.solve(pooled, z - m) for m in means])
        own = Z[y == c] - means[c]
        share = d / (d + len(own))
        covariance = (1 - share) * own.T @ own / len(own) + share * pooled
        expected = (z - means[c]) @ np.linalg.solve(covariance, z - means[c])
        expected += np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(pooled)[1]
        assert density.distance(x[None])[0] == pytest.approx(expected, rel=1e-9)


def test_entropy_and_margin():
    table = [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.7, 0.2, 0.1]]
    assert entropy(table) == pytest.approx(stats.entropy(table, axis=1))
    assert margin(table) == pytest.approx([0.0, -1.0, -0.5])


def test_random_features_let_heads_see_what_is_not_linear():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    plain = TeacherEnsemble(10).fit(X[:3000], y[:3000])
    mapped = TeacherEnsemble(10, random_features=200).fit(X[:3000], y[:3000])
    assert (plain.predict(X[3000:]) == y[3000:]).mean() < 0.7
    assert (mapped.predict(X[3000:]) == y[3000:]).mean() > 0.9


def test_labels_come_from_the_model_where_none_are_given(digits):
    images, _, model = digits
    given = TeacherEnsemble(10).fit(images[:500], model.predict(images[:500]))
    asked = TeacherEnsemble(10, model=model).fit(images[:500])
    assert (given.weights_ == asked.weights_).all()
    with pytest.raises(InvalidInput, match="labels y, or a model"):
        TeacherEnsemble(10).fit(images[:500])


def test_votes_of_any_predictors(digits):
    images, labels, model = digits
    trees = [
        DecisionTreeClassifier(random_state=k).fit(
            images[k * 100 : k * 100 + 300], labels[k * 100 : k * 100 + 300]
        )
        for k in range(4)
    ]
    predictors = [*trees, model.predict]
    votes = from_predictions(predictors, images[900:950], classes=np.arange(10))
    for i, row in enumerate(votes):
        answers = [int(p(images[900 + i : 901 + i])[0]) for p in (t.predict for t in trees)]
        answers.append(int(model.predict(images[900 + i : 901 + i])[0]))
        assert row.tolist() == [answers.count(c) for c in range(10)]
    for bad in ([model], [model, lambda x: np.full(len(x), 77)], [model, 3]):
        with pytest.raises(InvalidInput):
            from_predictions(bad, images[:5], classes=np.arange(10))


def test_the_stranger_the_dearer(estimator):
    """Nothing that a client sends overflows into a low price."""
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(20, 64))
    sizes = (1e2, 1e4, 1e8, 1e50, 1e100 / 64)
    for x in (direction / np.abs(direction).max() * size for size in sizes):
        evidence = estimator.evidence(x, np.full((20, 10), 0.1))
        assert (evidence > 2.0).all()


ANY_NUMBER = st.floats(allow_nan=True, allow_infinity=True, width=64)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    x=hnp.arrays(np.float64, (3, 64), elements=ANY_NUMBER, fill=ANY_NUMBER),
    p=hnp.arrays(np.float64, (3, 10), elements=st.floats(0, 1) | ANY_NUMBER, fill=st.floats(0, 1)),
    honest=st.booleans(),
)
def test_whatever_comes_in_is_priced_or_refused(estimator, x, p, honest):
    """Never a crash, a NaN or a negative number; RuntimeWarnings are errors here."""
    if honest:
        p = np.full((3, 10), 0.1)
    try:
        evidence = estimator.evidence(x, p)
    except InvalidInput:
        return
    assert np.isfinite(evidence).all() and (evidence >= 0.0).all()
