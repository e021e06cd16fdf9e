"""Measuring this device: what is fixed is fixed, and what disturbs is said."""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import reference
from conftest import ROOT

from powfast.kernel import active_kernel, kernels
from powfast.profile import ClientProfile, measure, measure_client
from powfast.profile.document import Rate
from powfast.profile.machine import Usage, this_device
from powfast.puzzle import Puzzle, solve_counted

COMMITTED = sorted((ROOT / "benchmarks" / "profiles").glob("*.json"))


@pytest.fixture(scope="module")
def profile() -> ClientProfile:
    said: list[str] = []
    found = measure_client(name="here", quick=True, issue=int, verify=int, status=said.append)
    assert len(said) == 5
    return found


def test_every_kernel_is_measured_on_one_thread_and_on_all(profile: ClientProfile) -> None:
    cores = len(os.sched_getaffinity(0))
    trusted = {kernel.name for kernel in kernels() if kernel.trusted}
    measured = {(rate.kernel, rate.threads) for rate in profile.rates}
    assert measured == set(itertools.product(trusted, {1, cores}))
    assert all(
        low <= r.hashes_per_second <= high for r in profile.rates for low, high in [r.quartiles]
    )
    assert (profile.kernel, profile.solver.threads) == (active_kernel(), cores)


def test_the_profile_says_where_and_what(profile: ClientProfile) -> None:
    assert (profile.name, profile.quick) == ("here", True)
    assert profile.device == this_device()
    assert profile.device.cpu
    assert profile.server is not None
    assert profile.walks is not None
    assert profile.walk_worth == profile.hash_rate / profile.walks.all_threads
    assert 50 < profile.walk_worth < 50_000
    assert 0.0 < profile.solver.start_seconds < 0.1
    assert ClientProfile.from_json(profile.to_json()) == profile


def test_features_are_those_that_the_kernels_need() -> None:
    found, able = this_device().features, {row.name for row in kernels() if row.supported}
    assert ("shani" in able) == ("sha_ni" in found)
    assert ("avx2" in able) == ("avx2" in found)


def evaluations(work: int, parts: int, index: int) -> int:
    """What one thread needs, by hashlib alone."""
    seed, limit = measure.seed(work, parts, index), reference.target(work, parts)
    total = 0
    for part in range(parts):
        start = hashlib.sha256(seed + b"powfast/v1:" + struct.pack(">I", part))
        for nonce in itertools.count():
            total += 1
            digest = start.copy()
            digest.update(struct.pack(">Q", nonce))
            if int.from_bytes(digest.digest()[:8], "big") < limit:
                break
    return total


@pytest.mark.parametrize("parts", [1, 16, 64])
def test_the_evaluations_of_one_thread_are_those_that_hashlib_needs(
    parts: int, profile: ClientProfile
) -> None:
    (row,) = (r for r in profile.solving if (r.work, r.parts, r.threads) == (10_000, parts, 1))
    assert row.evaluations == sum(evaluations(10_000, parts, i) for i in range(row.puzzles))


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_every_device_makes_the_same_evaluations_on_one_thread(file: Path) -> None:
    rows = ClientProfile.from_json(file.read_bytes()).solving
    rows = tuple(row for row in rows if row.threads == 1 and row.work <= 100_000)
    assert rows
    for row in rows:
        puzzles = (
            Puzzle(measure.seed(row.work, row.parts, i), row.work, row.parts)
            for i in range(row.puzzles)
        )
        assert row.evaluations == sum(solve_counted(puzzle, threads=1)[1] for puzzle in puzzles)


QUIET = Usage(total=1000.0, idle=900.0, stolen=0.0, own=50.0, load=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"own": 150.0, "total": 1100.0}, []),
        ({"total": 1100.0, "idle": 940.0, "own": 110.0}, []),
        ({"total": 1100.0, "idle": 920.0, "own": 120.0}, ["other processes took 10%"]),
        ({"total": 1100.0, "idle": 950.0, "stolen": 3.0, "own": 97.0}, ["the hypervisor took 3%"]),
    ],
)
def test_what_disturbs_is_said(change: dict[str, float], said: list[str]) -> None:
    found = replace(QUIET, **change).disturbances(QUIET)
    assert [line[: len(start)] for line, start in zip(found, said, strict=True)] == said


def test_a_busy_machine_is_said() -> None:
    assert "load average 1.3" in QUIET.disturbances(replace(QUIET, load=1.3))[0]


def test_usage_grows_with_what_this_process_does() -> None:
    before = Usage.now()
    sum(range(5_000_000))
    after = Usage.now()
    assert after.own > before.own
    assert after.total >= before.total > 0.0


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ([10.0] * 60, []),
        ([10.0] * 45 + [9.6] * 15, []),
        ([10.0] * 30 + [8.0] * 30, ["it slowed down under load, to 80% of its first rate"]),
        ([8.0] * 30 + [10.0] * 30, []),
        ([10.0], []),
    ],
)
def test_slowing_down_is_said(slices: list[float], said: list[str]) -> None:
    assert measure._slower(tuple(slices)) == said


def test_uneven_rounds_are_said() -> None:
    even, uneven = Rate("a", 1, 100.0, (98.0, 102.0)), Rate("b", 2, 100.0, (90.0, 105.0))
    assert measure._uneven((even, even)) == []
    (line,) = measure._uneven((even, uneven))
    assert "b on 2 threads lie 15% apart" in line
