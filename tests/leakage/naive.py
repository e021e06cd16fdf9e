"""Slow, independent oracles: mpmath and plain loops, written from the formulas, not the package."""

from __future__ import annotations

import mpmath as mp
import numpy as np

mp.mp.dps = 60


def log_q(votes, sigma):
    top = max(range(len(votes)), key=lambda j: votes[j])
    tails = [
        mp.erfc((mp.mpf(int(votes[top])) - int(v)) / (2 * mp.mpf(float(sigma)))) / 2
        for j, v in enumerate(votes)
        if j != top
    ]
    return min(mp.log(mp.fsum(tails)), mp.log(1 - mp.mpf(1) / len(votes)))


def rdp(log_q, sigma, order, bounded=True):
    """Theorem 6 with Proposition 10's orders, 60 digits beyond those that 1 - q takes."""
    with mp.workdps(60 + int(abs(log_q) / 2)):
        return +_rdp(log_q, sigma, order, bounded)


def _rdp(log_q, sigma, order, bounded):
    lq, s, order = mp.mpf(log_q), mp.mpf(float(sigma)), mp.mpf(float(order))
    flat = order / s**2
    mu2 = s * mp.sqrt(-lq)
    mu1 = mu2 + 1
    e1, e2 = mu1 / s**2, mu2 / s**2
    if not (order < mu1 and mu2 > 1 and -lq > e2):
        return flat
    if lq > (mu2 - 1) * e2 - mu2 * (mp.log(1 + 1 / (mu1 - 1)) + mp.log(1 + 1 / (mu2 - 1))):
        return flat
    q, t = mp.exp(lq), order - 1
    a = (1 - q) / (1 - (q * mp.exp(e2)) ** ((mu2 - 1) / mu2))
    b = mp.exp(e1) / q ** (1 / (mu1 - 1))
    value = mp.log((1 - q) * a**t + q * b**t) / t
    return min(value, flat) if bounded else value


def epsilon(log_q, sigma, orders, delta, tight):
    """Smallest Renyi DP plus conversion over the orders."""
    values = []
    for order in (mp.mpf(float(o)) for o in orders):
        if tight:
            extra = mp.log(1 - 1 / order) - mp.log(delta * order) / (order - 1)
        else:
            extra = mp.log(1 / mp.mpf(delta)) / (order - 1)
        values.append(rdp(log_q, sigma, order) + extra)
    return max(min(values), mp.mpf(0))


def p_values(reference, scores, ties):
    """Smoothed conformal p-values of scores (n, m) against reference (r, m), by counting."""
    out = np.empty(scores.shape)
    for i, row in enumerate(scores):
        for d, score in enumerate(row):
            larger = sum(1 for s in reference[:, d] if s > score)
            equal = sum(1 for s in reference[:, d] if s == score)
            u = ties[i] if np.ndim(ties) == 1 else ties[i, d]
            out[i, d] = (larger + u * (equal + 1)) / (len(reference) + 1)
    return out


def own_direction(z, same, compared, luck, sums, fixed):
    """Account evidence of projections z (n, m), one query at a time; also sums and fixed after.

    same: for each query whether it was asked before; compared: for each the honest projections that
    it is compared with, and luck what its evidence is divided by.
    """
    k, first, second = sums
    fixed_k, fixed_first, fixed_second = fixed
    out = []
    for row, repeated, honest, divisor in zip(z, same, compared, luck, strict=True):
        due = [5]
        while due[-1] <= fixed_k:
            due.append(int(1.3 * due[-1] + 0.5))
        if k >= due[-1]:
            fixed_k, fixed_first, fixed_second = k, first, second
        if repeated:
            out.append(1.0)
            continue
        if fixed_k == 0:
            out.append(1.0)
        else:
            m = [a / (fixed_k + 20) for a in fixed_first]
            v = [
                max((b - 2 * c * a + fixed_k * c * c + 20) / (fixed_k + 20), 0.1)
                for a, b, c in zip(fixed_first, fixed_second, m, strict=True)
            ]

            def score(x, m=m, v=v):
                return 0.5 * sum(x[j] ** 2 - (x[j] - m[j]) ** 2 / v[j] for j in range(len(m)))

            own, theirs = score(row), [score(x) for x in honest]
            p = (1 + sum(s > own for s in theirs)) / (1 + len(theirs))
            before = p - 1 / (1 + len(theirs))
            mean = [(p**a - before**a) / (p - before) for a in (0.1, 0.2, 0.5)]
            out.append(sum(mean) / 3 / divisor)
        k += 1
        first = [a + x for a, x in zip(first, row, strict=True)]
        second = [b + x * x for b, x in zip(second, row, strict=True)]
    return out, (k, first, second), (fixed_k, fixed_first, fixed_second)
