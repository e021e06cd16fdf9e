"""The formulas of `gnmax` as Numba kernels: serial, one row at a time, without the GIL.

Imported when first needed: `import powfast.leakage` does not load Numba.
"""

# Numba infers the types: rows are 1-D and tables 2-D arrays of float64 or int64.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import math

from numba import njit

from powfast.leakage import gnmax

_jit = njit(nogil=True, error_model="numpy")
_log_tail = _jit(gnmax.log_tail)


@_jit
def _log_q_row(row, scale, tails):
    """Log q of one row of votes. `tails`: Q by gap where it is no smaller than 1e-290."""
    classes = len(row)
    winner = 0
    for j in range(1, classes):
        if row[j] > row[winner]:
            winner = j
    top = row[winner]
    nearest = top  # gap of the runner-up
    unvoted = 0
    total = 0.0
    small = len(tails)
    for j in range(classes):
        if row[j] == 0:
            unvoted += 1
        elif j != winner:
            gap = top - row[j]
            nearest = min(nearest, gap)
            if gap < small:
                total += tails[gap]
    if top == 0:
        unvoted -= 1
    if nearest < small:
        if top < small:
            total += unvoted * tails[top]
        result = math.log(total)
    else:
        first = _log_tail(nearest * scale)
        for j in range(classes):
            if row[j] != 0 and j != winner:
                total += math.exp(_log_tail((top - row[j]) * scale) - first)
        total += unvoted * math.exp(_log_tail(top * scale) - first)
        result = first + math.log(total)
    return min(result, math.log1p(-1.0 / classes))


@_jit
def log_q(votes, sigma, tails, out):
    """Fill out (n,) with log q of votes (n, C)."""
    scale = math.sqrt(0.5) / sigma
    for i in range(len(votes)):
        out[i] = _log_q_row(votes[i], scale, tails)


@_jit
def _log1mexp(x):
    return math.log(-math.expm1(x)) if x > -0.6931 else math.log1p(-math.exp(x))


@_jit
def _rdp_row(lq, sigma, orders, bounded, out):
    """Fill out (m,) with the Rényi DP at each order."""
    variance = sigma * sigma
    limit = 0.0  # Theorem 6 applies below this order
    mu2 = sigma * math.sqrt(-lq)
    mu1 = mu2 + 1.0
    e2 = mu2 / variance
    log_p = log_a = log_b = 0.0
    if mu2 > 1.0 and -lq > e2:
        penalty = math.log1p(1.0 / (mu1 - 1.0)) + math.log1p(1.0 / (mu2 - 1.0))
        if lq <= (mu2 - 1.0) * e2 - mu2 * penalty:
            limit = mu1
            log_p = _log1mexp(lq)
            log_a = log_p - _log1mexp((lq + e2) * (mu2 - 1.0) / mu2)
            log_b = mu1 / variance - lq / (mu1 - 1.0)
    for k in range(len(orders)):
        order = orders[k]
        value = order / variance
        if order < limit:
            t = order - 1.0
            a = log_p + t * log_a
            b = lq + t * log_b
            dependent = (max(a, b) + math.log1p(math.exp(-abs(a - b)))) / t
            value = min(value, dependent) if bounded else dependent
        out[k] = value


@_jit
def rdp(log_q, sigma, orders, bounded, out):
    """Fill out (n, m) with the Rényi DP of each query at each order."""
    for i in range(len(log_q)):
        _rdp_row(log_q[i], sigma, orders, bounded, out[i])


@_jit
def epsilon(log_q, sigma, orders, bounded, offsets, scratch, out):
    """Fill out (n,) with the smallest rdp + offset over the orders; scratch: (m,)."""
    for i in range(len(log_q)):
        _rdp_row(log_q[i], sigma, orders, bounded, scratch)
        best = math.inf
        for k in range(len(orders)):
            best = min(best, scratch[k] + offsets[k])
        out[i] = best
