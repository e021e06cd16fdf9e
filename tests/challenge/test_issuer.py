"""What an issuer admits, and how it refuses everything else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import powfast
from powfast import challenge, errors
from powfast.challenge import Code, Issuer
from powfast.spent import SpentChallenges

NOW = 1_700_000_000.5
OLD, NEW = b"old secret" * 4, b"new secret" * 4
REQUEST = b"\x07" * 32


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def claims():
    """Every challenge id that was claimed."""
    return []


@pytest.fixture
def issuer(clock, claims):
    spent = SpentChallenges(clock=clock)

    def claim(challenge_id: bytes, expires: float) -> bool:
        claims.append(challenge_id)
        return spent(challenge_id, expires)

    return Issuer({"2025": OLD, "2026": NEW}, ttl=60, claim=claim, clock=clock)


@pytest.fixture
def token(issuer):
    return issuer.issue(work=2000, account="alice", group="acme", request=REQUEST, parts=3)


@pytest.fixture
def solution(token):
    return challenge.solve(token, threads=1)


def test_admitted_once(issuer, token, solution):
    receipt = issuer.redeem(token, solution, account="alice", request=REQUEST)
    said = challenge.decode(token)
    for name in ("challenge_id", "key_id", "work", "parts", "account", "group", "request"):
        assert getattr(receipt, name) == getattr(said, name)
    assert (receipt.key_id, receipt.work, receipt.parts) == ("2026", 2000, 3)
    assert (receipt.issued, receipt.expires) == (NOW, NOW + 60)
    with pytest.raises(errors.AlreadyRedeemed):
        issuer.redeem(token, solution, account="alice", request=REQUEST)


def test_check_redeems_nothing(issuer, token, solution, claims):
    for _ in range(2):
        issuer.check(token, solution, account="alice", request=REQUEST)
    assert claims == []


def test_verify_needs_no_key_and_redeems_nothing(issuer, token, solution, clock, claims):
    for said in (token, challenge.decode(token)):
        assert powfast.solve(said, threads=1) == solution
        assert powfast.verify(said, solution)
        assert not powfast.verify(said, solution[::-1])
        assert not powfast.verify(said, solution[:-1])
        assert not powfast.verify(said, None)
    clock.now = NOW + 3600
    forged = token[:-1] + bytes([token[-1] ^ 1])
    assert powfast.verify(forged, powfast.solve(forged))
    assert claims == []
    for raw, error in ((b"x", errors.MalformedToken), (None, errors.MalformedToken)):
        with pytest.raises(error):
            powfast.verify(raw, solution)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"account": "bob"}, errors.WrongAccount),
        ({"account": ""}, errors.WrongAccount),
        ({"account": None}, errors.WrongAccount),
        ({"request": b""}, errors.WrongRequest),
        ({"request": REQUEST + b"\0"}, errors.WrongRequest),
        ({"solution": ()}, errors.MalformedSolution),
        ({"solution": (1, 2)}, errors.MalformedSolution),
        ({"solution": (1, 2, 3, 4)}, errors.MalformedSolution),
        ({"solution": (1, 2, -3)}, errors.MalformedSolution),
        ({"solution": (1, 2, 2**64)}, errors.MalformedSolution),
        ({"solution": (1, 2, 3.0)}, errors.MalformedSolution),
        ({"solution": (1, 2, True)}, errors.MalformedSolution),
        ({"solution": "abc"}, errors.MalformedSolution),
        ({"solution": None}, errors.MalformedSolution),
        ({"solution": (2**64 - 1,) * 3}, errors.WrongSolution),
        ({"token": b""}, errors.MalformedToken),
        ({"token": "text"}, errors.MalformedToken),
        ({"token": None}, errors.MalformedToken),
        ({"token": bytes(200)}, errors.MalformedToken),
        ({"token": bytes(10**6)}, errors.MalformedToken),
    ],
)
def test_refused(issuer, token, solution, claims, change, error):
    given = {"token": token, "solution": solution, "account": "alice", "request": REQUEST} | change
    with pytest.raises(error) as caught:
        issuer.redeem(given["token"], given["solution"], account=given["account"],
                      request=given["request"])  # fmt: skip
    assert type(caught.value) is error
    codes = issuer.redeem_many(
        [given["token"]], [given["solution"]], accounts=[given["account"]],
        requests=[given["request"]],
    )  # fmt: skip
    assert Code(codes[0]).name.lower().replace("_", "-") == error.code
    assert claims == []


def test_swapped_and_duplicated_parts(issuer, token, solution):
    first, second, third = solution
    for wrong in ((second, first, third), (first, first, first)):
        with pytest.raises(errors.WrongSolution):
            issuer.redeem(token, wrong, account="alice", request=REQUEST)


def test_solution_for_another_challenge(issuer, solution):
    other = issuer.issue(work=2000, account="alice", request=REQUEST, parts=3)
    with pytest.raises(errors.WrongSolution):
        issuer.redeem(other, solution, account="alice", request=REQUEST)


def test_nonce_zero_is_a_nonce(issuer):
    token = issuer.issue(work=1)
    assert challenge.solve(token) == (0,)
    assert issuer.redeem(token, (0,)).work == 1


def test_the_hardest_challenge_is_issued_and_not_admitted(issuer):
    token = issuer.issue(work=2**64 - 1)
    assert challenge.decode(token).puzzle.work == 2**64 - 1
    with pytest.raises(errors.TooMuchWork):
        challenge.solve(token)
    with pytest.raises(errors.WrongSolution):
        issuer.redeem(token, tuple(range(16)))


# -- time


def test_expired(issuer, token, solution, clock, claims):
    clock.now = NOW + 59.998
    issuer.check(token, solution, account="alice", request=REQUEST)
    clock.now = NOW + 60
    with pytest.raises(errors.Expired):
        issuer.redeem(token, solution, account="alice", request=REQUEST)
    assert claims == []


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_clock_that_makes_no_sense_admits_nothing(issuer, token, solution, clock, claims, now):
    clock.now = now
    with pytest.raises(errors.NotYetValid):
        issuer.redeem(token, solution, account="alice", request=REQUEST)
    assert claims == []


def test_not_yet_valid(issuer, token, solution, clock):
    clock.now = NOW - 0.9  # servers' clocks may differ by a second
    issuer.check(token, solution, account="alice", request=REQUEST)
    clock.now = NOW - 1.1
    with pytest.raises(errors.NotYetValid):
        issuer.redeem(token, solution, account="alice", request=REQUEST)


# -- keys


def test_rotation(issuer, token, solution, clock):
    before = Issuer({"2025": OLD}, clock=clock)
    old_token = before.issue(work=1)
    assert issuer.redeem(old_token, (0,)).key_id == "2025"
    assert challenge.decode(token).key_id == "2026"
    with pytest.raises(errors.UnknownKey):
        before.redeem(token, solution, account="alice", request=REQUEST)


def test_signed_by_another_key_of_that_id(token, solution, clock):
    impostor = Issuer({"2026": OLD}, clock=clock)
    with pytest.raises(errors.BadSignature):
        impostor.redeem(token, solution, account="alice", request=REQUEST)


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({}, "key"),
        ({"a": b"short"}, "32"),
        ({"a": bytes(31)}, "32"),
        ({"a": "s" * 32}, "32"),
        ({"": bytes(32)}, "key id"),
        ({"k" * 256: bytes(32)}, "key id"),
        ({1: bytes(32)}, "key id"),
    ],
)
def test_keys_out_of_range(keys, word):
    with pytest.raises(errors.InvalidInput, match=word):
        Issuer(keys)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
def test_ttl_out_of_range(ttl):
    with pytest.raises(errors.InvalidInput, match="ttl"):
        Issuer({"a": bytes(32)}, ttl=ttl)


# -- altered tokens


def test_every_flipped_bit_is_refused(issuer, token, solution, claims):
    for bit in range(8 * len(token)):
        altered = bytearray(token)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(errors.Refused):
            issuer.redeem(bytes(altered), solution, account="alice", request=REQUEST)
    assert claims == []


def test_every_truncation_and_addition_is_refused(issuer, token, solution):
    for altered in [*(token[:end] for end in range(len(token))), token + b"\0", b"\0" + token]:
        with pytest.raises(errors.MalformedToken):
            issuer.redeem(altered, solution, account="alice", request=REQUEST)


def test_spliced_fields_are_refused(issuer, token):
    """Fields of one genuine token in another, with and without its own signature."""
    other = issuer.issue(work=1, account="alicia", group="acm", request=REQUEST, parts=1)
    cuts = sorted({10, 11, 27, 35, 37, 45, 53, len(token) - 32, len(other) - 32})
    for start in cuts:
        for end in (*cuts, len(token)):
            spliced = token[:start] + other[start:end] + token[end:]
            if start < end and spliced not in (token, other):
                with pytest.raises(errors.Refused):
                    issuer.redeem(spliced, (0,), account="alice", request=REQUEST)
    moved = token.replace(b"\x05alice\x04acme", b"\x09aliceacme\x00")
    assert moved != token
    with pytest.raises(errors.BadSignature):
        issuer.redeem(moved, (0,), account="aliceacme", request=REQUEST)


@settings(deadline=None)
@given(st.binary(max_size=300), st.tuples(st.integers()))
def test_hostile_bytes_end_in_a_typed_error(token, solution):
    for raw in (token, b"powfast/c1" + token):
        with pytest.raises(errors.Refused):
            Issuer({"a": bytes(32)}).redeem(raw, solution)


# -- single use


def test_64_concurrent_copies_one_wins(issuer, token, solution):
    gate = threading.Barrier(64)

    def attempt(_: int) -> str:
        gate.wait()
        try:
            issuer.redeem(token, solution, account="alice", request=REQUEST)
        except errors.AlreadyRedeemed as error:
            return error.code
        return "admitted"

    with ThreadPoolExecutor(64) as pool:
        outcomes = list(pool.map(attempt, range(64)))
    assert sorted(outcomes) == ["admitted"] + ["already-redeemed"] * 63


def test_spent_challenges_forget_what_is_over(clock):
    spent = SpentChallenges(clock=clock)
    for i in range(1000):
        assert spent(i.to_bytes(16, "big"), NOW + 1 + i)
        assert not spent(i.to_bytes(16, "big"), NOW + 1 + i)
        clock.now = NOW + i
        assert len(spent) <= 12
    assert not spent(b"late", clock.now)


# -- many at once


def test_redeem_many(issuer, token, solution):
    good = [issuer.issue(work=1, parts=1) for _ in range(3)]
    tokens = [token, good[0], good[1], good[0], b"", None, good[2]]
    solutions = [solution, (5,), (0, 0), (6,), (0,), (0,), [0]]
    accounts = ["alice", "", "", "", "", "", ""]
    requests = [REQUEST, b"", b"", b"", b"", b"", b""]
    codes = issuer.redeem_many(tokens, solutions, accounts=accounts, requests=requests)
    assert isinstance(codes, np.ndarray)
    assert list(map(Code, codes)) == [
        Code.ADMITTED,
        Code.ADMITTED,
        Code.MALFORMED_SOLUTION,
        Code.ALREADY_REDEEMED,
        Code.MALFORMED_TOKEN,
        Code.MALFORMED_TOKEN,
        Code.ADMITTED,
    ]
    assert issuer.redeem_many([], []).tolist() == []
    with pytest.raises(errors.InvalidInput, match="equally many"):
        issuer.redeem_many([token], [])


def test_every_refusal_has_its_code():
    leaves = {leaf.code for leaf in errors.Refused.__subclasses__()}
    codes = {code.name.lower().replace("_", "-") for code in Code}
    assert codes == leaves | {"admitted", "refused"}


def test_a_store_that_fails_refuses_only_its_item(clock):
    def claim(challenge_id: bytes, expires: float) -> bool:
        raise ConnectionError("store down")

    issuer = Issuer({"a": bytes(32)}, claim=claim, clock=clock)
    token = issuer.issue(work=1)
    assert issuer.redeem_many([token, b""], [(0,), (0,)]).tolist() == [
        Code.REFUSED,
        Code.MALFORMED_TOKEN,
    ]
    with pytest.raises(ConnectionError):
        issuer.redeem(token, (0,))
