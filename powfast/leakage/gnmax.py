"""The formulas of GNMax, in NumPy: votes to log q, log q to Rényi DP, Rényi DP to epsilon.

K teachers vote, Gaussian noise of scale sigma is (or could be) added to the counts, the largest
noisy count is the answer. q bounds the probability that the answer is not the plurality's: the
smaller it is, the less the answer depends on any one teacher. Everything here is per query and
is a score, no privacy guarantee, unless noise was really added.

References: Papernot, Song, Mironov, Raghunathan, Talwar, Erlingsson, "Scalable Private Learning
with PATE" (2018, arXiv 1802.08908), below: PATE. Mironov, "Rényi Differential Privacy" (2017).
Balle, Barthe, Gaboardi, Hsu, Sato, "Hypothesis Testing Interpretations and Rényi Differential
Privacy" (2020). Canonne, Kamath, Steinke, "The Discrete Gaussian" (2020).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ORDERS_ICLR2022: Floats = np.concatenate([np.arange(2.0, 100.0, 0.5), np.logspace(2, 3, 200)])
"""The 396 orders of the paper's accounting."""

ORDERS: Floats = np.concatenate(
    [[1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.6, 1.75], np.geomspace(2.0, 1024.0, 54)]
)
"""64 orders, dense near 1, for composed reports."""

_TABLE_LIMIT = 1 << 14


def log_tail(z: float) -> float:
    """Return log Q(z), Q the upper tail of the standard normal, for z >= 0."""
    if z < 25.0:
        return math.log(0.5 * math.erfc(z * math.sqrt(0.5)))
    # Abramowitz and Stegun 26.2.12: the terms alternate and fall below 1e-16 from z = 25 on
    s = 1.0 / (z * z)
    series = -s * (1.0 - 3.0 * s * (1.0 - 5.0 * s * (1.0 - 7.0 * s * (1.0 - 9.0 * s))))
    return -0.5 * z * z - math.log(z * math.sqrt(2.0 * math.pi)) + math.log1p(series)


@lru_cache(maxsize=64)
def log_tail_table(sigma: float, size: int) -> Floats:
    """Return log Q(g / (sqrt 2 sigma)) for the gaps g = 0 .. size - 1; read-only, shared."""
    scale = math.sqrt(0.5) / sigma
    table = np.array([log_tail(gap * scale) for gap in range(size)])
    table.setflags(write=False)
    return table


def _log_tails(gaps: Integers, sigma: float) -> Floats:
    largest = int(gaps.max(initial=0))
    if largest < _TABLE_LIMIT:
        table: Floats = log_tail_table(sigma, 1 << largest.bit_length())[gaps]
        return table
    distinct, where = np.unique(gaps, return_inverse=True)
    scale = math.sqrt(0.5) / sigma
    values = np.array([log_tail(int(gap) * scale) for gap in distinct])
    return values[where].reshape(gaps.shape)


def log_q(votes: Integers, sigma: float) -> Floats:
    """Return log q per query: PATE, Proposition 7, capped at log(1 - 1/C).

    Parameters
    ----------
    votes : (n, C) int64, nonnegative counts
    sigma : noise scale, in votes

    Returns
    -------
    (n,) float64, at most 0
    """
    n, classes = votes.shape
    if n == 0:
        return np.empty(0)
    winner = votes.argmax(axis=1)
    rows = np.arange(n)
    terms = _log_tails(votes[rows, winner][:, None] - votes, sigma)
    terms[rows, winner] = -np.inf
    largest = terms.max(axis=1)
    total = largest + np.log(np.exp(terms - largest[:, None]).sum(axis=1))
    capped: Floats = np.minimum(total, math.log1p(-1.0 / classes))
    return capped


def _log1mexp(x: Floats) -> Floats:
    """Return log(1 - exp(x)) for x < 0 without cancellation at either end."""
    value: Floats = np.where(x > -0.6931, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))
    return value


def rdp(log_q: Floats, sigma: float, orders: Floats, *, bounded: bool = True) -> Floats:
    """Return the Rényi DP of each query at each order.

    PATE, Theorem 6 with the orders of Proposition 10 where they apply, else Proposition 8's
    order / sigma^2. `bounded=False` leaves out the minimum of the two, as published code for
    pkNN does; that is not monotone and serves reproduction only.

    Parameters
    ----------
    log_q : (n,) float64
    sigma : noise scale, in votes
    orders : (m,) float64, each above 1

    Returns
    -------
    (n, m) float64, in nats
    """
    flat = np.broadcast_to(orders / sigma**2, (len(log_q), len(orders)))
    with np.errstate(all="ignore"):  # where the theorem does not apply the numbers mean nothing
        lq = log_q[:, None]
        mu2 = sigma * np.sqrt(-lq)
        mu1 = mu2 + 1.0
        e1, e2 = mu1 / sigma**2, mu2 / sigma**2
        penalty = np.log1p(1.0 / (mu1 - 1.0)) + np.log1p(1.0 / (mu2 - 1.0))
        applies = (mu2 > 1.0) & (-lq > e2) & (lq <= (mu2 - 1.0) * e2 - mu2 * penalty)
        applies = applies & (orders < mu1)
        t = orders - 1.0
        log_p = _log1mexp(lq)
        log_a = log_p - _log1mexp((lq + e2) * (mu2 - 1.0) / mu2)
        log_b = e1 - lq / (mu1 - 1.0)
        dependent = np.logaddexp(log_p + t * log_a, lq + t * log_b) / t
    if bounded:
        dependent = np.minimum(dependent, flat)
    value: Floats = np.where(applies, dependent, flat)
    return value


def epsilon_classic(rdp: Floats, orders: Floats, delta: float) -> Floats:
    """Return the smallest rdp + log(1/delta) / (order - 1) over the last axis (Mironov 2017)."""
    value: Floats = (rdp + math.log(1.0 / delta) / (orders - 1.0)).min(axis=-1)
    return value


def epsilon_tight(rdp: Floats, orders: Floats, delta: float) -> Floats:
    """Return epsilon over the last axis, at least 0.

    Balle et al. 2020, Theorem 21; Canonne et al. 2020, Proposition 12.
    """
    value = rdp + np.log1p(-1.0 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1.0)
    smallest: Floats = np.maximum(value.min(axis=-1), 0.0)
    return smallest
