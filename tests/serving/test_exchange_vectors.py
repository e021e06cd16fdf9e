"""tests/vectors/exchange.json: made with hashlib alone, held to by servers and clients.

`python tests/serving/test_exchange_vectors.py` writes the file anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from powfast.accounts import account_of
from powfast.challenge import solve
from powfast.http import (
    challenge_in,
    credentials_digest,
    format_solution,
    parse_solution,
    payment_required,
    request_digest,
    text_of,
)

VECTORS = Path(__file__).parents[1] / "vectors"
FILE = VECTORS / "exchange.json"
KNOWN = json.loads(FILE.read_text())


COVERED = ("host", "content-type", "content-encoding")


def sha256(*fields: bytes) -> str:
    return hashlib.sha256(b"".join(struct.pack(">Q", len(f)) + f for f in fields)).hexdigest()


def said(headers: dict[str, str], names: tuple[str, ...]) -> list[bytes]:
    """The headers of these names, told apart from those that are not there."""
    return [b"=" + headers[name].encode() if name in headers else b"" for name in names]


def fields(headers: dict[str, str]) -> Callable[[bytes], bytes | None]:
    return {name.encode(): value.encode() for name, value in headers.items()}.get


def digest(
    method: str,
    target: bytes,
    body: bytes,
    headers: dict[str, str] | None = None,
    bind: tuple[str, ...] = (),
) -> str:
    return sha256(method.encode(), target, body, *said(headers or {}, COVERED + bind))


def credentials(headers: dict[str, str]) -> str:
    return sha256(*said(headers, ("authorization", "cookie")))


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def written() -> dict[str, Any]:
    requests = [
        (
            "POST",
            "/v1/predict?",
            b'{"x": [0.25, 0.5]}',
            {"host": "models.example", "content-type": "application/json"},
            (),
        ),
        ("POST", "/v1/predict?n=1&m=%2F", b"", {"host": "models.example:8443"}, ()),
        ("GET", "/v1/a%2Fb?", b"", {"content-encoding": "", "x-model": "large"}, ()),
        (
            "PUT",
            "/v1/a?",
            b"\x1f\x8b",
            {"content-encoding": "gzip", "x-model": "large"},
            ("x-model", "x-version"),
        ),
        ("POST", "/example.Model/Predict", bytes.fromhex("0a0568656c6c6f"), {}, ()),  # gRPC
    ]
    whose: list[dict[str, str]] = [
        {},
        {"authorization": "Bearer sk-1"},
        {"cookie": "session=1; theme=dark"},
        {"authorization": "", "cookie": "session=1"},
    ]
    headers = {
        "Bearer sk-1": "bearer sk-1",
        "bearer   sk-1": "bearer sk-1",
        "Basic dXNlcjpwYXNz": "basic dXNlcjpwYXNz",
    }
    exchanges = []
    for vector in json.loads((VECTORS / "token.json").read_text())[:4]:
        token = text(bytes.fromhex(vector["token"]))
        seconds = round((vector["expires_ms"] - vector["issued_ms"]) / 1000)
        nonces = struct.pack(f">{len(vector['solution'])}Q", *vector["solution"])
        terms = f'work="{vector["work"]}", parts="{vector["parts"]}", expires="{seconds}"'
        exchanges.append(
            {
                "www-authenticate": f'PoW challenge="{token}", {terms}',
                "pow-solution": f"{token}.{text(nonces)}",
            }
        )
    return {
        "request_digests": [
            {
                "method": method,
                "target": target,
                "body": body.hex(),
                "headers": sent,
                "bind": list(bind),
                "digest": digest(method, target.encode(), body, sent, bind),
            }
            for method, target, body, sent, bind in requests
        ],
        "credentials": [{"headers": sent, "digest": credentials(sent)} for sent in whose],
        "accounts": [
            {"authorization": sent, "account": hashlib.sha256(said.encode()).hexdigest()[:32]}
            for sent, said in headers.items()
        ],
        "exchanges": exchanges,
    }


def test_the_file_is_what_hashlib_says() -> None:
    assert written() == KNOWN


@pytest.mark.parametrize("known", KNOWN["request_digests"], ids=lambda known: known["target"])
def test_request_digests(known: dict[str, Any]) -> None:
    bind = [name.encode() for name in known["bind"]]

    def found(method: str, more: dict[str, str]) -> str:
        target, body = known["target"].encode(), bytes.fromhex(known["body"])
        return request_digest(method, target, body, fields(known["headers"] | more), bind).hex()

    assert found(known["method"], {}) == known["digest"]
    assert found(known["method"].lower(), {"authorization": "a", "cookie": "b"}) == known["digest"]
    for name in (*COVERED, *known["bind"]):  # an empty header is not none, nor is another
        given = known["headers"].get(name)
        others = [{name: value} for value in ("", "other", "=other") if value != given]
        assert known["digest"] not in [found(known["method"], other) for other in others]


@pytest.mark.parametrize("length", [*range(140), *range(2010, 2030), 100_000])
def test_request_digests_of_any_length(length: int) -> None:
    body = (bytes(range(256)) * (length // 256 + 1))[:length]
    assert request_digest("PUT", b"/x?", body, {}.get).hex() == digest("PUT", b"/x?", body)


@pytest.mark.parametrize("known", KNOWN["credentials"], ids=lambda known: str(known["headers"]))
def test_credentials(known: dict[str, Any]) -> None:
    assert credentials_digest(fields(known["headers"])).hex() == known["digest"]


@pytest.mark.parametrize("known", KNOWN["accounts"], ids=lambda known: known["authorization"])
def test_accounts(known: dict[str, str]) -> None:
    assert account_of(known["authorization"]) == known["account"]


@pytest.mark.parametrize("status", [401, 402, 499])
@pytest.mark.parametrize("known", KNOWN["exchanges"])
def test_exchanges(known: dict[str, str], status: int) -> None:
    asked, solution = known["www-authenticate"], known["pow-solution"]
    token = challenge_in(status, asked)
    assert token is not None
    for beside in (f"Bearer, {asked}", asked.replace("PoW", "pow"), f'{asked}, Basic realm="x"'):
        assert challenge_in(status, beside) == token
    assert (
        dict(text_of(payment_required(token, "", status=status).headers))["www-authenticate"]
        == asked
    )
    assert format_solution(token, solve(token, threads=1)) == solution
    assert parse_solution(solution)[0] == token


if __name__ == "__main__":
    FILE.write_text(json.dumps(written(), indent=1) + "\n")
