"""The default estimator: what the model computed for a query into scores, and into evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from powfast.leakage import _checks
from powfast.leakage.arrays import Floats, Integers
from powfast.leakage.clusters import cluster_small
from powfast.leakage.density import ClassDensity
from powfast.leakage.direction import Asked, OwnDirection
from powfast.leakage.outputs import Answers, Outputs
from powfast.leakage.outputs import entropy as _entropy
from powfast.leakage.parameters import Parameters
from powfast.leakage.reference import HonestReference
from powfast.leakage.storage import Stored
from powfast.leakage.teachers import TeacherEnsemble
from powfast.leakage.votes import WARM_CALLS, from_votes
from powfast.sketch import Advance, Sketch

if TYPE_CHECKING:
    from powfast.leakage.report import Report

ENOUGH = 100
"""Honest queries of a class from which on its queries are told apart by themselves."""


def entropy(probabilities: ArrayLike) -> Floats:
    """Return the Shannon entropy in nats, (n,), of served probabilities (n, C)."""
    return _entropy(_checks.probabilities(probabilities))


def margin(probabilities: ArrayLike) -> Floats:
    """Return minus the lead of the largest probability over the next, (n,): 0 is contested."""
    top = np.partition(_checks.probabilities(probabilities), -2, axis=1)[:, -2:]
    value: Floats = top[:, 0] - top[:, 1]
    return value


@dataclass(frozen=True, eq=False, slots=True)
class Estimate:
    """What is charged for a request: evidence of its queries, and what they add to a sketch.

    Attributes
    ----------
    evidence : (n,) e-values, one query at a time
    """

    evidence: Floats
    _asked: Asked

    def advance(self, sketch: Sketch | None) -> Advance:
        """Return account evidence, and what the queries add to a sketch as it was before them."""
        return self._asked.advance(sketch)


class LeakageEstimator(Parameters, Stored):
    """How much each query reveals, judged from the model's features and probabilities.

    Four scores, since none suffices alone: log q of the votes of `teachers` ridge heads
    (disagreement), entropy of the served probabilities (uncertainty), and the distance to the
    nearest class (novelty), among the features and among their square roots, which tell faint
    features from absent ones. Features may be those of several layers side by side: early layers
    see unusual inputs best, late ones unusual classes.

    Parameters
    ----------
    teachers, ridge, split :
        As for `TeacherEnsemble`.
    sigma : float, optional
        Noise scale of log q in votes; teachers / 25 unless given.
    weights : four numbers
        How much each score counts in the evidence, in the order of `score_names`. The default
        measured well on features of several layers; see `report` for what each tells about your
        model.
    answers, bins :
        What the model answers with, see `Outputs`: classes, of which one holds; "labels", of which
        any number may hold; or "numbers". Queries are compared with those of the same class, the
        same most probable label, or a prediction between the same two of `bins` quantiles.
    seed : int
        The same seed and data give the same scores and evidence.

    Attributes
    ----------
    outputs_, teachers_, density_, root_density_, reference_, direction_ : the fitted parts
    """

    _settings = ("teachers", "ridge", "split", "sigma", "weights", "answers", "bins", "seed")
    _parts = {  # noqa: RUF012
        "outputs_": Outputs,
        "teachers_": TeacherEnsemble,
        "density_": ClassDensity,
        "root_density_": ClassDensity,
        "reference_": HonestReference,
        "direction_": OwnDirection,
    }

    outputs_: Outputs
    teachers_: TeacherEnsemble
    density_: ClassDensity
    root_density_: ClassDensity
    reference_: HonestReference
    direction_: OwnDirection

    score_names: ClassVar[tuple[str, ...]] = ("logq", "entropy", "distance", "roots")

    def __init__(
        self,
        teachers: int = 50,
        *,
        ridge: float = 1e-2,
        split: Literal["shards", "bootstrap"] = "shards",
        sigma: float | None = None,
        weights: Sequence[float] = (0.05, 0.15, 0.4, 0.4),
        answers: Answers = "classes",
        bins: int = 8,
        seed: int = 0,
    ) -> None:
        self.teachers = teachers
        self.ridge = ridge
        self.split: Literal["shards", "bootstrap"] = split
        self.sigma = sigma
        self.weights: Sequence[float] = weights
        self.answers: Answers = answers
        self.bins: int = bins
        self.seed = seed

    def fit(self, features: ArrayLike, labels: ArrayLike) -> Self:
        """Fit heads and class densities on features (n, d) and labels.

        Labels (n,) may be true ones or the served model's own; they are (n, L), each from 0 to 1,
        where several may hold, and numbers (n,) for a regression.
        """
        data = _checks.features(features, "features")
        self.outputs_ = Outputs(self.answers, self.bins)
        classes = self.outputs_.fit(labels, len(data))
        self.teachers_ = TeacherEnsemble(
            self.teachers, ridge=self.ridge, split=self.split, seed=self.seed
        ).fit(data, classes)
        self.density_ = ClassDensity().fit(data, classes)
        self.root_density_ = ClassDensity().fit(_root(data), classes)
        self.direction_ = OwnDirection(seed=self.seed).fit(data, self._columns(classes))
        return self

    def scores(self, features: ArrayLike, probabilities: ArrayLike) -> Floats:
        """Return the (n, 4) scores of queries, larger = reveals more, columns as `score_names`.

        Parameters
        ----------
        features : (n, d) what the model computed for the queries
        probabilities : (n, C) what it is about to answer; numbers (n,) of a regression

        Raises
        ------
        InvalidInput
            Not fitted, a value is not finite, or a row is no answer of this kind.
        """
        return self._scores(features, probabilities)[0]

    def calibrate(
        self,
        honest_features: ArrayLike,
        honest_probabilities: ArrayLike,
        *,
        minimum: int = 20,
        delta: float | None = 0.05,
    ) -> Self:
        """Fit the `HonestReference` on honest queries that `fit` has not seen; return self.

        Strata are the predicted classes (labels, bins). Those with fewer than `minimum` queries are
        clustered on one half of these and compared with the other half of their cluster; where two
        clusters of 60 cannot be had, they are pooled. `delta` makes up for the luck of this very
        sample (see `HonestReference.fit`).
        """
        scores, strata = self._scores(honest_features, honest_probabilities)
        together, kept = cluster_small(scores, strata, minimum, self.seed)
        self.reference_ = HonestReference.fit(
            scores[kept],
            strata[kept],
            minimum=minimum,
            delta=delta,
            weights=self._informative(),
            clusters=together,
        )
        self.direction_.calibrate(honest_features, strata)
        return self

    def missing(self) -> dict[int, int]:
        """Return how many honest queries each class lacks to be told apart by itself.

        With `ENOUGH` of them, a query beyond all in one of the default's distances has evidence
        of about 6, from which prices climb. Classes that lack none are left out; those that only
        clusters know lack all.
        """
        self._fitted("reference_")
        reference = self.reference_
        names, counts = np.unique(reference.strata, return_counts=True)
        have = dict.fromkeys(reference.clusters[:, 0].tolist(), 0)
        have.update(zip(names.tolist(), counts.tolist(), strict=True))
        return {name: ENOUGH - n for name, n in sorted(have.items()) if n < ENOUGH}

    def imitate(self, features: ArrayLike) -> tuple[Floats, Floats]:
        """Return features (n, d) and, in the served answers' place, the shares of the votes.

        For inputs that exist as features alone; labels that `fit` was given have to be the
        columns of the served answers.
        """
        self._fitted("teachers_")
        data = _checks.features(features, "features")
        columns = self._columns(self.teachers_.classes_)
        shares = np.zeros((len(data), int(columns.max()) + 1))
        shares[:, columns] = self.teachers_.votes(data) / self.teachers
        return data, self.outputs_.example(shares)

    def evidence(self, features: ArrayLike, probabilities: ArrayLike) -> Floats:
        """Return the (n,) e-values of queries against "honest": at least 0, at most 1 on average.

        A function of the queries alone: asking again draws nothing new. Parameters and errors
        as for `scores`.
        """
        self._fitted("reference_")
        return self.reference_.evidence(*self._scores(features, probabilities))

    def estimate(self, features: ArrayLike, probabilities: ArrayLike) -> Estimate:
        """Return evidence and account evidence of queries, to be charged instead of `evidence`.

        Account evidence follows from what the account has asked before, which the ledger knows.
        Parameters and errors as for `scores`.
        """
        self._fitted("reference_")
        scores, strata = self._scores(features, probabilities)
        return Estimate(
            self.reference_.evidence(scores, strata), self.direction_.ask(features, strata)
        )

    def warmup(self) -> Self:
        """Make the first request as fast as the next: compile, and judge some batches; return self.

        Call it once in each process that serves, after `calibrate` or `load`.
        """
        self._fitted("reference_")
        rng = np.random.default_rng(0)
        heads = self.teachers_
        noise = rng.normal(size=(64, len(heads.mean_)))
        shares = rng.dirichlet(np.ones(len(heads.classes_)), 64)
        answers = self.outputs_.example(shares)
        features = heads.mean_ + heads.spread_ * noise
        for _ in range(WARM_CALLS):
            for rows in (1, 64):
                self.estimate(features[:rows], answers[:rows]).advance(None)
                self.evidence(features[:rows].astype(np.float32), answers[:rows])
        return self

    def report(
        self, honest: tuple[ArrayLike, ArrayLike], suspicious: tuple[ArrayLike, ArrayLike]
    ) -> Report:
        """Compare held-out honest with suspicious queries, each (features, probabilities).

        The `Report` prints as a table, plots, and gives a dict for JSON.
        """
        from powfast.leakage.report import report

        return report(self, honest, suspicious)

    def _restore(self) -> None:
        self.weights = tuple(self.weights)  # JSON knows lists only

    def _columns(self, labels: ArrayLike) -> Integers:
        """Return the column of the answers that each label stands for, or their order."""
        classes = self.teachers_.classes_
        if classes.dtype.kind in "iu" and classes.min() >= 0:
            return np.asarray(labels, dtype=np.int64)
        return np.searchsorted(classes, labels)

    def _scores(self, features: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Integers]:
        """Return scores (n, 4) and strata (n,)."""
        self._fitted("root_density_")
        data = _checks.features(features, "features")
        uncertainty, strata = self.outputs_.read(probabilities, len(data))
        sigma = self.teachers / 25.0 if self.sigma is None else self.sigma
        log_q = from_votes(self.teachers_.votes(data), sigma, "logq")
        near = self.density_.distance(data), self.root_density_.distance(_root(data))
        return np.column_stack([log_q, uncertainty, *near]), strata

    def _informative(self) -> Sequence[float]:
        """Return the scores' weights; a number says nothing of its own uncertainty."""
        if self.answers != "numbers":
            return self.weights
        return [0.0 if at == 1 else weight for at, weight in enumerate(self.weights)]


def _root(data: Floats) -> Floats:
    """Return the square root of the size, with the sign."""
    value: Floats = np.copysign(np.sqrt(np.abs(data)), data)
    return value
