"""Measuring this device: a fixed number of evaluations and fixed seeds, so that luck has no part.

Rounds are interleaved, so that a slow moment of the machine meets everything alike.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean, median, quantiles

from powfast import __version__, _native
from powfast.kernel import active_kernel, kernels, native_kernel, walking_kernel
from powfast.profile.document import (
    ClientProfile,
    Rate,
    Server,
    Solver,
    SolveTimes,
    Sustained,
    WalkRates,
)
from powfast.profile.machine import Usage, this_device
from powfast.puzzle import MAX_WORK, Algorithm, Puzzle, cores, solve, solve_counted

Call = Callable[[], object]

_WORKS = (10**4, 10**5, 10**6, 10**7, 10**8)
_PARTS = (1, 16, 64)
_ALONE = 16384  # evaluations before `_native.Solver.run` starts its helpers
_CALLS = 1000  # challenges issued, and solutions verified, in one round
_STEP = 0.005  # seconds between looks at how many evaluations there are
_UNEVEN = 0.05  # spread, or slowing down, that is worth a warning


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is measured.

    Attributes
    ----------
    rounds, evaluations : int
        Of every kernel; evaluations on each thread of one round.
    slices, slice_seconds : int, float
        Of the sustained rate.
    puzzles, rung_seconds : int, float
        Solved for each work and number of parts, unless that would take longer than so.
    """

    rounds: int
    evaluations: int
    slices: int
    slice_seconds: float
    puzzles: int
    rung_seconds: float


_FULL = _Plan(7, 1 << 22, 60, 1.0, 100, 15.0)
_QUICK = _Plan(3, 1 << 19, 4, 0.25, 20, 0.5)


def hash_rate(*, threads: int | None = None, seconds: float = 0.5) -> float:
    """Measure the evaluations a second of the active kernel.

    Parameters
    ----------
    threads : int, optional
        Solver threads; all cores by default.
    seconds : float
        Time to spend.
    """
    return median(_slices(cores() if threads is None else threads, 5, seconds / 5))


def measure_client(
    *,
    name: str | None = None,
    quick: bool = False,
    issue: Call | None = None,
    verify: Call | None = None,
    status: Callable[[str], object] = lambda line: None,
) -> ClientProfile:
    """Measure this device: some two minutes, or some seconds where `quick`.

    Parameters
    ----------
    name : str, optional
        What to call it; the processor's model by default.
    quick : bool
        Measure less.
    issue, verify : callable, optional
        Issues one challenge, and verifies one solution: a server's part on one thread. Given
        both, or neither.
    status : callable
        Told what is being measured.
    """
    plan, before, device = _QUICK if quick else _FULL, Usage.now(), this_device()
    status("hash rate of every kernel")
    rates = _rates(plan)
    status("sustained hash rate")
    sustained = tuple(_slices(device.cores, plan.slices, plan.slice_seconds))
    status("solve times")
    solving = _solving(plan, {1: _single(rates), device.cores: median(sustained)})
    status("walks")
    walks = _walks(plan, device.cores)
    status("challenges and verifications")
    server = _server(plan.rounds, issue, verify) if issue and verify else None
    start = median(_seconds(lambda: solve(Puzzle(bytes(32), 1, 1))) for _ in range(100))
    return ClientProfile(
        name=name or device.cpu,
        device=device,
        powfast=__version__,
        measured=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        quick=quick,
        kernel=active_kernel(),
        solver=Solver(device.cores, _ALONE, start),
        rates=rates,
        sustained=Sustained(plan.slice_seconds, sustained),
        solving=solving,
        server=server,
        walks=walks,
        warnings=(*Usage.now().disturbances(before), *_uneven(rates), *_slower(sustained)),
    )


def seed(work: int, parts: int, index: int) -> bytes:
    """Return the seed of one puzzle of the ladder, the same on every device and in a browser."""
    return hashlib.sha256(f"powfast/profile/v1:{work}:{parts}:{index}".encode()).digest()


def _rates(plan: _Plan) -> tuple[Rate, ...]:
    """Every kernel that this CPU can run, on one thread and on all."""
    counts = sorted({1, cores()})
    wanted = [(kernel.name, count) for kernel in kernels() if kernel.trusted for count in counts]
    rounds = [
        [_searched(name, threads, plan.evaluations * threads) for name, threads in wanted]
        for _ in range(plan.rounds)
    ]
    return tuple(
        Rate(name, threads, median(found), _quartiles(found))
        for (name, threads), found in zip(wanted, zip(*rounds, strict=True), strict=True)
    )


def _searched(kernel: str, threads: int, evaluations: int) -> float:
    """Return the evaluations a second of a search that cannot end."""
    solver = _native.Solver(_native.Kernel(kernel), bytes(32), MAX_WORK, 1)
    started = time.perf_counter()
    while solver.evaluations < evaluations:
        solver.run(_STEP, threads)
    elapsed = time.perf_counter() - started
    done = solver.evaluations
    solver.stop()
    return done / elapsed


def _single(rates: tuple[Rate, ...]) -> float:
    """Rate of the active kernel on one thread."""
    active = active_kernel()
    return next(r.hashes_per_second for r in rates if (r.kernel, r.threads) == (active, 1))


def _walks(plan: _Plan, threads: int) -> WalkRates:
    def rate(count: int) -> float:
        slices = _slices(count, max(1, plan.slices // 4), plan.slice_seconds, Algorithm.CACHEWALK)
        return median(slices)

    return WalkRates(rate(1), rate(threads))


def _slices(
    threads: int, count: int, seconds: float, algorithm: Algorithm = Algorithm.SHA256
) -> Iterator[float]:
    """Yield the digests a second of the active kernel, slice after slice of one search."""
    kernel = walking_kernel() if algorithm is Algorithm.CACHEWALK else native_kernel()
    solver = _native.Solver(kernel, bytes(32), MAX_WORK, 1, algorithm)
    started, done = time.perf_counter(), 0
    for _ in range(count):
        solver.run(seconds, threads)
        now, evaluations = time.perf_counter(), solver.evaluations
        yield (evaluations - done) / (now - started)
        started, done = now, evaluations
    solver.stop()


def _solving(plan: _Plan, rates: dict[int, float]) -> tuple[SolveTimes, ...]:
    """Time the puzzles of the ladder's rungs that this device can climb, given its hash rates."""
    rungs = [
        (work, parts, threads)
        for work in _WORKS
        for parts in _PARTS
        for threads, rate in rates.items()
        if work * plan.puzzles <= plan.rung_seconds * rate
    ]
    found: dict[tuple[int, int, int], list[tuple[float, int]]] = {rung: [] for rung in rungs}
    for index in range(plan.puzzles):
        for (work, parts, threads), times in found.items():
            puzzle = Puzzle(seed(work, parts, index), work, parts)
            started = time.perf_counter()
            _, evaluations = solve_counted(puzzle, threads=threads)
            times.append((time.perf_counter() - started, evaluations))
    return tuple(_summary(*rung, times) for rung, times in found.items())


def _summary(work: int, parts: int, threads: int, times: list[tuple[float, int]]) -> SolveTimes:
    cuts = quantiles((seconds for seconds, _ in times), n=100, method="inclusive")
    evaluations = sum(count for _, count in times)
    return SolveTimes(work, parts, threads, len(times), evaluations, cuts[49], cuts[89], cuts[98])


def _server(rounds: int, issue: Call, verify: Call) -> Server:
    pairs = [[_calls_per_second(call) for call in (issue, verify)] for _ in range(rounds)]
    return Server(*(median(rates) for rates in zip(*pairs, strict=True)))


def _calls_per_second(call: Call) -> float:
    return _CALLS / _seconds(lambda: [call() for _ in range(_CALLS)])


def _seconds(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _quartiles(rates: tuple[float, ...]) -> tuple[float, float]:
    low, _, high = quantiles(rates, n=4, method="inclusive")
    return low, high


def _uneven(rates: tuple[Rate, ...]) -> list[str]:
    spreads = [(rate.quartiles[1] - rate.quartiles[0]) / rate.hashes_per_second for rate in rates]
    if max(spreads) <= _UNEVEN:
        return []
    rate = rates[spreads.index(max(spreads))]
    where = f"{rate.kernel} on {rate.threads} threads"
    return [f"the rounds differ: the quartiles of {where} lie {max(spreads):.0%} apart"]


def _slower(slices: tuple[float, ...]) -> list[str]:
    quarter = max(1, len(slices) // 4)
    kept = fmean(slices[-quarter:]) / fmean(slices[:quarter])
    if kept >= 1.0 - _UNEVEN:
        return []
    return [f"it slowed down under load, to {kept:.0%} of its first rate"]
