"""How long solving takes, from the exact distribution of the evaluations it needs.

Every evaluation solves its part with probability p, whatever was tried before. One thread takes
the parts in turn; several share them, and one that leaves a part half searched loses nothing. So
in all cases evaluations are made until `parts` of them have succeeded: a negative binomial
distribution. Two things are not in it. A thread whose part is solved by another finishes its
chunk of 4096 in vain, which threads t delay by at most about (1 + ln t) chunks of one thread; and
the machine may do something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from powfast.errors import InvalidInput, require_int
from powfast.profile.document import ClientProfile, Fleet
from powfast.puzzle import MAX_PARTS, MAX_WORK

_ROUNDING = 1e-12  # of the weights: what it leaves out of 1 is nobody's device


def tail(count: int, work: int, parts: int) -> float:
    """Return the probability that solving takes more than `count` evaluations.

    That of fewer than `parts` successes in `count` trials, whose terms are all positive, so that
    nothing cancels (Johnson, Kemp, Kotz, "Univariate Discrete Distributions", section 5.6).

    Parameters
    ----------
    count : int
        Evaluations.
    work, parts : int
        The puzzle's.

    Raises
    ------
    InvalidInput
        If an argument is out of its range.
    """
    p = _success(work, parts)
    if count < parts:
        return 1.0
    if p == 1.0:
        return 0.0
    j = np.arange(parts - 1, dtype=np.float64)
    ratios = np.log((float(count) - j) / (j + 1.0)) + (math.log(p) - math.log1p(-p))
    logs = count * math.log1p(-p) + np.concatenate([[0.0], ratios.cumsum()])
    return min(1.0, math.fsum(np.exp(logs)))


def evaluations(work: int, parts: int, quantile: float) -> int:
    """Return the evaluations that suffice with probability `quantile`.

    Raises
    ------
    InvalidInput
        If `quantile` is not in (0, 1), or the puzzle's fields are out of their ranges.
    """
    _require_quantile(quantile)
    most = parts
    while tail(most, work, parts) > 1.0 - quantile:
        most *= 2
    return _least(parts, most, lambda count: tail(count, work, parts) <= 1.0 - quantile)


def solve_seconds(
    profile: ClientProfile, work: int, parts: int, quantile: float, *, alone: bool = False
) -> float:
    """Return the seconds within which this device solves with probability `quantile`.

    Parameters
    ----------
    profile : ClientProfile
    work, parts : int
        The puzzle's.
    quantile : float
        In (0, 1).
    alone : bool
        Whether one thread solves, rather than all that the solver uses by itself.

    Raises
    ------
    InvalidInput
        As `evaluations`.
    """
    count, solver = evaluations(work, parts, quantile), profile.solver
    first = count if alone else min(count, solver.alone)
    searching = first / profile.single_rate + (count - first) / profile.hash_rate
    return solver.start_seconds + searching


def affordable_work(
    fleet: Fleet, *, seconds: float, share: float = 0.95, parts: int = 16, quantile: float = 0.99
) -> int:
    """Return the most work that a share of the clients solves in time, each at the quantile.

    Parameters
    ----------
    fleet : Fleet
    seconds : float
        Time allowed for one puzzle.
    share : float
        Share of the clients, by weight, that keep to it; in (0, 1].
    parts : int
        Of the puzzle.
    quantile : float
        Share of a client's puzzles that keep to it; in (0, 1).

    Returns
    -------
    int
        Expected evaluations; 0 where no work keeps to it.

    Raises
    ------
    InvalidInput
        If an argument is out of its range.
    """
    if not (0.0 < share <= 1.0 and 0.0 < seconds < math.inf):
        raise InvalidInput("share must be in (0, 1], and seconds positive and finite")
    _require_quantile(quantile)
    works = [_affordable(profile, seconds, parts, quantile) for profile in fleet.profiles]
    order = np.argsort(works)[::-1]
    reached = fleet.shares[order].cumsum()
    return works[int(order[np.searchsorted(reached, share - _ROUNDING)])]


def walk_worth(fleet: Fleet, *, share: float = 0.95) -> int:
    """Return the evaluations that a walk is to be worth in prices, at least 1, for `Walks`.

    With it, the slowest device of the share takes as long over walks as over hashes: what is
    promised of its seconds holds for both. Devices that hash fast for their caches take longer.

    Parameters
    ----------
    fleet : Fleet
        The clients.
    share : float
        Of the clients, fastest first, in (0, 1].

    Raises
    ------
    InvalidInput
        If a device measured no walks, or `share` is out of its range.
    """
    if not 0.0 < share <= 1.0:
        raise InvalidInput("share must be in (0, 1]")
    hashes = np.array([profile.hash_rate for profile in fleet.profiles])
    walks = hashes / [profile.walk_worth for profile in fleet.profiles]
    return max(1, round(_kept(fleet, hashes, share) / _kept(fleet, walks, share)))


def _kept(fleet: Fleet, rates: npt.NDArray[np.float64], share: float) -> float:
    """Return the rate that a share of the clients reach."""
    order = np.argsort(rates)[::-1]
    reached = fleet.shares[order].cumsum()
    return float(rates[order[np.searchsorted(reached, share - _ROUNDING)]])


def _affordable(profile: ClientProfile, seconds: float, parts: int, quantile: float) -> int:
    """Return the most work that the evaluations of so many seconds solve at the quantile."""
    count = _evaluations_within(profile, seconds)

    def too_much(work: int) -> bool:
        return tail(count, work, parts) > 1.0 - quantile

    # Below one evaluation a part, less work is no easier.
    if too_much(parts):
        return 0
    return _least(parts, MAX_WORK, too_much) - 1 if too_much(MAX_WORK) else MAX_WORK


def _evaluations_within(profile: ClientProfile, seconds: float) -> int:
    """Invert the time that `solve_seconds` gives to evaluations."""
    solver = profile.solver
    left = seconds - solver.start_seconds
    joined = left - solver.alone / profile.single_rate
    if joined <= 0.0:
        return max(0, int(left * profile.single_rate))
    return solver.alone + int(joined * profile.hash_rate)


def _least(low: int, high: int, true: Callable[[int], bool]) -> int:
    """Return the least integer in low .. high at which `true` begins to hold; it does at high."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if true(middle) else (middle + 1, high)
    return low


def _require_quantile(quantile: float) -> None:
    if not 0.0 < quantile < 1.0:
        raise InvalidInput(f"quantile must be in (0, 1), not {quantile}")


def _success(work: int, parts: int) -> float:
    """Probability that one evaluation solves its part: the target over 2^64."""
    require_int("parts", parts, 1, MAX_PARTS)
    part_work = -(-require_int("work", work, 1, MAX_WORK) // parts)
    return float(2**64 // part_work) / 2.0**64
