"""The Python surface under pytest-benchmark: python -m pytest benchmarks/test_surface.py."""

from __future__ import annotations

import numpy as np
import pytest

from powfast import challenge, puzzle

REQUEST = b"r" * 32
COUNT = 1000


@pytest.fixture(scope="module")
def issuer():
    return challenge.Issuer({"2026a": b"s" * 32}, claim=lambda id_, expires: True)


@pytest.fixture(scope="module")
def token(issuer):
    return issuer.issue(work=20_000, account="alice", request=REQUEST)


@pytest.fixture(scope="module")
def solution(token):
    return challenge.solve(token)


def test_issue(benchmark, issuer):
    benchmark(issuer.issue, work=20_000, account="alice", request=REQUEST)


def test_decode(benchmark, token):
    assert benchmark(challenge.decode, token).work == 20_000


def test_solve(benchmark, token):
    assert len(benchmark(challenge.solve, token, threads=1)) == 16


def test_verify_puzzle(benchmark, token, solution):
    assert benchmark(puzzle.verify, challenge.decode(token).puzzle, solution)


def test_redeem(benchmark, issuer, token, solution):
    receipt = benchmark(issuer.redeem, token, solution, account="alice", request=REQUEST)
    assert receipt.work == 20_000


def test_redeem_many(benchmark, issuer, token, solution):
    codes = benchmark(
        issuer.redeem_many,
        [token] * COUNT,
        [solution] * COUNT,
        accounts=["alice"] * COUNT,
        requests=[REQUEST] * COUNT,
    )
    assert not codes.any()


def test_verify_batch(benchmark):
    rng = np.random.default_rng(1)
    seeds = rng.integers(0, 256, (COUNT, 32), np.uint8)
    works = np.full(COUNT, 16, np.uint64)
    nonces = rng.integers(0, 2**64, (COUNT, 16), np.uint64)
    assert benchmark(puzzle.verify_batch, seeds, works, nonces).all()


def test_text(benchmark, token):
    text = challenge.token_to_text(token)
    assert benchmark(challenge.token_from_text, text) == token
