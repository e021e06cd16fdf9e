"""Hash rates: evaluations a second of a search that cannot end, per kernel and thread count."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from statistics import median

from powfast import _native
from powfast.puzzle import MAX_WORK, active_kernel, kernels

_SEED = bytes(32)
_ROUNDS = 5


@dataclass(frozen=True)
class Rate:
    """Evaluations a second of one kernel on so many threads; the median of interleaved rounds."""

    name: str
    threads: int
    hashes_per_second: float


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hash_rate(*, threads: int | None = None, seconds: float = 0.5) -> float:
    """Measure the evaluations a second of the active kernel.

    Parameters
    ----------
    threads : int, optional
        Solver threads; all cores by default.
    seconds : float
        Time to spend.
    """
    count = cores() if threads is None else threads
    return _median_rates([(active_kernel(), count)], seconds)[0].hashes_per_second


def hash_rates(*, seconds: float = 5.0) -> list[Rate]:
    """Measure every kernel that this CPU can run, on one thread and on all.

    Parameters
    ----------
    seconds : float
        Time to spend on all of it together.
    """
    counts = sorted({1, cores()})
    wanted = [(kernel.name, count) for kernel in kernels() if kernel.trusted for count in counts]
    return _median_rates(wanted, seconds)


def _median_rates(wanted: list[tuple[str, int]], seconds: float) -> list[Rate]:
    """Interleave the rounds, so that a slow moment of the machine meets every kernel alike."""
    slot = seconds / (_ROUNDS * len(wanted))
    rounds = [[_once(name, threads, slot) for name, threads in wanted] for _ in range(_ROUNDS)]
    return [
        Rate(name, threads, median(rates))
        for (name, threads), rates in zip(wanted, zip(*rounds, strict=True), strict=True)
    ]


def _once(name: str, threads: int, seconds: float) -> float:
    solver = _native.Solver(_native.Kernel(name), _SEED, MAX_WORK, 1)
    started = time.perf_counter()
    solver.run(seconds, threads)
    elapsed = time.perf_counter() - started
    evaluations = solver.evaluations
    solver.stop()
    return evaluations / elapsed
