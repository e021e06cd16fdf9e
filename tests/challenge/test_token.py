"""The token's bytes and text, against the reference in tests/reference.py."""

from __future__ import annotations

import base64
import hashlib
import json
import struct

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import powfast
from powfast import challenge, errors
from powfast.challenge import Issuer
from powfast.puzzle import Algorithm

VECTORS = json.loads((reference.VECTORS / "token.json").read_text())
SECRET = b"s" * 32
FIELDS = {
    "challenge_id": bytes(range(16)), "work": 7, "parts": 2, "issued_ms": 1000, "expires_ms": 61000,
    "key_id": b"k", "account": b"", "group": b"", "request": b"",
}  # fmt: skip


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: str(len(row["token"]) // 2))
def test_vectors(row):
    token = bytes.fromhex(row["token"])
    said = challenge.decode(token)
    assert said.challenge_id.hex() == row["challenge_id"]
    for name in ("key_id", "account", "group"):
        assert getattr(said, name).encode().hex() == row[name]
    assert said.request.hex() == row["request"]
    assert (said.work, said.parts) == (row["work"], row["parts"])
    assert (said.issued, said.expires) == (row["issued_ms"] / 1000, row["expires_ms"] / 1000)
    assert said.puzzle.seed.hex() == row["seed"]
    issuer = Issuer({said.key_id: bytes.fromhex(row["secret"])}, clock=lambda: said.issued)
    solution = tuple(row["solution"])
    assert challenge.solve(token, threads=1) == solution
    receipt = issuer.redeem(token, solution, account=said.account, request=said.request)
    assert receipt.challenge_id == said.challenge_id


text255 = st.text(max_size=80).filter(lambda text: len(text.encode()) <= 255)


@given(
    st.integers(1, 2**64 - 1), st.integers(1, 1024), text255, text255, text255.filter(len),
    st.binary(max_size=255), st.binary(min_size=32, max_size=200),
    st.integers(0, 2**40), st.integers(1, 10**6),
)  # fmt: skip
def test_issue_makes_the_bytes_of_the_reference(
    work, parts, account, group, key_id, request, secret, now_ms, ttl_ms
):
    issuer = Issuer({key_id: secret}, ttl=ttl_ms / 1000, clock=lambda: now_ms / 1000)
    token = issuer.issue(work=work, account=account, group=group, request=request, parts=parts)
    said = challenge.decode(token)
    assert token == reference.token(
        secret,
        challenge_id=said.challenge_id,
        work=work,
        parts=parts,
        issued_ms=round(said.issued * 1000),
        expires_ms=round(said.expires * 1000),
        key_id=key_id.encode(),
        account=account.encode(),
        group=group.encode(),
        request=request,
    )
    assert abs(round(said.issued * 1000) - now_ms) <= 1
    assert abs(said.expires - said.issued - ttl_ms / 1000) < 0.0021
    assert said.puzzle.seed == hashlib.sha256(token).digest()


def test_ids_are_fresh():
    issuer = Issuer({"k": SECRET})
    ids = {challenge.decode(issuer.issue(work=1)).challenge_id for _ in range(1000)}
    assert len(ids) == 1000


@pytest.mark.parametrize(
    "fields",
    [
        {"work": 0},
        {"parts": 0},
        {"parts": 1025},
        {"key_id": b""},
        {"account": b"\xff"},
        {"group": b"\xc0\x80"},
        {"key_id": b"\xed\xa0\x80"},
        {"tag": b"powfast/c2"},
        {"tag": b"powfast/d1"},
    ],
)
def test_well_signed_tokens_out_of_range_are_malformed(fields):
    raw = reference.token(SECRET, **(FIELDS | fields))
    issuer = Issuer({"k": SECRET}, clock=lambda: 2.0)
    for refuse in (challenge.decode, lambda token: issuer.redeem(token, (0, 0))):
        with pytest.raises(errors.MalformedToken):
            refuse(raw)


@pytest.mark.parametrize("algorithm", [0, 3, 31, 32, 33, 34, 255])
def test_unknown_algorithm(algorithm):
    raw = reference.token(SECRET, algorithm=algorithm, **FIELDS)
    with pytest.raises(
        errors.UnsupportedAlgorithm,
        match=rf"algorithm {algorithm}, and powfast {powfast.__version__} knows 1 and 2: a later",
    ):
        challenge.decode(raw)
    issuer = Issuer({"k": SECRET}, clock=lambda: 2.0, algorithms=list(Algorithm))
    with pytest.raises(errors.UnsupportedAlgorithm, match="this issuer takes no"):
        issuer.redeem(raw, (0, 0))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("work", value) for value in (0, -1, 2**64, 1.0, True, None)]
    + [("parts", value) for value in (0, 1025, 1.0, True)]
    + [("account", value) for value in ("a" * 256, "é" * 128, b"a", None, 7, "\ud800")]
    + [("group", value) for value in ("a" * 256, b"a", None)]
    + [("request", value) for value in (bytes(256), "text", None)],
)
def test_issue_refuses_what_is_out_of_range(argument, value):
    with pytest.raises(errors.InvalidInput, match=argument):
        Issuer({"k": SECRET}).issue(**({"work": 1} | {argument: value}))


# -- text


@given(st.binary(max_size=200), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40))
def test_text_round_trip(token, nonces):
    text = challenge.token_to_text(token)
    assert challenge.token_from_text(text) == token
    assert text == base64.urlsafe_b64encode(token).rstrip(b"=").decode()
    solution = challenge.solution_to_text(tuple(nonces))
    assert challenge.solution_from_text(solution) == tuple(nonces)
    packed = struct.pack(f">{len(nonces)}Q", *nonces)
    assert challenge.token_from_text(solution) == packed


@pytest.mark.parametrize(
    "text", ["A", "AA==", "AB", "A A", "AA\n", "AAA=", "++++", "é", "\0", "-_-_."]
)
def test_text_that_is_not_canonical(text):
    with pytest.raises(errors.MalformedToken):
        challenge.token_from_text(text)
    with pytest.raises(errors.MalformedSolution):
        challenge.solution_from_text(text)


@pytest.mark.parametrize("text", ["", "AAAA", "A" * 12 * 1025])
def test_text_that_is_no_solution(text):
    with pytest.raises(errors.MalformedSolution):
        challenge.solution_from_text(text)
    if len(text) > 2000:
        with pytest.raises(errors.MalformedToken):
            challenge.token_from_text(text)
