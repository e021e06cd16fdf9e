"""Features out of scikit-learn pipelines as they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from powfast.errors import InvalidInput
from powfast.leakage import features


def test_pipeline_steps():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 5)), rng.integers(0, 2, 60)
    pipeline = make_pipeline(StandardScaler(), PCA(3), LogisticRegression()).fit(X, y)
    last, answer = features.from_pipeline(pipeline, X)
    np.testing.assert_allclose(last, pipeline[:-1].transform(X))
    np.testing.assert_allclose(answer, pipeline.predict_proba(X))
    both, _ = features.from_pipeline(pipeline, X, ["standardscaler", "pca"])
    np.testing.assert_allclose(both, np.hstack([pipeline[0].transform(X), last]))
    for steps in (["nothing"], ["logisticregression"], [], "pca"):
        with pytest.raises(InvalidInput):
            features.from_pipeline(pipeline, X, steps)
    with pytest.raises(InvalidInput, match="predict_proba"):
        features.from_pipeline(pipeline[:-1], X)


def test_sparse_steps():
    texts = ["a cat sat", "a dog ran", "the cat ran", "the dog sat"]
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [0, 1, 0, 1])
    got, _ = features.from_pipeline(pipeline, texts)
    expected = pipeline[0].transform(texts)
    assert sparse.issparse(expected)
    np.testing.assert_array_equal(got, expected.toarray())
