"""Algorithm 2: every kernel against the vectors of tests/reference.py, and the Python surface."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from test_puzzle_vectors import KERNELS, puzzle

from powfast import _capi, _native, errors
from powfast import kernel as kernels
from powfast.puzzle import Algorithm, Puzzle, solve, solve_counted, verify, verify_batch

ffi, lib = _capi.ffi, _capi.lib

VECTORS = json.loads((reference.VECTORS / "cachewalk.json").read_text())
SOURCE = reference.VECTORS.parents[1] / "csrc" / "walk.c"
ENDLESS = Puzzle(bytes(32), 2**64 - 1, 1024, Algorithm.CACHEWALK)
NO_LIMIT = 2**64


@pytest.fixture(params=KERNELS)
def kernel(request):
    return KERNELS[request.param]


@pytest.fixture
def scratch():
    return ffi.new("uint64_t[]", lib.POWFAST_WALK_WORDS)


def task(row: dict[str, object]) -> Puzzle:
    return Puzzle(bytes.fromhex(row["seed"]), row["work"], row["parts"], Algorithm.CACHEWALK)


def test_reference_gives_the_specified_answers():
    seed = bytes(range(32))
    found = {key: reference.cachewalk64(seed, *key) for key in reference.CACHEWALK_KNOWN}
    assert found == reference.CACHEWALK_KNOWN


def test_selftest(kernel, scratch):
    assert lib.powfast_walk_selftest(scratch, kernel) == lib.POWFAST_OK
    assert all(value in SOURCE.read_text() for value in VECTORS["selftest"])


def test_digests_and_what_they_leave_in_memory(kernel, scratch):
    digest = ffi.new("uint64_t *")
    for row in VECTORS["digests"]:
        seed = bytes.fromhex(row["seed"])
        status = lib.powfast_walk_digest(digest, scratch, kernel, seed, row["part"], row["nonce"])
        assert (status, digest[0]) == (lib.POWFAST_OK, row["digest64"])
        memory = np.frombuffer(ffi.buffer(scratch), np.uint64)[:32768].astype(">u8").tobytes()
        assert memory[-64:].hex() == row["filled"]
        assert hashlib.sha256(memory).hexdigest() == row["walked_memory"]


def test_searches_find_the_first_solutions(kernel, scratch):
    """Through the pipeline of a search, from one nonce to the next."""
    nonce = ffi.new("uint64_t *")
    for row in VECTORS["solutions"]:
        given_ = puzzle(bytes.fromhex(row["seed"]), row["work"], row["parts"])
        for part, first in enumerate(row["first"]):
            search = (nonce, scratch, kernel, given_, part, 0)
            assert lib.powfast_walk_search(*search, first + 5) == lib.POWFAST_OK
            assert nonce[0] == first
            assert lib.powfast_walk_search(*search, first) == lib.POWFAST_NOT_FOUND
        assert lib.powfast_walk_verify(scratch, kernel, given_, row["first"]) == lib.POWFAST_OK


@pytest.mark.parametrize("row", VECTORS["solutions"], ids=lambda r: f"{r['work']}/{r['parts']}")
@pytest.mark.parametrize("threads", [1, 3])
def test_solve(row, threads):
    solution, walks = solve_counted(task(row), threads=threads)
    assert verify(task(row), solution)
    if threads == 1:
        assert list(solution) == row["first"]
        assert walks == sum(row["first"]) + row["parts"]


def test_a_solution_is_of_its_algorithm_seed_order_and_length():
    row = VECTORS["solutions"][-1]
    right = tuple(row["first"])
    assert verify(task(row), right)
    assert not verify(Puzzle(task(row).seed, row["work"], row["parts"]), right)
    assert not verify(Puzzle(bytes(32), row["work"], row["parts"], Algorithm.CACHEWALK), right)
    for wrong in (right[::-1], right[:-1], (*right, 0), (), None, [None] * 4, (-1, *right[1:])):
        assert not verify(task(row), wrong)


@settings(max_examples=20)
@given(
    st.binary(min_size=32, max_size=32), st.integers(1, 60), st.integers(1, 8), st.integers(1, 3)
)
def test_every_solution_verifies(seed, work, parts, threads):
    given_ = Puzzle(seed, work, parts, Algorithm.CACHEWALK)
    solution = solve(given_, threads=threads)
    assert verify(given_, solution)
    assert verify_batch(
        np.frombuffer(seed, np.uint8)[np.newaxis],
        np.array([work], np.uint64),
        np.array([solution], np.uint64),
        algorithm=Algorithm.CACHEWALK,
    ).tolist() == [True]


def test_solutions_are_what_the_reference_takes():
    given_ = Puzzle(bytes(range(32)), 12, 4, Algorithm.CACHEWALK)
    assert reference.is_solved(given_.seed, 12, solve(given_), reference.cachewalk64)


def test_batches():
    rows = [row for row in VECTORS["solutions"] if row["parts"] == 1] * 2
    seeds = np.array([list(bytes.fromhex(row["seed"])) for row in rows], np.uint8)
    works = np.array([row["work"] for row in rows], np.uint64)
    nonces = np.array([row["first"] for row in rows], np.uint64)
    walks = {"algorithm": Algorithm.CACHEWALK}
    assert verify_batch(seeds, works, nonces, **walks).tolist() == [True] * 4
    assert verify_batch(seeds, works, nonces, algorithm=2).tolist() == [True] * 4
    nonces[3] += 1
    works[0] = 0
    assert verify_batch(seeds, works, nonces, **walks).tolist() == [False, True, True, False]
    tuples = [tuple(row) for row in nonces.tolist()]
    tuples[2] = None
    assert verify_batch(seeds, works, tuples, **walks).tolist() == [False, True, False, False]
    with pytest.raises(errors.InvalidInput, match="shapes"):
        verify_batch(seeds, works[:2], tuples, **walks)
    for unknown in (0, 3, True, "cachewalk", None):
        with pytest.raises(errors.InvalidInput, match="algorithm"):
            verify_batch(seeds, works, nonces, algorithm=unknown)


@pytest.mark.parametrize("algorithm", [0, 3, -1, True, 1.0, "cachewalk", None])
def test_no_such_algorithm(algorithm):
    with pytest.raises(errors.InvalidInput, match="algorithm"):
        Puzzle(bytes(32), 1, 1, algorithm)


def test_a_puzzle_says_its_algorithm():
    assert Puzzle(bytes(32), 1, 1).algorithm is Algorithm.SHA256
    assert Puzzle(bytes(32), 1, 1, 2).algorithm is Algorithm.CACHEWALK
    assert Puzzle(bytes(32), 1, 1, 2) != Puzzle(bytes(32), 1, 1)


def test_more_work_than_minutes_is_refused():
    with pytest.raises(errors.TooMuchWork):
        solve(Puzzle(bytes(32), 2**25 + 1, 1, Algorithm.CACHEWALK))
    with pytest.raises(errors.TooMuchWork):
        solve(Puzzle(bytes(32), 11, 1, Algorithm.CACHEWALK), max_work=10)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_endless_puzzle_is_cancelled(threads):
    cancel, reported = threading.Event(), []
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(errors.Cancelled):
        solve(ENDLESS, max_work=NO_LIMIT, threads=threads, cancel=cancel,
              progress=lambda done, work: reported.append((done, work)))  # fmt: skip
    assert all(0 < done < 2**30 and work == 2**64 - 1 for done, work in reported)


def test_two_solvers_at_once():
    given_ = [Puzzle(bytes([i] * 32), 400, 4, Algorithm.CACHEWALK) for i in range(2)]
    found = {}

    def work(i: int) -> None:
        found[i] = solve(given_[i], threads=2)

    both = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(timeout=120)
    assert [verify(given_[i], found[i]) for i in range(2)] == [True, True]


def test_parts_up_to_the_most():
    given_ = Puzzle(bytes(range(32)), 1024, 1024, Algorithm.CACHEWALK)
    assert solve(given_, threads=1) == (0,) * 1024  # work of one part each takes any nonce
    assert verify(given_, (2**64 - 1,) * 1024)
    assert not verify(given_, (0,) * 1023)


@pytest.mark.parametrize("name", KERNELS)
def test_environment_forces_a_kernel(name):
    code = (
        "from powfast import kernel; from powfast.puzzle import *;"
        "given = Puzzle(bytes(32), 50, 3, Algorithm.CACHEWALK);"
        "assert verify(given, solve(given)); print(kernel.active_kernel())"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"POWFAST_KERNEL": name},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == (name, "")


def test_walks_that_give_wrong_answers_are_not_relied_on(monkeypatch):
    class Broken:
        name = "broken"

        def walk_selftest(self) -> bool:
            return False

    monkeypatch.setattr(kernels, "native_kernel", Broken)
    kernels.walking_kernel.cache_clear()
    with pytest.raises(errors.KernelError, match="broken: walks give wrong answers"):
        verify(Puzzle(bytes(32), 1, 1, Algorithm.CACHEWALK), (0,))


def test_a_solver_stopped_while_it_works_holds_nothing():
    for _ in range(20):
        solver = _native.Solver(_native.Kernel("scalar"), bytes(32), 2**64 - 1, 1, 2)
        assert not solver.run(0.001, 3)
        solver.stop()
        assert solver.evaluations >= 32
