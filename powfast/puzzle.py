"""Puzzles: so much expected work, solved and verified by the C library.

A puzzle knows no time, key or account. Part i is solved by a 64-bit nonce for which the first
64 bits of SHA-256(seed || "powfast/v1:" || i || nonce) are below floor(2^64 / part_work).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from powfast import _native
from powfast.errors import Cancelled, InvalidInput, TooMuchWork, require_int
from powfast.kernel import native_kernel

MAX_PARTS = _native.MAX_PARTS
MAX_WORK = 2**64 - 1

Solution = tuple[int, ...]
"""One nonce for each part."""

Progress = Callable[[int, int], object]
"""Called with the evaluations done and the work expected."""

_SLICE = 0.02  # seconds between looks at signals and at `cancel`
_REPORT = 10  # slices between calls of `progress`


class CancelFlag(Protocol):
    """Whatever says that somebody wants the solver to stop, a `threading.Event` for one."""

    def is_set(self) -> bool:
        """Whether to stop."""


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
        Expected number of SHA-256 evaluations over all parts, 1 .. 2**64 - 1.
    parts : int
        Number of nonces, 1 .. `MAX_PARTS`; the solve time's spread shrinks as 1/sqrt(parts).

    Raises
    ------
    InvalidInput
        If a field has another type or is out of its range.
    """

    seed: bytes
    work: int
    parts: int

    def __post_init__(self) -> None:
        if not isinstance(self.seed, bytes) or len(self.seed) != 32:
            raise InvalidInput("seed must be 32 bytes")
        object.__setattr__(self, "work", require_int("work", self.work, 1, MAX_WORK))
        object.__setattr__(self, "parts", require_int("parts", self.parts, 1, MAX_PARTS))

    @property
    def part_work(self) -> int:
        """Expected evaluations of one part: work over parts, rounded up."""
        return -(-self.work // self.parts)


def solve(
    puzzle: Puzzle,
    *,
    max_work: int = 2**36,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> Solution:
    """Return one nonce for each part; expected cost: `puzzle.work` evaluations.

    Releases the GIL. Stops within 50 ms of Ctrl-C, of `cancel`, and of an exception raised by
    `progress`.

    Parameters
    ----------
    puzzle : Puzzle
        What to solve.
    max_work : int
        Work above this is refused before any is done.
    threads : int, optional
        Threads to use; all cores available to the process by default.
    progress : callable, optional
        Called on this thread, some times a second, with evaluations done and work expected.
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
    max_work: int = 2**36,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> tuple[Solution, int]:
    """Solve as `solve` does, and return the solution with the evaluations it took.

    The count has mean `puzzle.work` (part_work times parts, to be exact) on one thread; several
    threads each add at most some thousand evaluations that came too late.
    """
    if puzzle.work > max_work:
        raise TooMuchWork(f"the puzzle asks for {puzzle.work} evaluations, allowed are {max_work}")
    count = require_int("threads", cores() if threads is None else threads, 1, 4096)
    solver = _native.Solver(native_kernel(), puzzle.seed, puzzle.work, puzzle.parts)
    slices = 0
    try:
        while cancel is None or not cancel.is_set():
            solved = solver.run(_SLICE, count)
            slices += 1
            if progress is not None and (solved or slices % _REPORT == 0):
                progress(solver.evaluations, puzzle.work)
            if solved:
                return solver.nonces, solver.evaluations
        raise Cancelled(f"cancelled after {solver.evaluations} evaluations")
    finally:
        solver.stop()


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def verify(puzzle: Puzzle, solution: Solution) -> bool:
    """Return whether `solution` has one 64-bit nonce for each part and all reach the target."""
    return _verifier()(puzzle.seed, puzzle.work, puzzle.parts, solution)


@cache
def _verifier() -> Callable[[bytes, int, int, Solution], bool]:
    return native_kernel().verifier()


def verify_batch(
    seeds: npt.NDArray[np.uint8],
    works: npt.NDArray[np.uint64],
    solutions: npt.NDArray[np.uint64] | list[Solution],
) -> npt.NDArray[np.bool_]:
    """Return for each of n puzzles with equally many parts whether it is solved.

    Parameters
    ----------
    seeds : (n, 32) uint8
    works : (n,) uint64
        Expected evaluations over all parts; 0 counts as not solved.
    solutions : (n, parts) uint64, or list of n tuples
        In a list, the first tuple says how many parts there are; what is no tuple of so many
        nonces counts as not solved.

    Returns
    -------
    (n,) bool

    Raises
    ------
    InvalidInput
        If a dtype or a shape is another.
    """
    _require_dtype("seeds", seeds, np.uint8)
    _require_dtype("works", works, np.uint64)
    try:
        if isinstance(solutions, list):
            parts = len(solutions[0]) if solutions else 1
            return native_kernel().verify_tuples(seeds, works, solutions, parts)
        _require_dtype("solutions", solutions, np.uint64)
        return native_kernel().verify_batch(seeds, works, solutions)
    except (TypeError, ValueError) as error:
        raise InvalidInput(str(error)) from None


def _require_dtype(name: str, array: object, dtype: type[np.unsignedinteger[Any]]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise InvalidInput(f"{name} must be a NumPy array of {np.dtype(dtype)}")
