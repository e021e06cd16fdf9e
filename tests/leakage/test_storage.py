"""Saving and loading, and scikit-learn's conventions, on the real library."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from powfast.errors import InvalidInput
from powfast.leakage import (
    Accountant,
    ClassDensity,
    HonestReference,
    LeakageEstimator,
    NeighbourVotes,
    TeacherEnsemble,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6))
Y = np.array(["cat", "dog", "eel"])[RNG.integers(0, 3, 300)]
P = RNG.dirichlet(np.ones(3), 300)


def made():
    return [
        (TeacherEnsemble(5, random_features=12, seed=3).fit(X, Y), lambda e: e.votes(X)),
        (NeighbourVotes(4, metric="cosine").fit(X, Y), lambda e: e.distance(X)),
        (ClassDensity().fit(X, Y), lambda e: e.distance(X)),
        (HonestReference.fit(X, delta=0.1), lambda e: e.evidence(X + 0.1)),
        (Accountant(2.0).add([[40, 10]]), lambda e: e.epsilon()),
        (LeakageEstimator(7, seed=2).fit(X, Y).calibrate(X, P), lambda e: e.evidence(X, P)),
    ]


@pytest.mark.parametrize("index", range(6))
def test_what_is_loaded_answers_the_same(tmp_path, index):
    original, ask = made()[index]
    original.save(tmp_path / "it.npz")
    loaded = type(original).load(tmp_path / "it.npz")
    assert np.array_equal(ask(loaded), ask(original))
    if hasattr(original, "get_params"):
        assert loaded.get_params() == original.get_params()


def change(path, edit):
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    edit(header, arrays)
    arrays["header"] = np.array(json.dumps(header))
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "edit",
    [
        lambda h, a: h.update(version=1),
        lambda h, a: h.update(format="other"),
        lambda h, a: h["content"].update(kind="Accountant"),
        lambda h, a: h["content"]["settings"].update(surprise=1),
        lambda h, a: h["content"]["settings"].pop("delta"),
        lambda h, a: a.pop("scores"),
        lambda h, a: a.update(more=np.zeros(3)),
        lambda h, a: a["scores"].__setitem__((0, 0), np.nan),
        lambda h, a: a.update(scores=np.array([object()])),
        lambda h, a: a.update(scores=np.array(["a", "b"])),
        lambda h, a: a.update(scores=a["scores"][:-1]),
        lambda h, a: h["content"]["settings"].update(minimum="many"),
    ],
    ids=range(12),
)
def test_files_that_are_not_known_are_refused(tmp_path, edit):
    path = tmp_path / "reference.npz"
    HonestReference.fit(X).save(path)
    change(path, edit)
    with pytest.raises(InvalidInput):
        HonestReference.load(path)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "reference.npz"
    HonestReference.fit(X).save(path)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[:-30], b"\x93NUMPY" + whole, b"{}"):
        path.write_bytes(content)
        with pytest.raises(InvalidInput):
            HonestReference.load(path)
    with pytest.raises(FileNotFoundError):
        HonestReference.load(tmp_path / "nothing.npz")
    with pytest.raises(InvalidInput, match="fit it first"):
        TeacherEnsemble().save(path)


@pytest.mark.parametrize("estimator", [TeacherEnsemble(5), NeighbourVotes(3), LeakageEstimator(6)])
def test_scikit_learn_conventions(estimator):
    copy = clone(estimator)
    assert copy is not estimator and copy.get_params() == estimator.get_params()
    assert repr(copy) == repr(estimator)
    with pytest.raises(NotFittedError):
        check_is_fitted(copy)
    check_is_fitted(copy.fit(X, Y))
    assert copy.set_params(seed=9).seed == 9
    with pytest.raises(InvalidInput, match="no parameter"):
        copy.set_params(sead=9)


def test_as_the_last_step_of_a_pipeline():
    pipeline = clone(make_pipeline(StandardScaler(), TeacherEnsemble(5))).fit(X, Y)
    alone = TeacherEnsemble(5).fit(StandardScaler().fit_transform(X), Y)
    assert (pipeline.predict(X) == alone.predict(StandardScaler().fit_transform(X))).all()
    assert pipeline.get_params()["teacherensemble__teachers"] == 5
