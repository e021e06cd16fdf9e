"""Challenges of algorithm 2: issued and taken where somebody asks, verified at a walk each."""

from __future__ import annotations

import json

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from powfast import _native, challenge, errors
from powfast.challenge import MIN_PART_WALKS, Code, Issuer
from powfast.puzzle import Algorithm, default_parts

SECRET = b"s" * 32
NOW = 1_700_000_000.5
WALKS = Algorithm.CACHEWALK
VECTORS = json.loads((reference.VECTORS / "walking-token.json").read_text())


def issuer_of(*algorithms, **more):
    return Issuer({"k": SECRET}, clock=lambda: NOW, algorithms=algorithms, **more)


@pytest.fixture
def issuer():
    return issuer_of(*Algorithm)


@pytest.fixture
def walked(monkeypatch):
    """Every verification that may have taken walks."""
    calls = []
    ring = _native.Ring

    class Counting:
        def __init__(self, *arguments):
            self.ring = ring(*arguments)

        def __getattr__(self, name):
            return getattr(self.ring, name)

        def checker(self, refusals):
            check = self.ring.checker(refusals)
            return lambda *arguments: (calls.append(arguments[0]), check(*arguments))[1]

    monkeypatch.setattr(_native, "Ring", Counting)
    return calls


def wrong(solution):
    return (solution[0] + 1, *solution[1:])


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: str(row["work"]))
def test_vectors(row):
    token, solution = bytes.fromhex(row["token"]), tuple(row["solution"])
    said = challenge.decode(token)
    assert (said.algorithm, said.work, said.parts) == (2, row["work"], row["parts"])
    assert said.puzzle.algorithm is WALKS
    assert challenge.solve(token, threads=1) == solution
    assert challenge.verify(token, solution)
    assert not challenge.verify(token, wrong(solution))
    issuer = Issuer(
        {said.key_id: bytes.fromhex(row["secret"])},
        clock=lambda: said.issued,
        algorithms=[WALKS],
    )
    receipt = issuer.redeem(token, solution, account=said.account, request=said.request)
    assert (receipt.algorithm, receipt.work) == (2, row["work"])
    with pytest.raises(errors.AlreadyRedeemed):
        issuer.redeem(token, solution, account=said.account, request=said.request)


def test_the_other_puzzle_has_another_solution(issuer):
    token = issuer.issue(work=2000, algorithm=WALKS, parts=2)
    plain = issuer.issue(work=2000, parts=2)
    assert challenge.decode(plain).algorithm == 1
    seed = challenge.decode(token).puzzle.seed
    assert not challenge.verify(token, challenge.solve(plain))
    as_hashes = challenge.puzzle.Puzzle(seed, 2000, 2)
    with pytest.raises(errors.WrongSolution):
        issuer.check(token, challenge.puzzle.solve(as_hashes))


@given(st.integers(1, 2**64 - 1), st.integers(1, 32))
def test_issue_makes_the_bytes_of_the_reference(work, parts):
    issuer = issuer_of(*Algorithm)
    if parts > 16 or work < MIN_PART_WALKS * parts:
        with pytest.raises(errors.InvalidInput, match="at most 16 parts, and 50 walks for each"):
            issuer.issue(work=work, parts=parts, algorithm=WALKS)
        return
    token = issuer.issue(work=work, parts=parts, algorithm=WALKS)
    said = challenge.decode(token)
    assert token == reference.token(
        SECRET, algorithm=2, challenge_id=said.challenge_id, work=work, parts=parts,
        issued_ms=round(said.issued * 1000), expires_ms=round(said.expires * 1000),
        key_id=b"k", account=b"", group=b"", request=b"",
    )  # fmt: skip


@given(st.integers(1, 2**64 - 1))
def test_verifying_is_at_most_a_fiftieth_of_solving(work):
    """Whatever the issuer issues with the usual parts: one walk for each part."""
    if work >= MIN_PART_WALKS:
        assert default_parts(work) * 50 <= work


def test_by_default_no_issuer_issues_or_takes_it(issuer):
    token = issuer.issue(work=64, algorithm=WALKS)
    solution = challenge.solve(token)
    plain = Issuer({"k": SECRET}, clock=lambda: NOW)
    with pytest.raises(errors.InvalidInput, match="algorithm must be one of"):
        plain.issue(work=64, algorithm=WALKS)
    with pytest.raises(errors.UnsupportedAlgorithm):
        plain.redeem(token, solution)
    assert plain.redeem_many([token], [solution]).tolist() == [Code.UNSUPPORTED_ALGORITHM]
    assert issuer.redeem_many([token], [solution]).tolist() == [Code.ADMITTED]


def test_an_issuer_of_walks_alone_takes_no_hashes(issuer):
    token = issuer.issue(work=64)
    walking = issuer_of(WALKS)
    with pytest.raises(errors.InvalidInput, match="algorithm must be one of"):
        walking.issue(work=64)
    with pytest.raises(errors.UnsupportedAlgorithm):
        walking.redeem(token, challenge.solve(token))


@pytest.mark.parametrize("algorithms", [(), (3,), ("sha256",), (1, 3)])
def test_other_algorithms_are_refused(algorithms):
    with pytest.raises(errors.InvalidInput, match="algorithms must be some of"):
        issuer_of(*algorithms)


def test_many_of_both_kinds_are_told_apart(issuer):
    tokens = [
        issuer.issue(work=100 * parts, parts=parts, algorithm=algorithm)
        for parts in (1, 2)
        for algorithm in (1, 2, 2, 1)
    ]
    solutions = [challenge.solve(token, threads=1) for token in tokens]
    solutions[2] = wrong(solutions[2])
    solutions[4] = (2**64 - 1, 2**64 - 1)
    solutions[5] = (0,)
    expected = [Code.ADMITTED] * 8
    expected[2] = expected[4] = Code.WRONG_SOLUTION
    expected[5] = Code.MALFORMED_SOLUTION
    assert issuer.redeem_many(tokens, solutions).tolist() == expected
    again = [Code.ALREADY_REDEEMED if code == Code.ADMITTED else code for code in expected]
    assert issuer.redeem_many(tokens, solutions).tolist() == again


def test_what_is_forged_takes_no_walk(issuer):
    """All that can be known without the solution is checked before."""
    token = issuer.issue(work=64, account="alice", request=b"r", algorithm=WALKS)
    right = challenge.solve(token)
    forged = token[:-1] + bytes([token[-1] ^ 1])
    for raw, account, request, error in (
        (forged, "alice", b"r", errors.BadSignature),
        (token, "bob", b"r", errors.WrongAccount),
        (token, "alice", b"s", errors.WrongRequest),
    ):
        with pytest.raises(error):
            issuer.redeem(raw, wrong(right), account=account, request=request)
    assert issuer.redeem(token, right, account="alice", request=b"r").algorithm == 2


def test_a_wrong_solution_makes_its_challenge_worthless(walked):
    issuer = issuer_of(*Algorithm)
    token, other = (issuer.issue(work=64, algorithm=WALKS) for _ in range(2))
    right = challenge.solve(token)
    for _ in range(3):
        with pytest.raises(errors.WrongSolution):
            issuer.redeem(token, wrong(right))
    with pytest.raises(errors.WrongSolution, match="ask for a fresh one"):
        issuer.redeem(token, right)
    assert walked == [token]
    issuer.redeem(other, challenge.solve(other))


def test_many_wrong_solutions_of_one_challenge_take_one_walk(walked):
    issuer = issuer_of(*Algorithm)
    token, other = (issuer.issue(work=64, account="alice", algorithm=WALKS) for _ in range(2))
    right, tokens = challenge.solve(token), [token, token, token[:-1] + b"\0", token, other]
    solutions = [wrong(right), right, wrong(right), wrong(right), challenge.solve(other)]
    accounts = ["alice", "alice", "alice", "mallory", "alice"]
    expected = [Code.WRONG_SOLUTION] * 4 + [Code.ADMITTED]
    for admitted in (Code.ADMITTED, Code.ALREADY_REDEEMED):
        expected[-1] = admitted
        assert issuer.redeem_many(tokens, solutions, accounts=accounts).tolist() == expected
    with pytest.raises(errors.WrongSolution, match="ask for a fresh one"):
        issuer.redeem(token, right, account="alice")
    assert walked == [token, other, other]


def test_an_item_of_many_never_raises(issuer):
    token = issuer.issue(work=64, algorithm=WALKS)
    solution = challenge.solve(token)
    many = [(token, ("x",), "", b""), (token, solution, None, b""), (token, None, "", 3)]
    codes = issuer.redeem_many(*zip(*(item[:2] for item in many), strict=True),
                               accounts=[item[2] for item in many],
                               requests=[item[3] for item in many])  # fmt: skip
    assert Code.ADMITTED not in codes.tolist()
    assert issuer.redeem_many([token], [solution]).tolist() == [Code.ADMITTED]


def test_a_forger_cannot_make_anothers_challenge_worthless(issuer):
    token = issuer.issue(work=64, account="alice", algorithm=WALKS)
    for raw, account in ((token[:-1] + b"\0", "alice"), (token, "mallory")):
        with pytest.raises(errors.Refused):
            issuer.redeem(raw, (0,), account=account)
    assert issuer.redeem(token, challenge.solve(token), account="alice").work == 64


def test_a_wrong_solution_of_hashes_may_be_put_right(issuer):
    token = issuer.issue(work=64)
    right = challenge.solve(token)
    with pytest.raises(errors.WrongSolution):
        issuer.redeem(token, (2**64 - 1,))
    assert issuer.redeem(token, right).algorithm == 1
