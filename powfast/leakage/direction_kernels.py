"""The walk of `OwnDirection` along a request's queries as a Numba kernel: serial, without the GIL.

Imported when first needed; the explicit signature compiles it then.
"""

# Numba knows the types from the signature.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float32, float64, int64, njit, types, uint64

FIRST = 5
PRIOR = 20.0
LEAST_VARIANCE = 0.1
CLIP = 4.0

# The filter of queries asked before: counters of 2 bits, so that those of requests at once add up.
WORDS, COUNTERS = 127, 24
_CELL = 1.0 / 64.0  # in honest spreads: so near are queries that are the same, but for rounding
_COORDINATES = 8
_FAR = 2.0**40

_jit = njit(nogil=True, error_model="numpy", forceinline=True)


@_jit
def _next_checkpoint(count):
    return math.floor(1.3 * count + 0.5) if count > 0.0 else FIRST


@_jit
def _score_by(fixed, linear, square):
    """Fill in what 1/2 sum(z^2 - (z - m)^2 / v) is of z and z^2, a constant aside."""
    size = len(linear)
    for j in range(size):
        first, second = fixed[1 + j], fixed[1 + size + j]
        weight = fixed[0] + PRIOR
        mean = first / weight
        spread = second - 2.0 * mean * first + fixed[0] * mean * mean + PRIOR
        variance = max(spread / weight, LEAST_VARIANCE)
        linear[j] = mean / variance
        square[j] = 0.5 - 0.5 / variance


@_jit
def _score_honest(honest, start, stop, linear, square, scores):
    scores[start:stop] = 0.0
    for j in range(len(linear)):
        row, a, b = honest[j], square[j], linear[j]
        for i in range(start, stop):
            scores[i] += row[i] * (a * row[i] + b)


@_jit
def _gain(p):
    """Return the integral from 0 to p of what calibrates a p-value; kappas .1, .2, .5."""
    return (p**0.1 + p**0.2 + math.sqrt(p)) / 3.0


@_jit
def _mixed(hash):
    """Spread a hash over all 64 bits (Steele, Lea, Flood, "SplitMix", 2014)."""
    hash = (hash ^ (hash >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    hash = (hash ^ (hash >> uint64(27))) * uint64(0x94D049BB133111EB)
    return hash ^ (hash >> uint64(31))


@_jit
def _note(query, stratum, words):
    """Note a query in a Bloom filter of two hashes; return whether it was there before."""
    hash = _mixed(uint64(stratum))
    for j in range(min(_COORDINATES, len(query))):
        cell = math.floor(min(max(query[j], -_FAR), _FAR) / _CELL)
        hash = _mixed(hash ^ uint64(int64(cell)))
    was_there = True
    for half in (hash >> uint64(32), hash & uint64(0xFFFFFFFF)):
        word, counter = divmod(int64(half) % (WORDS * COUNTERS), COUNTERS)
        if (int64(words[word]) >> (2 * counter)) & 3 == 0:
            words[word] += 4.0**counter
            was_there = False
    return was_there


_compiled: Any = njit(
    types.void(
        types.Array(float64, 2, "C", readonly=True),
        types.Array(int64, 1, "C", readonly=True),
        types.Array(int64, 1, "C", readonly=True),
        types.Array(float32, 2, "C", readonly=True),
        types.Array(int64, 1, "C", readonly=True),
        types.Array(float64, 1, "C", readonly=True),
        float64[::1],
        float64[::1],
        float64[::1],
    ),
    nogil=True,
    error_model="numpy",
)


@_compiled
def walk(far, strata, groups, honest, starts, luck, sums, fixed, out):
    """Fill out (n,) with the account evidence of queries, in order; advance sums and fixed.

    Parameters
    ----------
    far : (n, m) projections; strata, groups : (n,) classes, and what each is compared with
    honest : (m, r) projections within the clip, sorted by group, which begin at starts (g + 1,)
    luck : (g,) what evidence is divided by
    sums, fixed : (1 + 2 m + WORDS,) count, sums of z and of z^2, filter
    """
    size = far.shape[1]
    z, linear, square = np.empty((3, size), dtype=np.float32)
    scores = np.empty(honest.shape[1], dtype=np.float32)
    scored = np.zeros(len(luck), dtype=np.uint8)
    if fixed[0] > 0.0:
        _score_by(fixed, linear, square)
    for i in range(len(far)):
        out[i] = 1.0
        if sums[0] >= _next_checkpoint(fixed[0]):
            fixed[:] = sums
            _score_by(fixed, linear, square)
            scored[:] = 0
        if _note(far[i], strata[i], sums[1 + 2 * size :]):
            continue
        for j in range(size):
            z[j] = min(max(far[i, j], -CLIP), CLIP)
        if fixed[0] > 0.0:
            group = groups[i]
            start, stop = starts[group], starts[group + 1]
            if not scored[group]:
                _score_honest(honest, start, stop, linear, square, scores)
                scored[group] = 1
            own = np.float32(0.0)
            for j in range(size):
                own += z[j] * (square[j] * z[j] + linear[j])
            above = equal = 0
            for k in range(start, stop):
                above += scores[k] > own
                equal += scores[k] == own
            places = stop - start + 1
            gain = _gain((above + equal + 1) / places) - _gain(above / places)
            out[i] = gain * places / ((equal + 1) * luck[group])
        sums[0] += 1.0
        for j in range(size):
            value = float64(z[j])
            sums[1 + j] += value
            sums[1 + size + j] += value * value
