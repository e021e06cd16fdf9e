"""Teachers whose votes are counted: ridge heads in closed form, or predictors of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage.arrays import Floats, Integers
from powfast.leakage.gnmax import count
from powfast.leakage.parameters import Parameters
from powfast.leakage.scaling import mean_and_spread
from powfast.leakage.storage import Stored


class TeacherEnsemble(Parameters, Stored):
    """K ridge heads on disjoint shards or bootstraps of standardised features, one matrix product.

    Parameters
    ----------
    teachers : int
        K. More teachers resolve disagreement more finely and see less data each.
    ridge : float
        Penalty per training row, on standardised features.
    split : {"shards", "bootstrap"}
        Disjoint parts of the data, or samples of its size drawn with replacement.
    random_features : int, optional
        First map the standardised input through that many fixed random ReLU features; for raw
        inputs, where heads that are linear in them would be weak.
    model : optional
        A callable or fitted classifier that labels X where `fit` gets no labels.
    seed : int
        Of the split and the map; the same seed and data give the same heads.

    Attributes
    ----------
    classes_ : (C,) the labels, sorted
    weights_ : (d + 1, K * C) float64, the last row the intercepts
    """

    classes_: NDArray[Any]
    mean_: Floats
    spread_: Floats
    map_: Floats
    weights_: Floats

    _settings = ("teachers", "ridge", "split", "random_features", "seed")
    _arrays = ("classes_", "mean_", "spread_", "map_", "weights_")

    def __init__(
        self,
        teachers: int = 50,
        *,
        ridge: float = 1e-2,
        split: Literal["shards", "bootstrap"] = "shards",
        random_features: int | None = None,
        model: Any = None,
        seed: int = 0,
    ) -> None:
        self.teachers = teachers
        self.ridge = ridge
        self.split = split
        self.random_features = random_features
        self.model = model
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Fit all heads on X (n, d) and labels y (n,), or the labels `model` gives X.

        Raises
        ------
        InvalidInput
            Shapes do not fit, values are not finite, there is only one class, there are fewer
            rows than teachers, or neither y nor a model.
        """
        heads = _checks.whole(self.teachers, "teachers", 2)
        ridge = _checks.positive(self.ridge, "ridge")
        data = _checks.features(X, "X")
        n = len(data)
        if n < heads:
            raise InvalidInput(f"{heads} teachers need at least as many rows, not {n}")
        labels = _checks.labels(self._label(X) if y is None else y, n)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidInput("labels must hold at least two classes")
        rng = np.random.default_rng(self.seed)
        parts = self._shares(rng, n, heads)
        self.mean_, self.spread_ = mean_and_spread(data)
        self.map_ = self._map(rng, data.shape[1])
        data = self._design(data)
        targets = np.eye(len(self.classes_))[codes] * 2.0 - 1.0
        solved = [_ridge(data[rows], targets[rows], ridge) for rows in parts]
        self.weights_ = np.ascontiguousarray(np.concatenate(solved, axis=1))
        return self

    def votes(self, X: ArrayLike) -> Integers:
        """Return the (n, C) votes of the heads on X (n, d)."""
        self._fitted("weights_")
        data = self._design(_checks.features(X, "X", len(self.mean_)))
        classes = len(self.classes_)
        heads = self.weights_.shape[1] // classes
        with np.errstate(over="ignore"):  # infinities compare as well
            # rounded, so that a tie falls the same way however a batch is split
            scores = (data @ self.weights_).astype(np.float32)
        winners = scores.reshape(-1, classes).argmax(axis=1)
        return count(winners.reshape(-1, heads), classes)

    def predict(self, X: ArrayLike) -> np.ndarray[Any, Any]:
        """Return the (n,) labels that most heads vote for."""
        winners: np.ndarray[Any, Any] = self.classes_[self.votes(X).argmax(axis=1)]
        return winners

    def _label(self, X: ArrayLike) -> Any:
        if self.model is None:
            raise InvalidInput("fit needs labels y, or a model that gives them")
        return _predictor(self.model)(X)

    def _shares(self, rng: np.random.Generator, n: int, heads: int) -> list[Integers]:
        if self.split == "shards":
            return np.array_split(rng.permutation(n), heads)
        if self.split == "bootstrap":
            return [rng.integers(n, size=n) for _ in range(heads)]
        raise InvalidInput(f"split must be 'shards' or 'bootstrap', not {self.split!r}")

    def _map(self, rng: np.random.Generator, columns: int) -> Floats:
        if self.random_features is None:
            return np.empty((columns, 0))
        width = _checks.whole(self.random_features, "random_features")
        return rng.normal(scale=1.0 / np.sqrt(columns), size=(columns, width))

    def _design(self, data: Floats) -> Floats:
        """Return the standardised, mapped data with a column of ones."""
        data = (data - self.mean_) / self.spread_
        if self.map_.shape[1]:
            data = np.maximum(data @ self.map_, 0.0)
        return np.column_stack([data, np.ones(len(data))])


def from_predictions(
    predictors: Sequence[Any], X: Any, *, classes: ArrayLike | None = None
) -> Integers:
    """Return the (n, C) votes of fitted classifiers or callables that label X.

    Parameters
    ----------
    predictors : objects with `predict`, or callables, each giving (n,) labels
    X : whatever they take
    classes : (C,) labels that may be voted for; those the predictions hold unless given

    Raises
    ------
    InvalidInput
        There are fewer than two predictors, they disagree on the number of queries, or one
        answers a label that is not in `classes`.
    """
    if len(predictors) < 2:
        raise InvalidInput("votes need at least two predictors")
    answers = [np.asarray(_predictor(predictor)(X)) for predictor in predictors]
    labels = np.stack([_checks.labels(answer, len(answers[0])) for answer in answers], axis=1)
    names = np.unique(labels if classes is None else np.asarray(classes))
    if len(names) < 2:
        raise InvalidInput("votes need at least two classes: pass `classes`")
    codes = np.minimum(np.searchsorted(names, labels), len(names) - 1)
    if (names[codes] != labels).any():
        raise InvalidInput(f"a predictor answered {labels[names[codes] != labels][0]!r}")
    return count(codes, len(names))


def _predictor(model: Any) -> Callable[[Any], Any]:
    predict: Callable[[Any], Any] = getattr(model, "predict", model)
    if not callable(predict):
        raise InvalidInput(f"a predictor must be callable or have predict, not {model!r}")
    return predict


def _ridge(X: Floats, Y: Floats, ridge: float) -> Floats:
    """Return the (d + 1, C) weights that minimise the penalised squared error."""
    gram = X.T @ X
    gram[np.diag_indices_from(gram)] += ridge * len(X)
    return np.asarray(np.linalg.solve(gram, X.T @ Y), dtype=np.float64)
