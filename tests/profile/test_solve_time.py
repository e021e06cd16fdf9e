"""The distribution of solve times: held to scipy, mpmath and to what solving really takes."""

from __future__ import annotations

import hashlib
import math
import random

import mpmath
import numpy as np
import profiles
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from powfast.errors import InvalidInput
from powfast.profile import (
    ClientProfile,
    Fleet,
    affordable_work,
    evaluations,
    solve_seconds,
    tail,
    walk_worth,
)
from powfast.puzzle import Puzzle, solve_counted

CHUNK = 4096  # nonces that a thread takes at a time: csrc/solve.c

PUZZLES = [
    (1, 1),
    (2, 1),
    (3, 2),
    (17, 16),
    (255, 1),
    (5000, 1024),
    (10**6, 1),
    (10**6, 16),
    (10**6, 64),
    (10**12, 16),
    (2**63 + 5, 1),
    (2**64 - 1, 16),
]


def success(work: int, parts: int) -> mpmath.mpf:
    return mpmath.mpf(reference.target(work, parts)) / 2**64


def exact_tail(count: int, work: int, parts: int) -> float:
    """1 - I_p(parts, count - parts + 1), with sixty digits."""
    with mpmath.workdps(60):
        p = success(work, parts)
        if count < parts:
            return 1.0
        return float(mpmath.betainc(count - parts + 1, parts, 0, 1 - p, regularized=True))


@pytest.mark.parametrize(("work", "parts"), PUZZLES)
@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7, 5.0])
def test_tail_is_the_incomplete_beta_function(work: int, parts: int, scale: float) -> None:
    count = math.ceil(scale * max(work, parts))
    assert tail(count, work, parts) == pytest.approx(exact_tail(count, work, parts), rel=1e-9)


@pytest.mark.parametrize(("work", "parts"), PUZZLES[:-2])
@pytest.mark.parametrize("quantile", [0.01, 0.5, 0.9, 0.99, 0.9999])
def test_evaluations_are_scipy_s_quantile(work: int, parts: int, quantile: float) -> None:
    found = evaluations(work, parts, quantile)
    p = float(success(work, parts))
    expected = parts + (stats.nbinom.ppf(quantile, parts, p) if p < 1.0 else 0.0)
    assert found == pytest.approx(expected, rel=1e-9, abs=1)


@settings(deadline=None)
@given(st.integers(1, 2**40), st.integers(1, 64), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_evaluations_are_the_fewest_that_suffice(
    work: int, parts: int, quantile: float, other: float
) -> None:
    found = evaluations(work, parts, quantile)
    assert tail(found, work, parts) <= 1.0 - quantile
    assert found == parts or tail(found - 1, work, parts) > 1.0 - quantile
    assert (evaluations(work, parts, other) >= found) == (other >= quantile) or (
        evaluations(work, parts, other) == found
    )


@pytest.mark.parametrize(("parts", "ratio"), [(1, 4.6), (16, 1.67), (64, 1.31)])
def test_the_spread_that_the_design_promises(parts: int, ratio: float) -> None:
    assert evaluations(10**8, parts, 0.99) / 10**8 == pytest.approx(ratio, abs=0.006)


@pytest.mark.parametrize(("work", "parts"), [(1500, 1), (2000, 4), (3200, 16), (6400, 64)])
def test_real_solves_are_distributed_so(work: int, parts: int) -> None:
    counts = [
        solve_counted(Puzzle(seed(work, parts, i), work, parts), threads=1)[1] for i in range(2000)
    ]
    p = float(success(work, parts))
    found = stats.kstest(np.array(counts) - parts, lambda n: stats.nbinom.cdf(n, parts, p))
    assert found.pvalue > 0.01  # fixed seeds: the same number every time
    for quantile in (0.5, 0.9, 0.99):
        above = np.mean(np.array(counts) > evaluations(work, parts, quantile))
        assert above == pytest.approx(1 - quantile, abs=4 * math.sqrt(0.25 / len(counts)))


def seed(*what: int) -> bytes:
    return hashlib.sha256(repr(what).encode()).digest()


def scheduled(threads: int, part_work: int, parts: int, rng: random.Random) -> int:
    """Evaluations that each thread makes until all parts are solved, taking turns one by one.

    What csrc/solve.c does: chunks of one part, the next unsolved part in turn once it is solved,
    and a thread whose part another one solves finishes its chunk in vain.
    """
    solved, turn = [False] * parts, 0

    def pick() -> int:
        nonlocal turn
        part, turn = turn % parts, turn + 1
        return next(i % parts for i in range(part, part + parts) if not solved[i % parts])

    at, left, count = [pick() for _ in range(threads)], [0] * threads, 0
    while True:
        count += 1
        for thread in range(threads):
            if left[thread] == 0:
                if solved[at[thread]]:
                    at[thread] = pick()
                left[thread] = CHUNK
            left[thread] -= 1
            if rng.random() * part_work < 1.0:
                left[thread] = 0
                solved[at[thread]] = True
                if all(solved):
                    return count


@pytest.mark.parametrize(("threads", "parts"), [(2, 1), (2, 16), (4, 2), (5, 3)])
def test_threads_that_share_the_parts_take_the_same_evaluations(threads: int, parts: int) -> None:
    rng = random.Random(1)
    part_work, rounds = 2000, 150
    took = [threads * scheduled(threads, part_work, parts, rng) for _ in range(rounds)]
    mean, deviation = parts * part_work, math.sqrt(parts) * part_work
    # What is finished in vain: at most about (1 + ln t) chunks of every thread.
    vain = threads * (1.0 + math.log(threads)) * min(CHUNK, part_work)
    slack = 4.0 * deviation / math.sqrt(rounds)
    assert mean - slack <= np.mean(took) <= mean + slack + vain


def test_real_threads_take_the_same_evaluations() -> None:
    work, parts = 400_000, 16
    took = [solve_counted(Puzzle(seed(work, i), work, parts), threads=2)[1] for i in range(100)]
    slack = 4.0 * work / math.sqrt(parts * len(took))
    assert work - slack <= np.mean(took) <= work + slack + 2 * 1.7 * CHUNK


def test_seconds_are_evaluations_over_the_rates() -> None:
    profile = profiles.example(hash_rate=2e7, threads=2)
    many, few = evaluations(10**6, 16, 0.9), evaluations(1000, 3, 0.9)
    both = 1e-5 + 16384 / 1e7 + (many - 16384) / 2e7
    assert solve_seconds(profile, 10**6, 16, 0.9) == pytest.approx(both)
    assert solve_seconds(profile, 10**6, 16, 0.9, alone=True) == pytest.approx(1e-5 + many / 1e7)
    assert solve_seconds(profile, 1000, 3, 0.9) == pytest.approx(1e-5 + few / 1e7)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e3, 1e10), st.floats(0.1, 10)), min_size=1, max_size=6),
    st.floats(0.01, 1.0),
    st.floats(0.01, 10.0),
    st.integers(1, 64),
)
def test_the_answer_is_the_most_work_that_the_share_affords(
    devices: list[tuple[float, float]], share: float, seconds: float, parts: int
) -> None:
    fleet = Fleet(
        tuple(profiles.example(rate) for rate, _ in devices), tuple(w for _, w in devices)
    )

    def afforded(work: int, limit: float) -> float:
        shares = zip(fleet.profiles, fleet.shares, strict=True)
        return sum(s for p, s in shares if solve_seconds(p, work, parts, 0.99) <= limit)

    work = affordable_work(fleet, seconds=seconds, share=share, parts=parts)
    # Seconds are rounded to evaluations by either of the two.
    if work:
        assert afforded(work, seconds * (1 + 1e-9)) >= share - 1e-9
    more = max(work, parts - 1) + parts  # the next work with harder parts
    assert afforded(more, seconds * (1 - 1e-6) - 1e-3) < share + 1e-9


@pytest.mark.parametrize(
    "call",
    [
        lambda: tail(1, 0, 1),
        lambda: tail(1, 10, 0),
        lambda: evaluations(10, 1, 1.0),
        lambda: evaluations(10, 1, float("nan")),
        lambda: evaluations(10, 1025, 0.5),
        lambda: affordable_work(Fleet((profiles.example(),), (1.0,)), seconds=0.0),
        lambda: affordable_work(Fleet((profiles.example(),), (1.0,)), seconds=float("inf")),
        lambda: affordable_work(Fleet((profiles.example(),), (1.0,)), seconds=1.0, share=1.1),
        lambda: affordable_work(Fleet((profiles.example(),), (1.0,)), seconds=1.0, parts=0),
    ],
)
def test_refuses_nonsense(call: object) -> None:
    with pytest.raises(InvalidInput):
        call()  # type: ignore[operator]


# -- walks


@pytest.mark.parametrize(
    ("share", "worth"),
    [
        (0.2, 8e7 / 1e5),  # so many clients hash at 8e7 or faster, and walk at 1e5
        (0.7, 2e7 / 1e5),
        (0.9, 2e7 / 8e4),
        (1.0, 1e7 / 4e4),
    ],
)
def test_the_slowest_of_the_share_takes_as_long_over_walks(share, worth):
    rates = [(8e7, 8e4), (2e7, 1e5), (1e7, 4e4)]
    devices = tuple(profiles.example(hashes, walks=walks) for hashes, walks in rates)
    assert walk_worth(Fleet(devices, (2.0, 7.0, 1.0)), share=share) == worth


def test_walks_that_were_not_measured():
    measured, older = profiles.example(walks=1e5), profiles.example(name="older")
    assert ClientProfile.from_json(measured.to_json()) == measured
    assert older.walks is None
    fleet = Fleet((measured, older), (1.0, 1.0))
    with pytest.raises(InvalidInput, match="older measured no walks"):
        walk_worth(fleet)
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(InvalidInput, match="share"):
            walk_worth(Fleet((measured,), (1.0,)), share=share)
    text = measured.to_json().replace('"all_threads": 100000.0', '"all_threads": 0')
    with pytest.raises(InvalidInput, match="walks"):
        ClientProfile.from_json(text)
