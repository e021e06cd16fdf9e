"""The wire format: what is written is read back, and nothing else is taken for it."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powfast.challenge import Issuer
from powfast.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidInput,
    MalformedSolution,
    MalformedToken,
    PriceTooHigh,
    RequestInProgress,
    StoreUnavailable,
    TooManyQueries,
)
from powfast.http import (
    MAX_SOLUTION_HEADER,
    challenge_in,
    format_solution,
    guards,
    parse_solution,
    payment_required,
    refusal,
    request_digest,
    text_of,
)

TOKEN = Issuer({"a": bytes(32)}).issue(work=1000, account="alice")


@pytest.mark.parametrize(
    ("path", "root", "guarded"),
    [
        ("/v1/predict", "", True),
        ("/v1/", "", True),
        ("/v1", "", True),  # some routers see no difference
        ("//v1/predict", "", True),
        ("/v1//predict", "", True),
        ("v1/predict", "", True),
        ("/api/v1/predict", "/api", True),  # mounted, as ASGI has it
        ("/v1/predict", "/api", True),  # a proxy has taken the root away
        ("//api//v1/predict", "/api/", True),
        ("/api/v1/predict", "", False),
        ("/v10/predict", "", False),
        ("/free/v1/", "", False),
        ("/", "", False),
        ("/v1", "/v1", True),  # the root of what is mounted there
        ("/v1/free", "/v1", True),
    ],
)
def test_a_path_is_guarded_however_it_is_spelled(path: str, root: str, guarded: bool) -> None:
    assert guards(("/v1/",), path, root) is guarded
    assert guards(("/none/", "/v1/"), path, root) is guarded
    assert guards(("/",), path, root)


def test_the_digest_separates_its_fields() -> None:
    fields = (b"POST", b"/v1/predict?x=1", b"body", b"=models.example", b"=text/plain", b"")
    framed = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    headers = {b"host": b"models.example", b"content-type": b"text/plain"}
    assert request_digest("post", *fields[1:3], headers.get) == hashlib.sha256(framed).digest()
    headers = {b"host": b"a", b"content-type": b"b"}
    moved = {b"host": b"b", b"content-type": b"a"}
    digests = {
        request_digest("POST", b"/v1/p", b"redict", {}.get),
        request_digest("POST", b"/v1/", b"predict", {}.get),
        request_digest("POST", b"/v1/p", b"redict", headers.get),
        request_digest("POST", b"/v1/p", b"redict", moved.get),
        request_digest("POST", b"/v1/p", b"redict", headers.get, (b"x-model",)),
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (InvalidInput("why"), 400, "invalid-input", None),
        (PriceTooHigh("why"), 403, "price-too-high", None),
        (BodyTooSlow("why"), 408, "body-too-slow", None),
        (RequestInProgress("why", 0.2), 409, "in-progress", "1"),
        (BodyTooLarge("why"), 413, "body-too-large", None),
        (TooManyQueries("why"), 413, "too-many-queries", None),
        (StoreUnavailable("redis at 10.0.0.7", 2.5), 503, "store-unavailable", "3"),
    ],
)
def test_a_refusal_says_why(error: Any, status: int, code: str, retry_after: str | None) -> None:
    answer = refusal(error)
    said = json.loads(answer.body)
    assert (answer.status, said["status"], said["type"]) == (status, status, f"urn:powfast:{code}")
    assert ("why" in said["detail"]) == (code != "store-unavailable")
    assert "10.0.0.7" not in repr(answer)
    assert dict(text_of(answer.headers)).get("retry-after") == retry_after


@pytest.mark.parametrize(("ttl", "seconds"), [(120.0, 120), (0.4, 0), (0.5, 1), (2.5, 3)])
def test_a_402_says_what_its_token_says(ttl: float, seconds: int) -> None:
    token = Issuer({"a": bytes(32)}, ttl=ttl, clock=lambda: 1.7e9).issue(work=2**64 - 1, parts=7)
    text = base64.urlsafe_b64encode(token).rstrip(b"=").decode()
    answer = payment_required(token, "pay", 401)
    assert (answer.status, json.loads(answer.body)) == (401, {
        "type": "urn:powfast:payment-required", "title": "Proof of work required",
        "status": 401, "detail": "pay",
        "challenge": text, "work": 2**64 - 1, "parts": 7, "expires": seconds,
    })  # fmt: skip
    said = f'PoW challenge="{text}", work="{2**64 - 1}", parts="7", expires="{seconds}"'
    assert dict(text_of(answer.headers))["www-authenticate"] == said
    with pytest.raises(MalformedToken):
        payment_required(token[:-1], "pay")


@pytest.mark.parametrize(
    "before",
    ["", "Bearer ", 'Bearer realm="x", ', 'Basic realm="PoW challenge", charset="UTF-8", '],
)
def test_a_challenge_is_found_among_others(before: str) -> None:
    header = dict(text_of(payment_required(TOKEN, "").headers))["www-authenticate"]
    assert challenge_in(402, before + header) == TOKEN
    assert challenge_in(401, (before + header).replace("PoW", "pow")) == TOKEN


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (200, 'PoW challenge="AAAA"'),
        (402, None),
        (402, ""),
        (401, 'Bearer realm="PoW"'),
        (402, "PoW"),
        (402, 'PoW challenge=""'),
        (402, 'PoWer challenge="AAAA"'),
    ],
)
def test_no_challenge(status: int, header: str | None) -> None:
    assert challenge_in(status, header) is None


def test_a_hostile_server_cannot_stall_the_reader() -> None:
    assert challenge_in(402, "PoW " + "a, " * 50_000) is None


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=64).map(tuple))
def test_a_solution_is_read_back(nonces: tuple[int, ...]) -> None:
    assert parse_solution(format_solution(TOKEN, nonces)) == (TOKEN, nonces)


@given(st.text(max_size=200))
def test_any_other_text_is_refused_by_type(text: str) -> None:
    try:
        token, nonces = parse_solution(text)
    except (MalformedToken, MalformedSolution):
        return
    assert format_solution(token, nonces) == text


def test_a_long_header_is_refused_unread() -> None:
    with pytest.raises(MalformedSolution, match="characters"):
        parse_solution("A" * (MAX_SOLUTION_HEADER + 1))
