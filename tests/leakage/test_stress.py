"""Stress inputs: what they are, and that evidence tells them from honest digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from powfast.errors import InvalidInput
from powfast.leakage import LeakageEstimator, stress_evidence, stress_inputs
from powfast.leakage.features import from_pipeline


def test_what_the_kinds_are():
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(500, 2, 3)) * [1.0, 10.0, 0.0] + 5.0
    kinds = stress_inputs(honest, 1)
    assert list(kinds) == ["columns resampled", "pairs mixed", "noise"]
    for values in kinds.values():
        assert values.shape == honest.shape and values.dtype == honest.dtype
        assert (values[..., 2] == 5.0).all()
        np.testing.assert_allclose(values.mean(axis=0), honest.mean(axis=0), atol=1.5)
    assert np.isin(kinds["columns resampled"], honest).all()
    pair = kinds["pairs mixed"][0] * 2 - honest[0]
    assert np.isclose(honest, pair).all(axis=(1, 2)).sum() == 1
    again = stress_inputs(honest, 1)
    assert all((again[name] == kinds[name]).all() for name in kinds)


def test_integers_stay_integers():
    honest = np.random.default_rng(0).integers(0, 257, (50, 20)).astype(np.int32)
    for values in stress_inputs(honest).values():
        assert values.dtype == np.int32 and values.min() >= 0 and values.max() <= 256


@pytest.mark.parametrize("wrong", [np.zeros(5), np.zeros((1, 3)), [["a", "b"], ["c", "d"]]])
def test_wrong_inputs_raise(wrong):
    with pytest.raises(InvalidInput):
        stress_inputs(wrong)


@pytest.mark.parametrize("served", [True, False])
def test_evidence_of_stress_grows_on_digits(served):
    images, labels = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(images[:800], labels[:800])
    features, _ = from_pipeline(model, images)
    answers = model.predict_proba(images)
    estimator = LeakageEstimator().fit(features[:800], labels[:800])
    estimator.calibrate(features[800:1500], answers[800:1500])
    honest = images[1500:] if served else features[1500:]
    found = stress_evidence(
        estimator, honest, (lambda x: from_pipeline(model, x)) if served else None
    )
    usual = np.log(estimator.evidence(features[1500:], answers[1500:])).mean()
    for evidence in found.values():
        assert evidence.shape == (len(honest),)
        assert np.log(evidence).mean() > usual + 0.5
