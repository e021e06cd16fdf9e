"""The formulas of `gnmax` as Numba kernels: serial, row by row, without the GIL.

Imported when first needed: `import powfast.leakage` does not load Numba. Signatures are explicit,
so the import compiles everything and no request ever waits for a compiler.
"""

# Numba knows the types from the signatures; helpers are compiled into their callers.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float64, int64, njit, types, uint64

from powfast.leakage import gnmax

_jit = njit(nogil=True, error_model="numpy", forceinline=True)
_sum = njit(nogil=True, error_model="numpy", forceinline=True, fastmath={"reassoc"})
_log_tail = _jit(gnmax.log_tail)

_VOTES = types.Array(int64, 2, "C", readonly=True)
_INPUT = types.Array(float64, 1, "C", readonly=True)
_OUTPUT = float64[::1]

_MOST = gnmax.MOST_VOTES
_LOWEST = gnmax.TABLE_LOWEST


def _kernel(*arguments: Any, result: Any = types.void) -> Any:
    return njit(result(*arguments), nogil=True, error_model="numpy")


# Rows are read by index: over `for count in row` LLVM gathers what lies side by side.


@_sum
def _sum_row(row):
    """Return (sum, largest, smallest) of a row."""
    total, top, least = 0, row[0], row[0]
    for j in range(row.size):
        total += row[j]
        top = max(top, row[j])
        least = min(least, row[j])
    return total, top, least


@_sum
def _tails_of_part(row, start, stop, top, tails):
    """Return (winners, sum of Q by gap) over part of a row."""
    ties, total = 0, 0.0
    for j in range(start, stop):
        ties += row[j] == top
        total += tails[uint64(top - row[j])]  # 0 for a winner
    return ties, total


@_jit
def _tails_of_row(row, unvoted, top, tails):
    """Return the sum of Q by gap over a row and `unvoted` more classes, without one winner.

    Most of many classes get no vote: eight such at a time are stepped over.
    """
    whole = row.size - row.size % 8
    ties, total = _tails_of_part(row, whole, row.size, top, tails)
    for start in range(0, whole, 8):
        some = 0
        for j in range(start, start + 8):
            some |= row[j]
        if some == 0:
            unvoted += 8
        else:
            more = _tails_of_part(row, start, start + 8, top, tails)
            ties, total = ties + more[0], total + more[1]
    return total + unvoted * tails[uint64(top)] + 0.5 * (ties - 1)


@_jit
def _far_tails_of_row(row, unvoted, top, scale):
    """Return log of the same sum where Q may underflow, `unvoted` more classes included."""
    nearest = top
    ties = 0
    for count in row:
        ties += count == top
        if count != top:
            nearest = min(nearest, top - count)
    first = _log_tail(0.0 if ties > 1 else nearest * scale)
    total = ties - 1 + unvoted * math.exp(_log_tail(top * scale) - first)
    for count in row:
        if count != top:
            total += math.exp(_log_tail((top - count) * scale) - first)
    return first + math.log(total)


@_jit
def _log_q_row(row, unvoted, top, scale, tails):
    """Log q of one row of counts and `unvoted` more classes without a vote.

    `tails` holds Q by gap as far as it does not underflow, and 0 for no gap.
    """
    if top < len(tails):
        return math.log(_tails_of_row(row, unvoted, top, tails))
    return _far_tails_of_row(row, unvoted, top, scale)


@_kernel(float64, _INPUT, _VOTES, int64, _OUTPUT, result=int64)
def log_q(sigma, tails, votes, teachers, out):
    """Fill out (n,) with log q of votes (n, C); return 0, or -1 where a row is malformed.

    teachers: what every row has to sum to; 0: what the first row sums to.
    """
    if votes.shape[1] < 2:
        return -1
    scale = math.sqrt(0.5) / sigma
    cap = math.log1p(-1.0 / votes.shape[1])
    for i in range(len(votes)):
        row = votes[i]
        total, top, least = _sum_row(row)
        if teachers == 0:
            teachers = total
        if total != teachers or least < 0 or not 0 < top <= _MOST:
            return -1
        out[i] = min(_log_q_row(row, 0, top, scale, tails), cap)
    return 0


@_kernel(float64, _INPUT, _VOTES, int64, _OUTPUT, result=int64)
def log_q_of_labels(sigma, tails, labels, classes, out):
    """Fill out (n,) with log q of teachers' labels (n, K) in 0 .. classes - 1; return 0 or -1.

    Takes time in K, not in the number of classes.
    """
    scale = math.sqrt(0.5) / sigma
    cap = math.log1p(-1.0 / classes)
    counts = np.zeros(classes, dtype=np.int64)
    row = np.empty(labels.shape[1], dtype=np.int64)
    for i in range(len(labels)):
        voted = top = 0
        for label in labels[i]:
            if label < 0 or label >= classes:
                return -1
            counts[label] += 1
        for label in labels[i]:
            if counts[label] > 0:
                row[voted] = counts[label]
                top = max(top, counts[label])
                counts[label] = 0
                voted += 1
        out[i] = min(_log_q_row(row[:voted], classes - voted, top, scale, tails), cap)
    return 0


@_kernel(_INPUT, _OUTPUT, result=int64)
def look_up(table, values):
    """Replace log q in values by the table's entry just above it; return how many have none."""
    scale = len(table) / -_LOWEST
    left = 0
    for i in range(len(values)):
        entry = -1.0
        if values[i] > _LOWEST:
            entry = table[int((values[i] - _LOWEST) * scale)]
        if entry >= 0.0:
            values[i] = entry
        else:
            left += 1
    return left


@_kernel(_INPUT, float64, _INPUT, _VOTES, int64, _OUTPUT, result=int64)
def log_q_and_look_up(table, sigma, tails, votes, teachers, out):
    """Do `log_q` and `look_up` in one call; return -1, or how many are left."""
    if log_q(sigma, tails, votes, teachers, out) < 0:
        return -1
    return look_up(table, out)


@_jit
def _log1mexp(x):
    return math.log(-math.expm1(x)) if x > -0.6931 else math.log1p(-math.exp(x))


@_jit
def _theorem6(lq, sigma):
    """Return (order below which Theorem 6 applies, log(1 - q), log A, log B)."""
    variance = sigma * sigma
    mu2 = sigma * math.sqrt(-lq)
    mu1 = mu2 + 1.0
    e2 = mu2 / variance
    if not (mu2 > 1.0 and -lq > e2):
        return 0.0, 0.0, 0.0, 0.0
    penalty = math.log1p(1.0 / (mu1 - 1.0)) + math.log1p(1.0 / (mu2 - 1.0))
    if not lq <= (mu2 - 1.0) * e2 - mu2 * penalty:
        return 0.0, 0.0, 0.0, 0.0
    log_p = _log1mexp(lq)
    log_a = log_p - _log1mexp((lq + e2) * (mu2 - 1.0) / mu2)
    return mu1, log_p, log_a, mu1 / variance - lq / (mu1 - 1.0)


@_jit
def _dependent(t, lq, log_p, log_a, log_b):
    """Theorem 6 at order t + 1: log((1 - q) A^t + q B^t) / t."""
    if t < 0.5 and t * log_b < 700.0:  # the terms nearly add up to one
        rise = math.exp(log_p) * math.expm1(t * log_a) + math.exp(lq) * math.expm1(t * log_b)
        return math.log1p(rise) / t
    a = log_p + t * log_a
    b = lq + t * log_b
    if b - a > 40.0:  # the smaller term is below the larger one's last digit
        return b / t
    if a - b > 40.0:  # log1p(x) = x, but a may be smaller still
        return (a + math.exp(b - a)) / t
    return (max(a, b) + math.log1p(math.exp(-abs(a - b)))) / t


@_kernel(_INPUT, float64, _INPUT, types.boolean, float64[:, ::1])
def rdp(log_q, sigma, orders, bounded, out):
    """Fill out (n, m) with the Rényi DP of each query at each of m rising orders."""
    flat = 1.0 / (sigma * sigma)
    for i in range(len(log_q)):
        limit, log_p, log_a, log_b = _theorem6(log_q[i], sigma)
        covered = np.searchsorted(orders, limit)
        for k in range(covered):
            value = _dependent(orders[k] - 1.0, log_q[i], log_p, log_a, log_b)
            out[i, k] = min(value, orders[k] * flat) if bounded else value
        for k in range(covered, len(orders)):
            out[i, k] = orders[k] * flat


@_kernel(_INPUT, float64, _INPUT, types.boolean, _INPUT, _INPUT, _OUTPUT)
def epsilon(log_q, sigma, orders, bounded, offsets, flat, out):
    """Fill out (n,) with the smallest rdp + offset over the orders.

    flat: (m + 1,) its minimum from order k on where Theorem 6 does not apply.
    """
    for i in range(len(log_q)):
        limit, log_p, log_a, log_b = _theorem6(log_q[i], sigma)
        covered = np.searchsorted(orders, limit)
        best = flat[0] if bounded else flat[covered]
        for k in range(covered):
            value = _dependent(orders[k] - 1.0, log_q[i], log_p, log_a, log_b)
            best = min(best, value + offsets[k])
        out[i] = best
