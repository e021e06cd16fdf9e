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

from powfast.leakage.arrays import Floats, Integers

ORDERS_ICLR2022: Floats = np.concatenate([np.arange(2.0, 100.0, 0.5), np.logspace(2, 3, 200)])
"""The 396 orders of the paper's accounting."""

ORDERS: Floats = np.concatenate(
    [[1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.6, 1.75], np.geomspace(2.0, 1024.0, 54)]
)
"""64 orders, dense near 1, for composed reports."""

MOST_VOTES = 2**31
"""Votes a class may get; sums of them stay exact."""

TABLE_LOWEST = -200.0
"""Tables by log q reach from here to 0."""

_TABLE_LIMIT = 1 << 14
_SMALLEST_TAIL = 1e-290
_NEVER = np.iinfo(np.int64).max  # the gap of the winner to itself


def log_tail(z: float) -> float:
    """Return log Q(z), Q the upper tail of the standard normal, for z >= 0."""
    if z < 25.0:
        return math.log(0.5 * math.erfc(z * math.sqrt(0.5)))
    # Abramowitz and Stegun 26.2.12, five terms: from z = 25 on they are off by less than 2e-13,
    # in a logarithm below -316
    s = 1.0 / (z * z)
    series = -s * (1.0 - 3.0 * s * (1.0 - 5.0 * s * (1.0 - 7.0 * s * (1.0 - 9.0 * s))))
    return -0.5 * z * z - math.log(z * math.sqrt(2.0 * math.pi)) + math.log1p(series)


@lru_cache(maxsize=64)
def tail_table(sigma: float) -> Floats:
    """Return Q(g / (sqrt 2 sigma)) for gaps g = 0, 1 .. as far as it is clear of underflow."""
    scale = math.sqrt(0.5) / sigma
    size = min(int(36.4 / scale) + 1, _TABLE_LIMIT)
    table = np.array([math.exp(log_tail(gap * scale)) for gap in range(size)])
    table = table[table > _SMALLEST_TAIL]
    table.setflags(write=False)
    return table


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
    gaps = votes[rows, winner][:, None] - votes
    gaps[rows, winner] = _NEVER
    table = tail_table(sigma)
    nearest = gaps.min(axis=1)
    with np.errstate(divide="ignore"):  # rows beyond the table follow
        total = np.log(np.append(table, 0.0)[np.minimum(gaps, len(table))].sum(axis=1))
    far = nearest >= len(table)
    if far.any():
        total[far] = _log_sum_tails(gaps[far], sigma)
    capped: Floats = np.minimum(total, math.log1p(-1.0 / classes))
    return capped


def log_q_of_labels(labels: Integers, classes: int, sigma: float) -> Floats:
    """Return log q per query from the teachers' labels (n, K) in 0 .. classes - 1."""
    return log_q(count(labels, classes), sigma)


def count(labels: Integers, classes: int) -> Integers:
    """Return the (n, C) votes that labels (n, K) in 0 .. classes - 1 amount to."""
    cells = labels + np.arange(len(labels))[:, None] * classes
    return np.bincount(cells.ravel(), minlength=len(labels) * classes).reshape(-1, classes)


def _log_sum_tails(gaps: Integers, sigma: float) -> Floats:
    """Return the log of the sum of Q over each row's gaps, where Q itself would underflow."""
    scale = math.sqrt(0.5) / sigma
    distinct, where = np.unique(gaps, return_inverse=True)
    values = [-math.inf if gap == _NEVER else log_tail(int(gap) * scale) for gap in distinct]
    terms = np.array(values)[where].reshape(gaps.shape)
    largest = terms.max(axis=1)
    total: Floats = largest + np.log(np.exp(terms - largest[:, None]).sum(axis=1))
    return total


def look_up(table: Floats, log_q: Floats) -> Floats:
    """Return the table's entry just above each log q, log q itself where it has none."""
    scale = len(table) / -TABLE_LOWEST
    cell = ((np.maximum(log_q, TABLE_LOWEST) - TABLE_LOWEST) * scale).astype(np.int64)
    entry = table[cell]
    found: Floats = np.where((log_q > TABLE_LOWEST) & (entry >= 0.0), entry, log_q)
    return found


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
        apart = np.logaddexp(log_p + t * log_a, lq + t * log_b)
        # near order 1 the terms nearly add up to one
        rise = np.exp(log_p) * np.expm1(t * log_a) + np.exp(lq) * np.expm1(t * log_b)
        dependent = np.where((t < 0.5) & (t * log_b < 700.0), np.log1p(rise), apart) / t
    if bounded:
        dependent = np.minimum(dependent, flat)
    value: Floats = np.where(applies, dependent, flat)
    return value


def conversion(metric: str, delta: float) -> tuple[Floats, Floats]:
    """Return (orders, offsets): epsilon at delta is the smallest rdp + offset, at least 0.

    "eps" is the tight conversion (Balle et al. 2020, Theorem 21; Canonne et al. 2020,
    Proposition 12) over `ORDERS`, anything else the classic one (Mironov 2017, Proposition 3)
    over `ORDERS_ICLR2022`.
    """
    if metric == "eps":
        tight = np.log1p(-1.0 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1.0)
        return ORDERS, tight
    return ORDERS_ICLR2022, math.log(1.0 / delta) / (ORDERS_ICLR2022 - 1.0)


def running_minimum(values: Floats) -> Floats:
    """Return (m + 1,) the minimum of values[k:] for every k, infinity at the end."""
    return np.append(np.minimum.accumulate(values[::-1])[::-1], np.inf)


def confident_rdp(
    votes: Integers, threshold: float, sigma_threshold: float, sigma: float, orders: Floats
) -> tuple[Floats, Floats]:
    """Return Confident-GNMax's (n,) probabilities of an answer and (n, m) expected Rényi DP.

    PATE, Algorithm 1: the largest count plus noise of scale `sigma_threshold` has to reach
    `threshold`, only then GNMax with noise of scale `sigma` answers. The check is a Gaussian
    mechanism of sensitivity 1 on one number, whose outcome flips with probability at most the
    smaller of its two probabilities; its cost is always paid, GNMax's only if it answers.
    """
    z = (threshold - votes.max(axis=1)) / sigma_threshold
    log_near = np.array([log_tail(abs(float(value))) for value in z])  # of the rarer outcome
    rarer = np.exp(log_near)
    answered: Floats = np.where(z > 0.0, rarer, 1.0 - rarer)
    check = rdp(np.minimum(log_near, -math.log(2.0)), math.sqrt(2.0) * sigma_threshold, orders)
    return answered, check + answered[:, None] * rdp(log_q(votes, sigma), sigma, orders)
