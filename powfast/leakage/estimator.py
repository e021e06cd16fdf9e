"""The default estimator: heads' votes, served probabilities and neighbours into evidence."""

from __future__ import annotations

import hashlib
import secrets
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage._checks import Floats
from powfast.leakage.neighbours import NeighbourVotes
from powfast.leakage.parameters import Parameters
from powfast.leakage.reference import HonestReference
from powfast.leakage.teachers import TeacherEnsemble
from powfast.leakage.votes import from_votes


def entropy(probabilities: ArrayLike) -> Floats:
    """Return the Shannon entropy in nats, (n,), of served probabilities (n, C)."""
    table = _checks.probabilities(probabilities)
    logs = np.log(np.maximum(table, np.finfo(np.float64).tiny))
    value: Floats = -(table * logs).sum(axis=1)
    return value


class LeakageEstimator(Parameters):
    """How much each query reveals, judged from the model's features and probabilities.

    Three scores: log q of the votes of `teachers` ridge heads (disagreement), entropy of the
    served probabilities (uncertainty), distance to the k-th nearest reference point (novelty).

    Parameters
    ----------
    teachers, ridge, split :
        As for `TeacherEnsemble`.
    sigma : float, optional
        Noise scale of log q in votes; teachers / 25 unless given.
    neighbours, references : int
        k, and how many reference points are kept at most.
    seed : int
        The same seed and data give the same scores.
    tie_key : bytes, optional
        Secret of at least 16 bytes that orders equal scores; drawn by `calibrate` unless given.
        With it given, evidence is reproducible as well.

    Attributes
    ----------
    teachers_, neighbours_, reference_, tie_key_ : the fitted parts
    """

    score_names = ("logq", "entropy", "distance")

    def __init__(
        self,
        teachers: int = 50,
        *,
        ridge: float = 1e-2,
        split: Literal["shards", "bootstrap"] = "shards",
        sigma: float | None = None,
        neighbours: int = 10,
        references: int = 2000,
        seed: int = 0,
        tie_key: bytes | None = None,
    ) -> None:
        self.teachers = teachers
        self.ridge = ridge
        self.split = split
        self.sigma = sigma
        self.neighbours = neighbours
        self.references = references
        self.seed = seed
        self.tie_key = tie_key

    def fit(self, features: ArrayLike, labels: ArrayLike) -> Self:
        """Fit heads and reference points on features (n, d) and labels (n,).

        Labels may be true ones or the served model's own.
        """
        self.teachers_ = TeacherEnsemble(
            self.teachers, ridge=self.ridge, split=self.split, seed=self.seed
        ).fit(features, labels)
        self.neighbours_ = NeighbourVotes(
            self.neighbours, subsample=self.references, seed=self.seed
        ).fit(features, labels)
        return self

    def scores(self, features: ArrayLike, probabilities: ArrayLike) -> Floats:
        """Return the (n, 3) scores of queries, larger = reveals more, columns as `score_names`.

        Parameters
        ----------
        features : (n, d) what the model computed for the queries
        probabilities : (n, C) what it is about to answer

        Raises
        ------
        InvalidInput
            Not fitted, a value is not finite, or a row is no probability vector.
        """
        self._fitted("teachers_")
        data = _checks.matrix(features, "features")
        table = _checks.probabilities(probabilities, len(data))
        sigma = self.teachers / 25.0 if self.sigma is None else self.sigma
        log_q = from_votes(self.teachers_.votes(data), sigma, "logq")
        return np.column_stack([log_q, entropy(table), self.neighbours_.distance(data)])

    def calibrate(
        self, honest_features: ArrayLike, honest_probabilities: ArrayLike, *, minimum: int = 20
    ) -> Self:
        """Fit the `HonestReference` on honest queries that `fit` has not seen; return self.

        Strata are the predicted classes; those with fewer than `minimum` queries are pooled.
        """
        scores = self.scores(honest_features, honest_probabilities)
        strata = np.asarray(honest_probabilities).argmax(axis=1)
        self.reference_ = HonestReference.fit(scores, strata, minimum=minimum)
        self.tie_key_ = secrets.token_bytes(32) if self.tie_key is None else self.tie_key
        if not isinstance(self.tie_key_, bytes) or len(self.tie_key_) < 16:
            raise InvalidInput("tie_key must be at least 16 bytes")
        return self

    def evidence(
        self, features: ArrayLike, probabilities: ArrayLike, request: bytes = b""
    ) -> Floats:
        """Return the (n,) e-values of queries against "honest": at least 0, about 1 if honest.

        Parameters
        ----------
        features, probabilities :
            As for `scores`.
        request : bytes
            Digest of the request. Equal scores are ordered by a keyed function of it, of the
            query's position and of the score, so that asking again draws nothing new.
        """
        self._fitted("reference_")
        scores = self.scores(features, probabilities)
        strata = np.asarray(probabilities).argmax(axis=1)
        return self.reference_.evidence(scores, strata, _ties(self.tie_key_, request, scores.shape))


def _ties(key: bytes, request: bytes, shape: tuple[int, ...]) -> Floats:
    """Return uniforms in (0, 1) in the given shape, a keyed function of the request alone."""
    stream = hashlib.shake_256(len(key).to_bytes(8, "big") + key + request)
    words = np.frombuffer(stream.digest(8 * int(np.prod(shape))), dtype=">u8")
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5).reshape(shape) * 2.0**-52
