"""Halving over time, the same to the last bit in every engine: the C library's `pow` is not."""

from __future__ import annotations

import math

# 2**-1100 is 0, and the series' terms from the 19th on are below half a unit in the last place.
NO_HALF_LEFT = 1100.0
HALVING_TERMS = 18


def halved(half_lives: float) -> float:
    """Return 2**-half_lives, at most 1, to 1e-15.

    exp(-y) = 1 - y (1 - y/2 (1 - y/3 (...))) over the fraction, and the whole halvings exactly.
    """
    if half_lives >= NO_HALF_LEFT:
        return 0.0
    whole = math.floor(half_lives)
    y = (half_lives - whole) * math.log(2.0)
    factor = 1.0
    for k in range(HALVING_TERMS, 0, -1):
        factor = 1.0 - y * factor / k
    return math.ldexp(factor, -whole)
