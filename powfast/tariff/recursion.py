"""The wealth recursion: one source that Python runs as it is and Numba compiles.

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


def _advance(evidence: Any, state: Any, bets: tuple[float, ...], prices: Any) -> None:
    """Advance `state` in place over `evidence`; `prices` receives the mean wealth per query."""
    n = state[0]
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
        prices[i] = total / len(bets)
    state[0] = n


@cache
def _compiled(bets: int) -> Callable[..., None] | None:
    try:
        import numba
    except ImportError:
        return None
    signature = f"void(float64[::1], float64[::1], UniTuple(float64, {bets}), float64[::1])"
    compiled: Callable[..., None] = numba.njit(signature, nogil=True)(_advance)
    return compiled


def warmup(bets: int = 7) -> bool:
    """Compile the recursion now rather than at the first large batch; false without Numba."""
    return _compiled(bets) is not None


def advance(
    evidence: FloatArray, state: list[float], bets: tuple[float, ...]
) -> tuple[FloatArray, FloatArray]:
    """Mean wealth after each query, and the state after the last one.

    Parameters
    ----------
    evidence : (n,) float64, nonnegative
    state : queries so far, then one wealth per bet
    bets : each in (0, 1)
    """
    compiled = _compiled(len(bets)) if len(evidence) >= _COMPILED_FROM else None
    if compiled is not None:
        after, prices = np.array(state), np.empty(len(evidence))
        compiled(np.ascontiguousarray(evidence), after, bets, prices)
        return prices, after
    wealth, means = list(state), [0.0] * len(evidence)
    _advance(evidence.tolist(), wealth, bets, means)
    return np.array(means), np.array(wealth)
