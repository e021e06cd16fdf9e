"""Solving and verifying through the Python API."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import reference
from conftest import missing
from hypothesis import given, settings
from hypothesis import strategies as st

from powfast import errors, puzzle
from powfast.puzzle import Puzzle

ENDLESS = Puzzle(bytes(32), 2**64 - 1, 1)
NO_LIMIT = 2**64
TASKS = Path("/proc/self/task")


def counted(seeds: range, work: int, parts: int) -> list[int]:
    rng = random.Random(seeds.start)
    tasks = (Puzzle(rng.randbytes(32), work, parts) for _ in seeds)
    return [puzzle.solve_counted(task, threads=1)[1] for task in tasks]


@pytest.mark.parametrize(("work", "parts"), [(700, 1), (700 * 16, 16), (32, 16)])
def test_mean_evaluations_are_the_work(work, parts):
    spent = counted(range(2500), work, parts)
    standard_error = stdev(spent) / len(spent) ** 0.5
    assert abs(mean(spent) - work) <= 3 * standard_error


@settings(deadline=None)
@given(
    st.binary(min_size=32, max_size=32),
    st.integers(1, 6000),
    st.integers(1, 40),
    st.integers(1, 3),
)
def test_hashlib_accepts_every_solution(seed, work, parts, threads):
    task = Puzzle(seed, work, parts)
    solution = puzzle.solve(task, threads=threads)
    assert reference.is_solved(seed, work, solution)
    assert puzzle.verify(task, solution)


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 9), st.lists(st.integers(0, 2**64 - 1)))
def test_verify_says_what_hashlib_says(seed, work, nonces):
    task = Puzzle(seed, work, 3)
    expected = len(nonces) == 3 and reference.is_solved(seed, work, nonces)
    assert puzzle.verify(task, tuple(nonces)) == expected


def test_work_of_one_part_each_takes_any_nonce():
    task = Puzzle(bytes(32), 4, 4)
    assert puzzle.solve(task) == (0, 0, 0, 0)
    assert puzzle.verify(task, (2**64 - 1, 5, 0, 1))


def test_swapped_and_duplicated_parts_are_wrong():
    task = Puzzle(bytes(range(32)), 40_000, 4)
    first, second, third, fourth = puzzle.solve(task)
    assert puzzle.verify(task, (first, second, third, fourth))
    assert not puzzle.verify(task, (second, first, third, fourth))
    assert not puzzle.verify(task, (first, first, first, first))
    assert not puzzle.verify(task, (first, second, third))
    assert not puzzle.verify(task, (first, second, third, fourth, 0))


@pytest.mark.parametrize("nonce", [-1, 2**64, 1.0, True, None, "1", b"1"])
def test_verify_refuses_what_is_no_nonce(nonce):
    assert not puzzle.verify(Puzzle(bytes(32), 1, 1), (nonce,))


@pytest.mark.parametrize(
    ("field", "value"),
    [("work", value) for value in (0, -1, 2**64, 1.0, True, "1", None)]
    + [("parts", value) for value in (0, -1, 1025, 1.0, True)]
    + [("seed", value) for value in (b"", bytes(31), bytes(33), "s" * 32, bytearray(32), None)],
)
def test_puzzle_out_of_range(field, value):
    fields = {"seed": bytes(32), "work": 1, "parts": 1} | {field: value}
    with pytest.raises(errors.InvalidInput, match=field):
        Puzzle(**fields)


@pytest.mark.parametrize(
    ("work", "parts"),
    [(1, 1), (255, 1), (512, 2), (4095, 15), (4096, 16), (2**64 - 1, 16)],
)
def test_default_parts_keep_each_part_at_256(work, parts):
    assert puzzle.default_parts(work) == parts


def test_part_work_rounds_up():
    assert [Puzzle(bytes(32), w, 16).part_work for w in (1, 16, 17, 2**64 - 1)] == [1, 1, 2, 2**60]


def test_too_much_work_is_refused_before_any_is_done():
    with pytest.raises(errors.TooMuchWork):
        puzzle.solve(Puzzle(bytes(32), 2**32 + 1, 1))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(errors.Cancelled):
        puzzle.solve(Puzzle(bytes(32), 2**32, 1), cancel=cancelled)
    with pytest.raises(errors.TooMuchWork):
        puzzle.solve(Puzzle(bytes(32), 1001, 1), max_work=1000)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_out_of_range(threads):
    with pytest.raises(errors.InvalidInput, match="threads"):
        puzzle.solve(Puzzle(bytes(32), 1, 1), threads=threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_cancelled_from_another_thread(threads):
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(errors.Cancelled):
        puzzle.solve(ENDLESS, max_work=NO_LIMIT, threads=threads, cancel=cancel)


def test_progress_is_reported_on_the_calling_thread_and_may_raise():
    if not TASKS.is_dir():
        missing("threads are counted on Linux")
    calls = []
    before = set(TASKS.iterdir())

    def progress(done: int, work: int) -> None:
        calls.append((done, work, threading.get_ident()))
        if len(calls) == 2:
            raise LookupError("stop")

    with pytest.raises(LookupError):
        puzzle.solve(ENDLESS, max_work=NO_LIMIT, threads=2, progress=progress)
    (first, work, caller), (second, _, _) = calls
    assert 0 < first < second
    assert (work, caller) == (2**64 - 1, threading.get_ident())
    end = time.monotonic() + 120  # a thread that was joined may be listed a moment longer
    while not set(TASKS.iterdir()) <= before:
        assert time.monotonic() < end, "a helper thread is still at work"


def test_solving_releases_the_gil():
    cancel = threading.Event()

    def solve() -> None:
        with pytest.raises(errors.Cancelled):
            puzzle.solve(ENDLESS, max_work=NO_LIMIT, threads=1, cancel=cancel)

    solver = threading.Thread(target=solve)
    solver.start()
    steps = sum(1 for _ in range(10_000))  # would wait for ever behind a held lock
    cancel.set()
    solver.join(timeout=120)
    assert steps == 10_000
    assert not solver.is_alive()


def test_interrupt_stops_the_solver():
    code = (  # a shell starts what runs in its background deaf to Ctrl-C
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import powfast.puzzle as p; print('ready', flush=True);"
        "p.solve(p.Puzzle(bytes(32), 2**64 - 1, 1), max_work=2**64)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=120)
        finally:
            process.kill()
    assert stderr.rstrip().endswith("KeyboardInterrupt")


def test_batch_of_arrays():
    tasks = [Puzzle(bytes([i]) * 32, 600, 2) for i in range(20)]
    seeds = np.array([list(task.seed) for task in tasks], np.uint8)
    works = np.full(20, 600, np.uint64)
    nonces = np.array([puzzle.solve(task) for task in tasks], np.uint64)
    nonces[7] = nonces[8]
    tuples = [tuple(row) for row in nonces.tolist()]
    assert puzzle.verify_batch(seeds, works, tuples).tolist() == [i != 7 for i in range(20)]
    tuples[3:6] = [(1,), None, (1, -1)]
    expected = [i not in (3, 4, 5, 7) for i in range(20)]
    assert puzzle.verify_batch(seeds, works, tuples).tolist() == expected
    with pytest.raises(errors.InvalidInput, match="shapes"):
        puzzle.verify_batch(seeds, works, tuples[:5])
    with pytest.raises(errors.InvalidInput):
        puzzle.verify_batch(seeds, works, [None] * 20)
    ok = puzzle.verify_batch(seeds, works, nonces)
    assert ok.dtype == bool
    assert ok.tolist() == [i != 7 for i in range(20)]
    with pytest.raises(errors.InvalidInput, match="works"):
        puzzle.verify_batch(seeds, works.astype(float), nonces)
    with pytest.raises(errors.InvalidInput, match="shapes"):
        puzzle.verify_batch(seeds[:, :31], works, nonces)
    with pytest.raises(errors.InvalidInput, match="shapes"):
        puzzle.verify_batch(seeds, works[:5], nonces)
