"""From votes to one number per query, by a metric's name, on the fastest engine present."""

from __future__ import annotations

from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput, MissingExtra
from powfast.leakage import _checks, gnmax
from powfast.leakage.arrays import Floats

Metric = Literal["logq", "rdp", "iclr2022", "iclr2022-pknn", "eps"]
Engine = Literal["numba", "numpy"]

METRICS = ("logq", "rdp", "iclr2022", "iclr2022-pknn", "eps")
ENGINES = ("numba", "numpy")

WARM_CALLS = 20
"""How often a path is taken before it is as fast as it gets."""

_CELLS = {"rdp": 1 << 18, "iclr2022": 1 << 14, "eps": 1 << 14}
_TOLERANCE = 1e-3  # how far a table's entry may lie above the exact value, relatively


def from_votes(
    votes: ArrayLike,
    sigma: float = 10.0,
    metric: Metric = "logq",
    *,
    delta: float = 1e-5,
    order: float = 2.0,
    teachers: int | None = None,
    exact: bool = True,
    engine: Engine | None = None,
) -> Floats:
    """Return one score per query from teachers' votes: larger means the answer reveals more.

    Parameters
    ----------
    votes : (n, C) whole numbers
        How many of the K teachers chose each class; every row sums to the same K.
    sigma : float
        Noise scale in votes. K / 25 is a good choice (10 for 250 teachers, 2 for 50): larger
        calls every query contested, smaller none.
    metric : {"logq", "rdp", "iclr2022", "iclr2022-pknn", "eps"}
        "logq": log q of PATE's Proposition 7, the strictest ordering.
        "rdp": data-dependent Rényi DP at `order` over the data-independent one, in [0, 1].
        "iclr2022": epsilon at `delta` of each query by itself over the paper's 396 orders.
        "iclr2022-pknn": the same without the data-independent bound, as published for pkNN. Not
        monotone: more agreement may score higher. For reproduction only.
        "eps": the same with the tight conversion over `ORDERS`. To add queries up use
        `Accountant`; sums of epsilons overstate.
    delta : float
        Of the epsilons.
    order : float
        Of "rdp": above 1. Small orders tell contested from unanimous queries best.
    teachers : int, optional
        K, where every row has to sum to it.
    exact : bool
        False answers "rdp", "iclr2022" and "eps" from a table: never below the exact value, at
        most 0.1 % above it, in tens of nanoseconds.
    engine : {"numba", "numpy"}, optional
        Numba where it is installed, otherwise NumPy; both agree.

    Returns
    -------
    (n,) float64

    Raises
    ------
    InvalidInput
        Votes are not finite, whole, nonnegative (n, C) counts with equal sums, or a parameter
        is out of its range.
    MissingExtra
        Numba is asked for and not installed.

    References
    ----------
    Papernot et al., "Scalable Private Learning with PATE" (2018), Propositions 7, 8 and 10,
    Theorem 6. Dziedzic et al., "Increasing the Cost of Model Extraction with Calibrated Proof
    of Work" (ICLR 2022).
    """
    return _scorer(sigma, metric, delta, order, exact, engine).of_votes(votes, teachers)


def from_labels(
    labels: ArrayLike,
    classes: int,
    sigma: float = 10.0,
    metric: Metric = "logq",
    *,
    delta: float = 1e-5,
    order: float = 2.0,
    exact: bool = True,
    engine: Engine | None = None,
) -> Floats:
    """Return what `from_votes` does, from the teachers' labels (n, K), integers below `classes`.

    Takes time in K alone: meant for many classes. Other parameters and errors as there.
    """
    return _scorer(sigma, metric, delta, order, exact, engine).of_labels(labels, classes)


def warmup(
    sigma: float = 10.0,
    metric: Metric = "logq",
    *,
    delta: float = 1e-5,
    order: float = 2.0,
    exact: bool = True,
) -> None:
    """Make the first request as fast as the next: compile, tabulate, and score some batches.

    Takes the parameters that `from_votes` will be called with. The interpreter adapts to a
    function only after several calls, hence the repetitions.
    """
    votes = np.repeat(np.arange(64)[:, None] // 3, 10, axis=1)
    votes[:, 0] = 250 - votes[:, 1:].sum(axis=1)
    score = _scorer(sigma, metric, delta, order, exact, None)
    for _ in range(WARM_CALLS):
        for batch in (votes, votes[:1], votes.astype(np.float64)):
            from_votes(batch, sigma, metric, delta=delta, order=order, exact=exact)
        score(votes[:1])
        score.of_labels(np.array([[0, 1, 1]]), 2)


@lru_cache(maxsize=1)
def _kernels() -> Any:
    """Return the module of Numba kernels, None where Numba is not installed."""
    if find_spec("numba") is None:
        return None
    return import_module("powfast.leakage.kernels")


class Scorer:
    """`from_votes` with its parameters checked and its tables built once.

    Parameters and errors as there. For servers that score queries one by one: a call costs about
    1 us, where `from_votes` first has to find its tables.
    """

    def __init__(
        self,
        sigma: float = 10.0,
        metric: Metric = "logq",
        *,
        delta: float = 1e-5,
        order: float = 2.0,
        exact: bool = True,
        engine: Engine | None = None,
    ) -> None:
        if metric not in METRICS:
            raise InvalidInput(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
        self.sigma: float = _checks.positive(sigma, "sigma")
        self.order: float = _checks.positive(order, "order")
        if self.order <= 1.0:
            raise InvalidInput(f"order must be above 1, not {order!r}")
        self.metric = metric
        self._conversion = gnmax.conversion(metric, _checks.probability(delta, "delta"))
        self._engine: Engine = _engine(engine)
        self._kernels = _kernels() if self._engine == "numba" else None
        self._table = None if exact or metric not in _CELLS else self._tabulate(_CELLS[metric])
        self._tails = gnmax.tail_table(self.sigma).copy()
        self._tails[0] = 0.0  # the kernels count ties
        if self._kernels is not None and self._table is None:
            self._kernel = partial(self._kernels.log_q, self.sigma, self._tails)
        elif self._kernels is not None:
            look_up = self._kernels.log_q_and_look_up
            self._kernel = partial(look_up, self._table, self.sigma, self._tails)
        self._one_call = metric == "logq" or self._table is not None

    def of_votes(self, votes: ArrayLike, teachers: int | None = None) -> Floats:
        """Return the (n,) float64 scores of votes (n, C) of whole numbers."""
        known = 0 if teachers is None else _checks.whole(teachers, "teachers")
        if self._kernels is None:
            return self._finish(gnmax.log_q(_checks.votes(votes, teachers), self.sigma))
        try:
            out = np.empty(len(votes))  # type: ignore[arg-type]
            left = self._kernel(votes, known, out)
        except TypeError:  # no C-contiguous int64: make it so, or say what is wrong
            votes = _checks.votes(votes, teachers)
            out = np.empty(len(votes))
            left = self._kernel(votes, known, out)
        if left < 0:
            _checks.votes(votes, teachers)  # says what is wrong
        return out if self._one_call and left == 0 else self._finish(out)

    __call__ = of_votes

    def of_labels(self, labels: ArrayLike, classes: int) -> Floats:
        """Return the (n,) float64 scores of the teachers' labels (n, K) below `classes`."""
        codes = _checks.integers(labels, "labels")
        classes = _checks.whole(classes, "classes", 2)
        if codes.ndim != 2 or codes.shape[1] == 0:
            raise InvalidInput(f"labels must be (n, K) with K >= 1, not {codes.shape}")
        out = np.empty(len(codes))
        if self._kernels is None:
            wrong = codes.size and (codes.min() < 0 or codes.max() >= classes)
            if not wrong:
                out = gnmax.log_q_of_labels(codes, classes, self.sigma)
        else:
            wrong = self._kernels.log_q_of_labels(self.sigma, self._tails, codes, classes, out)
        if wrong:
            raise InvalidInput(f"labels must lie between 0 and {classes - 1}")
        done = (
            self._kernels is not None
            and self._table is not None
            and self._kernels.look_up(self._table, out) == 0
        )
        return out if done else self._finish(out)

    def _finish(self, values: Floats) -> Floats:
        """Return the metric of values: log q, or (not negative) what a table already answered."""
        if self.metric == "logq":
            return values
        if self._table is None:
            return self._exact(values)
        if self._kernels is None:
            values = gnmax.look_up(self._table, values)
        open_ = values < 0.0
        if open_.any():
            values[open_] = self._exact(values[open_])
        return values

    def _exact(self, log_q: Floats) -> Floats:
        """Return the metric of log q (n,)."""
        if self.metric == "rdp":
            share: Floats = self._rdp(log_q)[:, 0] * (self.sigma**2 / self.order)
            return np.minimum(share, 1.0)
        orders, offsets = self._conversion
        bounded = self.metric != "iclr2022-pknn"
        if self._kernels is None:
            rdp = gnmax.rdp(log_q, self.sigma, orders, bounded=bounded)
            out: Floats = (rdp + offsets).min(axis=1)
        else:
            out = np.empty(len(log_q))
            flat = gnmax.running_minimum(orders / self.sigma**2 + offsets)
            self._kernels.epsilon(log_q, self.sigma, orders, bounded, offsets, flat, out)
        return np.maximum(out, 0.0)

    def _rdp(self, log_q: Floats) -> Floats:
        return rdp(log_q, self.sigma, np.array([self.order]), engine=self._engine)

    def _tabulate(self, cells: int) -> Floats:
        """Return an upper bound of the metric per cell of log q, -1 where it is not tight.

        The metric never falls as log q rises, so its value at a cell's right end bounds it, and
        the value at the left end tells how tightly. The last factor covers rounding.
        """
        edges = np.linspace(gnmax.TABLE_LOWEST, 0.0, cells + 1)
        edges[-1] = -1e-300
        values = np.concatenate([self._exact(part) for part in np.array_split(edges, 64)])
        upper = values[1:] * (1.0 + 1e-9)
        upper[upper > values[:-1] * (1.0 + _TOLERANCE)] = -1.0
        return upper  # writable: Numba takes longer to accept what is not


@lru_cache(maxsize=64, typed=True)
def _made(
    sigma: float, metric: Metric, delta: float, order: float, exact: bool, engine: Engine | None
) -> Scorer:
    return Scorer(sigma, metric, delta=delta, order=order, exact=exact, engine=engine)


def _scorer(
    sigma: float, metric: Metric, delta: float, order: float, exact: bool, engine: Engine | None
) -> Scorer:
    try:
        return _made(sigma, metric, delta, order, exact, engine)
    except TypeError as error:  # what cannot be a key of the cache is no parameter either
        raise InvalidInput(f"sigma, delta and order must be numbers: {error}") from None


def rdp(
    log_q: Floats,
    sigma: float,
    orders: Floats = gnmax.ORDERS,
    *,
    bounded: bool = True,
    engine: Engine | None = None,
) -> Floats:
    """Return the (n, m) Rényi DP of queries with log q (n,) at rising orders (m,), in nats.

    As `gnmax.rdp`, on either engine.
    """
    if _engine(engine) == "numpy":
        return gnmax.rdp(log_q, sigma, orders, bounded=bounded)
    out = np.empty((len(log_q), len(orders)))
    _kernels().rdp(log_q, sigma, orders, bounded, out)
    return out


def _engine(engine: Engine | None) -> Engine:
    if engine is not None and engine not in ENGINES:
        raise InvalidInput(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    if engine == "numba" and _kernels() is None:
        raise MissingExtra("engine 'numba' needs Numba: pip install 'powfast[leakage]'")
    return engine or ("numpy" if _kernels() is None else "numba")
