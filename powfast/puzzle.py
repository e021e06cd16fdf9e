"""Puzzles: so much expected work, solved and verified by the C library.

A puzzle knows no time, key or account. Part i is solved by a 64-bit nonce for which a digest of 64
bits is below floor(2^64 / part_work). In algorithm 1 that is the beginning of
SHA-256(seed || "powfast/v1:" || i || nonce); in algorithm 2, which is experimental, it is what a
walk of dependent reads through 256 KiB ends with (docs/cachewalk.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from powfast import _native
from powfast.errors import Cancelled, InvalidInput, TooMuchWork, require_int
from powfast.kernel import native_kernel, walking_kernel

MAX_PARTS = _native.MAX_PARTS
MAX_WORK = 2**64 - 1
Solution = tuple[int, ...]
"""One nonce for each part."""

Progress = Callable[[int, int], object]
"""Called with the digests done and the work expected."""


class Algorithm(IntEnum):
    """Which digest a puzzle asks for; `work` counts digests, whatever one of them costs."""

    SHA256 = 1
    """One SHA-256 block."""

    CACHEWALK = 2
    """A walk through 256 KiB, some hundreds of SHA-256 blocks' time. Experimental."""


WALK_EVALUATIONS = 512
"""SHA-256 evaluations that a walk counts as, where nothing says what it is worth: what an ordinary
laptop makes of them meanwhile. Devices lie far apart (docs/cachewalk.md).
"""

MAX_WORKS = {Algorithm.SHA256: 2**32, Algorithm.CACHEWALK: 2**32 // WALK_EVALUATIONS}
"""Work above which `solve` refuses unless told otherwise: about a minute of a laptop that makes 70
million evaluations, or 140 thousand walks, a second.
"""

_SLICE = 0.02  # seconds between looks at signals and at `cancel`
_REPORT = 10  # slices between calls of `progress`


class CancelFlag(Protocol):
    """Whatever says that somebody wants the solver to stop, a `threading.Event` for one."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


def default_parts(work: int) -> int:
    """Return the number of parts for `work`: 16, or fewer so that none is below 256."""
    return _native.default_parts(require_int("work", work, 1, MAX_WORK))


@dataclass(frozen=True, slots=True)
class Puzzle:
    """What has to be solved.

    Attributes
    ----------
    seed : bytes
        32 bytes that nobody can choose.
    work : int
        Expected number of digests over all parts, 1 .. 2**64 - 1: of SHA-256 evaluations, or in
        `Algorithm.CACHEWALK` of walks.
    parts : int
        Number of nonces, 1 .. `MAX_PARTS`; the solve time's spread shrinks as 1/sqrt(parts).
    algorithm : Algorithm
        Which digest; `Algorithm.SHA256` by default.

    Raises
    ------
    InvalidInput
        If a field has another type or is out of its range.
    """

    seed: bytes
    work: int
    parts: int
    algorithm: Algorithm = Algorithm.SHA256

    def __post_init__(self) -> None:
        if not isinstance(self.seed, bytes) or len(self.seed) != 32:
            raise InvalidInput("seed must be 32 bytes")
        object.__setattr__(self, "work", require_int("work", self.work, 1, MAX_WORK))
        object.__setattr__(self, "parts", require_int("parts", self.parts, 1, MAX_PARTS))
        object.__setattr__(self, "algorithm", _require_algorithm(self.algorithm))

    @property
    def part_work(self) -> int:
        """Expected digests of one part: work over parts, rounded up."""
        return -(-self.work // self.parts)

    @property
    def evaluations(self) -> int:
        """Work in SHA-256 evaluations, of which a walk counts as `WALK_EVALUATIONS`."""
        return self.work * (WALK_EVALUATIONS if self.algorithm is Algorithm.CACHEWALK else 1)


def _require_algorithm(value: object) -> Algorithm:
    if type(value) is Algorithm:
        return value
    return Algorithm(require_int("algorithm", value, min(Algorithm), max(Algorithm)))


def _kernel(algorithm: Algorithm) -> _native.Kernel:
    return walking_kernel() if algorithm is Algorithm.CACHEWALK else native_kernel()


def solve(
    puzzle: Puzzle,
    *,
    max_work: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> Solution:
    """Return one nonce for each part; expected cost: `puzzle.work` digests.

    Releases the GIL. Stops within 50 ms of Ctrl-C, of `cancel`, and of an exception raised by
    `progress`. Walks take half a mebibyte for each thread, which is given back at the end.

    Parameters
    ----------
    puzzle : Puzzle
        What to solve.
    max_work : int, optional
        Work above this is refused before any is done; by default `MAX_WORKS` of the algorithm,
        which a laptop solves in about a minute.
    threads : int, optional
        Threads to use; all cores available to the process by default.
    progress : callable, optional
        Called on this thread, some times a second, with digests done and work expected.
    cancel : object with `is_set()`, optional
        Asked some fifty times a second.

    Raises
    ------
    TooMuchWork
        If the puzzle asks for more than `max_work`.
    Cancelled
        If `cancel` is set before a solution is found.
    """
    return solve_counted(
        puzzle, max_work=max_work, threads=threads, progress=progress, cancel=cancel
    )[0]


def solve_counted(
    puzzle: Puzzle,
    *,
    max_work: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> tuple[Solution, int]:
    """Solve as `solve` does, and return the solution with the digests it took.

    The count has mean `puzzle.work` (part_work times parts, to be exact) on one thread; several
    threads each add at most some thousand SHA-256 evaluations, or 32 walks, that came too late.
    """
    most = MAX_WORKS[puzzle.algorithm] if max_work is None else max_work
    if puzzle.work > most:
        raise TooMuchWork(f"the puzzle asks for {puzzle.work} evaluations, allowed are {most}")
    count = require_int("threads", cores() if threads is None else threads, 1, 4096)
    kernel, algorithm = _kernel(puzzle.algorithm), puzzle.algorithm
    solver = _native.Solver(kernel, puzzle.seed, puzzle.work, puzzle.parts, algorithm)
    slices = 0
    try:
        while cancel is None or not cancel.is_set():
            solved = solver.run(_SLICE, count)
            slices += 1
            if progress is not None and (solved or slices % _REPORT == 0):
                progress(solver.evaluations, puzzle.work)
            if solved:
                return solver.nonces, solver.evaluations
        if progress is not None:
            progress(solver.evaluations, puzzle.work)
        raise Cancelled(f"cancelled after {solver.evaluations} evaluations")
    finally:
        solver.stop()


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def verify(puzzle: Puzzle, solution: Solution) -> bool:
    """Return whether `solution` has one 64-bit nonce for each part and all reach the target.

    It redeems nothing: a puzzle knows of no other call. The first miss ends it. A walk takes some
    tens of microseconds, without the GIL.
    """
    if puzzle.algorithm is Algorithm.CACHEWALK:
        seeds = np.frombuffer(puzzle.seed, np.uint8)[np.newaxis]
        works = np.array([puzzle.work], np.uint64)
        kernel, algorithm = walking_kernel(), puzzle.algorithm
        return bool(kernel.verify_tuples(seeds, works, [solution], puzzle.parts, algorithm)[0])
    return _verifier()(puzzle.seed, puzzle.work, puzzle.parts, solution)


@cache
def _verifier() -> Callable[[bytes, int, int, Solution], bool]:
    return native_kernel().verifier()


def verify_batch(
    seeds: npt.NDArray[np.uint8],
    works: npt.NDArray[np.uint64],
    solutions: npt.NDArray[np.uint64] | list[Solution],
    *,
    algorithm: Algorithm = Algorithm.SHA256,
) -> npt.NDArray[np.bool_]:
    """Return for each of n puzzles with equally many parts whether it is solved.

    Parameters
    ----------
    seeds : (n, 32) uint8
    works : (n,) uint64
        Expected digests over all parts; 0 counts as not solved.
    solutions : (n, parts) uint64, or list of n tuples
        In a list, the first tuple says how many parts there are; what is no tuple of so many
        nonces counts as not solved.
    algorithm : Algorithm
        Of all n puzzles.

    Returns
    -------
    (n,) bool

    Raises
    ------
    InvalidInput
        If a dtype or a shape is another, or there is no such algorithm.
    """
    algorithm = _require_algorithm(algorithm)
    _require_dtype("seeds", seeds, np.uint8)
    _require_dtype("works", works, np.uint64)
    try:
        if isinstance(solutions, list):
            parts = len(solutions[0]) if solutions else 1
            return _kernel(algorithm).verify_tuples(seeds, works, solutions, parts, algorithm)
        _require_dtype("solutions", solutions, np.uint64)
        return _kernel(algorithm).verify_batch(seeds, works, solutions, algorithm)
    except (TypeError, ValueError) as error:
        raise InvalidInput(str(error)) from None


def _require_dtype(name: str, array: object, dtype: type[np.unsignedinteger[Any]]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise InvalidInput(f"{name} must be a NumPy array of {np.dtype(dtype)}")
