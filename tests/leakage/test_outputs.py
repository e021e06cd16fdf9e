"""Regression and several labels at once, on scikit-learn's data: who is compared with whom."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_diabetes, load_digits, make_multilabel_classification
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from powfast.errors import InvalidInput
from powfast.leakage import LeakageEstimator, stress_evidence
from powfast.leakage.outputs import Outputs

TEACHERS = 10


@pytest.fixture(scope="module")
def diabetes():
    """442 patients are few: the honest ones are drawn again, with a little noise."""
    x, y = load_diabetes(return_X_y=True)
    x = (x / x.std(axis=0)).astype(np.float64)
    rng = np.random.default_rng(0)
    rows = rng.integers(len(x), size=3000)
    x, y = x[rows] + 0.1 * rng.normal(size=(3000, 10)), y[rows]
    return x, y, Ridge().fit(x[:1000], y[:1000])


@pytest.fixture(scope="module")
def regression(diabetes):
    x, y, model = diabetes
    estimator = LeakageEstimator(TEACHERS, answers="numbers").fit(x[:1000], y[:1000])
    return estimator.calibrate(x[1000:2500], model.predict(x[1000:2500]))


@pytest.fixture(scope="module")
def several():
    x, y = make_multilabel_classification(
        4000, n_features=20, n_classes=6, n_labels=2, random_state=0
    )
    model = OneVsRestClassifier(LogisticRegression(max_iter=500)).fit(x[:1500], y[:1500])
    estimator = LeakageEstimator(TEACHERS, answers="labels").fit(x[:1500], y[:1500])
    estimator.calibrate(x[1500:3000], model.predict_proba(x[1500:3000]))
    return x, model.predict_proba, estimator


def test_regression_tells_patients_from_noise(diabetes, regression):
    x, _, model = diabetes
    honest = regression.evidence(x[2500:], model.predict(x[2500:]))
    assert honest.mean() < 1.0
    strange = np.random.default_rng(1).uniform(-3, 3, size=(500, 10))
    assert regression.evidence(strange, model.predict(strange)).mean() > 3.0


def test_one_stratum_cannot_hide_in_another(diabetes, regression):
    """Honest whoever asks about one range of predictions alone: its own quantile bin judges it."""
    x, _, model = diabetes
    predicted = model.predict(x[2500:])
    evidence = regression.evidence(x[2500:], predicted)
    _, strata = regression.outputs_.read(predicted, len(predicted))
    assert sorted(set(strata)) == list(range(8))
    assert max(evidence[strata == bin].mean() for bin in range(8)) < 1.5


def test_labels_tell_honest_from_noise(several):
    x, answer, estimator = several
    honest = estimator.evidence(x[3000:], answer(x[3000:]))
    assert honest.mean() < 1.0
    strange = np.random.default_rng(1).uniform(0, x.max(), size=(500, 20))
    assert estimator.evidence(strange, answer(strange)).mean() > 3.0


def test_labels_are_compared_by_the_most_probable_one(several):
    x, answer, estimator = several
    table = answer(x[3000:])
    uncertainty, strata = estimator.outputs_.read(table, len(table))
    assert (strata == table.argmax(axis=1)).all()
    each = stats.entropy(np.stack([table, 1.0 - table], axis=-1), axis=-1)
    np.testing.assert_allclose(uncertainty, each.sum(axis=1), atol=1e-12)


def test_digits_as_labels_have_the_strata_that_they_have_as_classes():
    """Of which one holds: the same strata, and honest either way."""
    images, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=2000).fit(images[:700] / 16, labels[:700])
    table = model.predict_proba(images / 16)
    made = {}
    for kind, given_ in (("classes", labels[:700]), ("labels", np.eye(10)[labels[:700]])):
        estimator = LeakageEstimator(TEACHERS, answers=kind).fit(images[:700], given_)
        estimator.calibrate(images[700:1250], table[700:1250])
        made[kind] = estimator
        assert estimator.evidence(images[1250:], table[1250:]).mean() < 1.0
    assert (made["classes"].reference_.strata == made["labels"].reference_.strata).all()
    assert made["labels"].missing() == made["classes"].missing()


@pytest.mark.parametrize("kind", ["regression", "several"])
def test_saved_warmed_and_stressed(kind, request, tmp_path):
    made = request.getfixturevalue(kind)
    if kind == "several":
        x, answer, made = made
    else:
        x, _, model = request.getfixturevalue("diabetes")
        answer = model.predict
    made.save(tmp_path / "saved.npz")
    loaded = LeakageEstimator.load(tmp_path / "saved.npz").warmup()
    rows = x[-100:]
    assert (loaded.evidence(rows, answer(rows)) == made.evidence(rows, answer(rows))).all()
    for run in (None, lambda x: (x, answer(x))):
        noise = stress_evidence(loaded, rows, run)["noise"]
        assert noise.shape == (100,)
        assert np.isfinite(noise).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=200), st.integers(2, 12))
def test_bins_are_quantiles(values, bins):
    outputs = Outputs("numbers", bins)
    strata = outputs.fit(values, len(values))
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
    assert [sum(value >= edge for edge in edges) for value in values] == strata.tolist()
    assert (outputs.read(values, len(values))[1] == strata).all()
    order = np.argsort(values)
    assert (np.diff(strata[order]) >= 0).all()
    shares = np.eye(len(edges) + 1)
    assert (outputs.read(outputs.example(shares), len(shares))[1] == range(len(shares))).all()


@pytest.mark.parametrize(
    ("kind", "labels", "answers", "said"),
    [
        ("values", [0, 1], [0, 1], "answers must be one of classes, labels, numbers"),
        ("numbers", [0.0, np.nan], [0, 1], "predictions must be finite"),
        ("numbers", [[0.0, 1.0], [1.0, 2.0]], [0, 1], r"predictions must be \(2,\)"),
        ("numbers", [0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], r"predictions must be \(2,\)"),
        ("numbers", [0.0, 1.0], [np.inf, 0.0], "predictions must be finite"),
        ("labels", [[0.0, 2.0], [0, 0]], [], "must lie between 0 and 1"),
        ("labels", [[0.0, 1.0], [1, 1]], [[-0.1, 0.5], [0, 0]], "must lie between 0 and 1"),
        ("labels", [[0.0, 1.0], [1, 1]], [[0.1, 0.5]], "must have 2 rows, not 1"),
    ],
)
def test_bad_answers_are_refused(kind, labels, answers, said):
    with pytest.raises(InvalidInput, match=said):
        outputs = Outputs(kind)
        outputs.fit(labels, 2)
        outputs.read(answers, 2)


def test_bins_are_two_or_more():
    with pytest.raises(InvalidInput, match="bins must be an integer of at least 2"):
        Outputs("numbers", 1).fit([1.0, 2.0], 2)
