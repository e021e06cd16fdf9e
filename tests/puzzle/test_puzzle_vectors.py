"""Every kernel this CPU runs, against vectors and hashlib."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import reference

from powfast import _capi

ffi, lib = _capi.ffi, _capi.lib

FEATURES = lib.powfast_cpu_features()
KERNELS = {
    ffi.string(lib.powfast_kernel_name(kernel)).decode(): kernel
    for i in range(lib.powfast_kernel_count())
    if lib.powfast_kernel_supported(kernel := lib.powfast_kernel_at(i), FEATURES)
}
VECTORS = json.loads((reference.VECTORS / "puzzle.json").read_text())


@pytest.fixture(params=KERNELS)
def kernel(request):
    return KERNELS[request.param]


def puzzle(seed: bytes, work: int, parts: int):
    return ffi.new("powfast_puzzle *", {"seed": seed, "work": work, "parts": parts})


def hits(kernel, seed, work, parts, part, first, count):
    """Every solution in the range, through powfast_search."""
    nonce, found, end = ffi.new("uint64_t *"), [], first + count
    while first < end:
        status = lib.powfast_search(
            nonce, kernel, puzzle(seed, work, parts), part, first, end - first
        )
        if status == lib.POWFAST_NOT_FOUND:
            break
        assert status == lib.POWFAST_OK
        found.append(nonce[0])
        first = nonce[0] + 1
    return found


def test_vectors_are_current():
    for name, text in reference.render().items():
        assert (reference.VECTORS / name).read_text() == text, "run python tests/reference.py"


def test_selftest_passes(kernel):
    assert lib.powfast_kernel_selftest(kernel) == lib.POWFAST_OK


def test_selftest_constants_come_from_hashlib():
    source = (reference.VECTORS.parents[1] / "csrc" / "selftest.c").read_text()
    assert all(value in source for value in VECTORS["selftest"])


@pytest.mark.parametrize("row", VECTORS["targets"], ids=lambda r: f"{r['work']}/{r['parts']}")
def test_target(row):
    limit = lib.powfast_part_limit(puzzle(bytes(32), row["work"], row["parts"]))
    assert limit + 1 == int(row["target"])


def test_digest_against_vectors(kernel):
    """A part is solved by exactly the works up to the largest that its digest allows."""
    for row in VECTORS["digests"]:
        seed, part, nonce = bytes.fromhex(row["seed"]), row["part"], row["nonce"]
        largest = 2**64 // (row["digest64"] + 1)
        while reference.target(largest + 1, 1) > row["digest64"]:
            largest += 1
        for work, solved in ((largest, True), (largest + 1, False)):
            if work < 2**50:
                found = hits(kernel, seed, work * (part + 1), part + 1, part, nonce, 1)
                assert found == ([nonce] if solved else [])


def test_first_solutions(kernel):
    for row in VECTORS["solutions"]:
        task = puzzle(bytes.fromhex(row["seed"]), row["work"], row["parts"])
        nonces = ffi.new("uint64_t[]", row["parts"])
        assert lib.powfast_solve(nonces, kernel, task) == lib.POWFAST_OK
        assert list(nonces) == row["first"]
        assert lib.powfast_verify(kernel, task, nonces) == lib.POWFAST_OK


def test_search_finds_what_hashlib_finds_around_every_edge(kernel):
    rng = random.Random(3)
    for edge in reference.EDGES:
        seed, part, work = rng.randbytes(32), rng.randrange(8), rng.choice((1, 2, 16, 40))
        first = max(0, edge - rng.randrange(60))
        count = min(rng.randrange(1, 130), 2**64 - first)
        expected = [
            n
            for n in range(first, first + count)
            if reference.digest64(seed, part, n) < reference.target(work * 8, 8)
        ]
        assert hits(kernel, seed, work * 8, 8, part, first, count) == expected


@pytest.mark.parametrize("parts", [1, 2, 3, 16, 33, 64])
def test_batch_says_what_hashlib_says(kernel, parts):
    rng = random.Random(parts)
    count = 65
    seeds = [rng.randbytes(32) for _ in range(count)]
    works = [rng.choice((0, 1, parts, parts + 1, 2 * parts, 2**64 - 1)) for _ in range(count)]
    nonces = [[rng.choice((rng.getrandbits(64), 0)) for _ in range(parts)] for _ in range(count)]
    for i in range(0, count, 2):  # every other one is really solved
        works[i] = rng.randrange(1, 20 * parts)
        nonces[i] = reference.solve(seeds[i], works[i], parts)
    ok = np.full(count, 7, np.uint8)
    status = lib.powfast_verify_batch(
        ffi.from_buffer("uint8_t[]", ok), kernel, b"".join(seeds),
        ffi.from_buffer("uint64_t[]", np.array(works, np.uint64)),
        ffi.from_buffer("uint64_t[]", np.array(nonces, np.uint64)),
        count, parts,
    )  # fmt: skip
    assert status == lib.POWFAST_OK
    items = zip(seeds, works, nonces, strict=True)
    assert ok.tolist() == [w > 0 and reference.is_solved(s, w, n) for s, w, n in items]


@pytest.mark.parametrize(("work", "parts"), [(0, 1), (1, 0), (1, 1025), (0, 0)])
def test_no_function_takes_a_puzzle_out_of_range(kernel, work, parts):
    task, nonces = puzzle(bytes(32), work, parts), ffi.new("uint64_t[]", 1025)
    refused = lib.POWFAST_INVALID_ARGUMENT
    assert lib.powfast_puzzle_check(task) == refused
    assert lib.powfast_solve(nonces, kernel, task) == refused
    assert lib.powfast_verify(kernel, task, nonces) == refused
    assert lib.powfast_search(nonces, kernel, task, 0, 0, 1) == refused
    solver, state = ffi.new("powfast_solver *"), ffi.new("powfast_part[]", 1025)
    assert lib.powfast_solver_init(solver, state, kernel, task) == refused


def test_search_refuses_a_range_or_part_that_is_none(kernel):
    nonce, task = ffi.new("uint64_t *"), puzzle(bytes(32), 8, 8)
    refused = lib.POWFAST_INVALID_ARGUMENT
    assert lib.powfast_search(nonce, kernel, task, 8, 0, 1) == refused
    assert lib.powfast_search(nonce, kernel, task, 0, 2**64 - 1, 2) == refused
    assert lib.powfast_search(nonce, kernel, task, 0, 5, 0) == lib.POWFAST_NOT_FOUND
