"""What many answers reveal together: Rényi DP added up, read as one epsilon."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage import _checks, gnmax
from powfast.leakage.arrays import Floats
from powfast.leakage.storage import Stored
from powfast.leakage.votes import Engine, from_votes, rdp

Composed = Literal["eps", "iclr2022", "iclr2022-pknn"]


class Accountant(Stored):
    """Adds the Rényi DP of answers; accountants of several servers merge by adding.

    The result is a differential-privacy guarantee only if Gaussian noise of scale `sigma` was
    really added to the votes before each answer, and even then a data-dependent one, which must
    not be published as it is. Without noise it is a score: how contested the queries were.

    Parameters
    ----------
    sigma : float
        Noise scale in votes.
    metric : {"eps", "iclr2022", "iclr2022-pknn"}
        How the sum is read: "eps" by the tight conversion over 64 orders, the others as published
        with the paper (see `from_votes`), over 396.

    Attributes
    ----------
    total : (m,) float64, Rényi DP in nats at the metric's orders
    queries : int
    """

    _settings = ("sigma", "metric", "queries")
    _arrays = ("total",)

    def __init__(self, sigma: float = 10.0, metric: Composed = "eps") -> None:
        if metric not in ("eps", "iclr2022", "iclr2022-pknn"):
            raise InvalidInput(f"metric must be eps, iclr2022 or iclr2022-pknn, not {metric!r}")
        self.sigma: float = _checks.positive(sigma, "sigma")
        self.metric = metric
        self.queries: int = 0
        self.total: Floats = np.zeros(len(gnmax.conversion(metric, 0.5)[0]))

    def add(self, votes: ArrayLike, *, engine: Engine | None = None) -> Self:
        """Add the queries with votes (n, C); return self. Errors as for `from_votes`."""
        log_q = from_votes(votes, self.sigma, "logq", engine=engine)
        orders, _ = gnmax.conversion(self.metric, 0.5)
        bounded = self.metric != "iclr2022-pknn"
        distinct, counts = np.unique(log_q, return_counts=True)
        each = rdp(distinct, self.sigma, orders, bounded=bounded, engine=engine)
        self.total = self.total + counts @ each
        self.queries += len(log_q)
        return self

    def merge(self, other: Accountant) -> Self:
        """Add what another accountant of the same sigma has seen; return self."""
        if (other.sigma, other.metric) != (self.sigma, self.metric):
            raise InvalidInput(f"only accountants of sigma {self.sigma}, {self.metric} can merge")
        self.total = self.total + other.total
        self.queries += other.queries
        return self

    def epsilon(self, delta: float = 1e-5) -> float:
        """Return the epsilon at `delta` of all queries together."""
        _, offsets = gnmax.conversion(self.metric, _checks.probability(delta, "delta"))
        return max(0.0, float((self.total + offsets).min()))
