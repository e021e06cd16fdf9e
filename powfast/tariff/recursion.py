"""The price recursion: one source that Python runs as it is and Numba compiles.

Only additions, multiplications, divisions and comparisons, in a fixed order: every engine that
computes in IEEE 754 doubles (a Lua script in a store, say) agrees to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Values = FloatArray | list[float]

# A bettor may throw wealth away, so a cap keeps the supermartingale; it lies above every price
# that 64 bits can ask for, and far from overflow.
WEALTH_CAP = 2.0**100

# Below this many queries, calling into compiled code costs more than it saves.
_COMPILED_FROM = 64


# 2**-1100 is 0, and the series' terms from the 19th on are below half a unit in the last place.
NO_HALF_LEFT = 1100.0
HALVING_TERMS = 18


def halved(half_lives: float) -> float:
    """Return 2**-half_lives, at most 1, to 1e-15; the C library's `pow` varies among machines.

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


def _advance(
    evidence: Any,
    state: Any,
    bets: tuple[float, ...],
    limits: tuple[float, float, float],
    prices: Any,
) -> float:
    """Advance `state` in place over `evidence`, and return what its queries owe together.

    `prices` come in as multiples by volume. They are added in order: every engine does.
    """
    base, most, opening = limits
    n = state[0]
    owed = 0.0
    for i in range(len(evidence)):
        n += 1.0
        restart = 1.0 / (n * (n + 1.0))
        gain = evidence[i] - 1.0
        total = 0.0
        for k in range(len(bets)):
            wealth = (state[k + 1] + restart) * (1.0 + bets[k] * gain)
            if wealth > WEALTH_CAP:
                wealth = WEALTH_CAP
            state[k + 1] = wealth
            total += wealth
        mean = total / len(bets)
        price = base * (mean if mean > 1.0 else 1.0) * prices[i]
        if price > most:
            price = most
        if n == 1.0:
            price += opening
        prices[i] = price
        owed += price
    state[0] = n
    return owed


@cache
def _compiled(bets: int) -> Callable[..., float] | None:
    try:
        import numba
    except ImportError:
        return None
    bet, array = f"UniTuple(float64, {bets})", "float64[::1]"
    signature = f"float64({array}, {array}, {bet}, UniTuple(float64, 3), {array})"
    compiled: Callable[..., float] = numba.njit(signature, nogil=True)(_advance)
    return compiled


def warmup(bets: int = 7) -> bool:
    """Compile the recursion now rather than at the first large batch; false without Numba."""
    return _compiled(bets) is not None


def advance(
    evidence: Values,
    state: list[float],
    bets: tuple[float, ...],
    limits: tuple[float, float, float],
    multiples: FloatArray | None = None,
) -> tuple[float, Values, list[float]]:
    """Sum of the prices, the price of each query, and the state after the last one.

    Parameters
    ----------
    evidence : n numbers, nonnegative
    state : queries so far, then one wealth per bet
    bets : each in (0, 1)
    limits : price of an ordinary query, of any query, and what an account's first one adds
    multiples : (n,) float64, each query's multiple of the price by volume; 1 by default
    """
    compiled = _compiled(len(bets)) if len(evidence) >= _COMPILED_FROM else None
    if compiled is not None:
        prices = np.ones(len(evidence)) if multiples is None else multiples
        after = np.array(state)
        owed = compiled(np.ascontiguousarray(evidence), after, bets, limits, prices)
        return owed, prices, after.tolist()
    few = evidence if isinstance(evidence, list) else evidence.tolist()
    priced = [1.0] * len(few) if multiples is None else multiples.tolist()
    wealth = list(state)
    return _advance(few, wealth, bets, limits, priced), priced, wealth
