"""From votes to one number per query, by a metric's name, on the fastest engine present."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput, MissingExtra
from powfast.leakage import _checks, gnmax
from powfast.leakage._checks import Floats, Integers

Metric = Literal["logq", "rdp", "iclr2022"]
Engine = Literal["numba", "numpy"]

METRICS = ("logq", "rdp", "iclr2022")
ENGINES = ("numba", "numpy")

_SMALLEST_TAIL = 1e-290
_MOST_TAILS = 1 << 14


def from_votes(
    votes: ArrayLike,
    sigma: float = 10.0,
    metric: Metric = "logq",
    *,
    delta: float = 1e-5,
    order: float = 2.0,
    teachers: int | None = None,
    engine: Engine | None = None,
) -> Floats:
    """Return one score per query from teachers' votes: larger means the answer reveals more.

    Parameters
    ----------
    votes : (n, C) whole numbers
        How many of the K teachers chose each class; every row sums to the same K.
    sigma : float
        Noise scale in votes; K / 25 is a good choice (10 for 250 teachers, 2 for 50).
    metric : {"logq", "rdp", "iclr2022"}
        "logq": log q of PATE's Proposition 7, the strictest ordering.
        "rdp": data-dependent Rényi DP at `order` over the data-independent one, in [0, 1].
        "iclr2022": epsilon at `delta` of each query by itself over the paper's 396 orders.
    delta : float
        Only for "iclr2022".
    order : float
        Only for "rdp": above 1. Small orders tell contested from unanimous queries best.
    teachers : int, optional
        K, where every row has to sum to it.
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
    sigma = _checks.positive(sigma, "sigma")
    counts = _checks.votes(votes, teachers)
    numba = _use_numba(engine)
    log_q = _log_q(counts, sigma, numba)
    if metric == "logq":
        return log_q
    if metric == "rdp":
        order = _checks.positive(order, "order")
        if order <= 1.0:
            raise InvalidInput(f"order must be above 1, not {order}")
        return _rdp(log_q, sigma, np.array([order]), numba)[:, 0] / (order / sigma**2)
    if metric == "iclr2022":
        return _epsilon(log_q, sigma, _checks.probability(delta, "delta"), numba)
    raise InvalidInput(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")


def warmup() -> None:
    """Compile every kernel now, so that no request waits for it; without Numba do nothing."""
    if _kernels() is not None:
        votes = np.array([[3, 1, 0], [2, 2, 0]])
        for metric in METRICS:
            from_votes(votes, 1.0, metric, engine="numba")  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def _kernels() -> Any:
    """Return the module of Numba kernels, None where Numba is not installed."""
    if find_spec("numba") is None:
        return None
    return import_module("powfast.leakage.kernels")


def _use_numba(engine: Engine | None) -> bool:
    if engine is not None and engine not in ENGINES:
        raise InvalidInput(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    if engine == "numpy":
        return False
    present = _kernels() is not None
    if engine == "numba" and not present:
        raise MissingExtra("engine 'numba' needs Numba: pip install 'powfast[leakage]'")
    return present


@lru_cache(maxsize=64)
def _tails(sigma: float, size: int) -> Floats:
    """Return Q by gap, as far as it stays clear of underflow."""
    table = np.exp(gnmax.log_tail_table(sigma, size))
    table = table[table > _SMALLEST_TAIL]
    table.setflags(write=False)
    return table


def _log_q(counts: Integers, sigma: float, numba: bool) -> Floats:
    if not numba:
        return gnmax.log_q(counts, sigma)
    largest = int(counts.max(initial=0))
    tails = _tails(sigma, min(1 << largest.bit_length(), _MOST_TAILS))
    out = np.empty(len(counts))
    _kernels().log_q(counts, sigma, tails, out)
    return out


def _rdp(log_q: Floats, sigma: float, orders: Floats, numba: bool) -> Floats:
    if not numba:
        return gnmax.rdp(log_q, sigma, orders)
    out = np.empty((len(log_q), len(orders)))
    _kernels().rdp(log_q, sigma, orders, True, out)
    return out


def _epsilon(log_q: Floats, sigma: float, delta: float, numba: bool) -> Floats:
    orders = gnmax.ORDERS_ICLR2022
    if not numba:
        return gnmax.epsilon_classic(gnmax.rdp(log_q, sigma, orders), orders, delta)
    offsets = math.log(1.0 / delta) / (orders - 1.0)
    out = np.empty(len(log_q))
    _kernels().epsilon(log_q, sigma, orders, True, offsets, np.empty(len(orders)), out)
    return out
