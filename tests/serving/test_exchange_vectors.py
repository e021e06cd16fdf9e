"""tests/vectors/exchange.json: made with hashlib alone, held to by servers and clients.

`python tests/serving/test_exchange_vectors.py` writes the file anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from powfast.accounts import account_of
from powfast.challenge import solve
from powfast.http import (
    challenge_in,
    format_solution,
    parse_solution,
    payment_required,
    request_digest,
    text_of,
)

VECTORS = Path(__file__).parents[1] / "vectors"
FILE = VECTORS / "exchange.json"
KNOWN = json.loads(FILE.read_text())


def digest(method: str, target: bytes, body: bytes) -> str:
    fields = (method.encode(), target, body)
    return hashlib.sha256(b"".join(struct.pack(">Q", len(f)) + f for f in fields)).hexdigest()


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def written() -> dict[str, Any]:
    requests = [
        ("POST", "/v1/predict?", b'{"x": [0.25, 0.5]}'),
        ("POST", "/v1/predict?n=1&m=%2F", b""),
        ("GET", "/v1/a%2Fb?", b""),
        ("POST", "/example.Model/Predict", bytes.fromhex("0a0568656c6c6f")),  # gRPC
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
            {"method": m, "target": t, "body": b.hex(), "digest": digest(m, t.encode(), b)}
            for m, t, b in requests
        ],
        "accounts": [
            {"authorization": sent, "account": hashlib.sha256(said.encode()).hexdigest()[:32]}
            for sent, said in headers.items()
        ],
        "exchanges": exchanges,
    }


def test_the_file_is_what_hashlib_says() -> None:
    assert written() == KNOWN


@pytest.mark.parametrize("known", KNOWN["request_digests"], ids=lambda known: known["target"])
def test_request_digests(known: dict[str, str]) -> None:
    body = bytes.fromhex(known["body"])
    found = request_digest(known["method"], known["target"].encode(), body)
    assert found.hex() == known["digest"]
    assert request_digest(known["method"].lower(), known["target"].encode(), body) == found


@pytest.mark.parametrize("length", [*range(140), *range(2010, 2030), 100_000])
def test_request_digests_of_any_length(length: int) -> None:
    body = bytes(range(256)) * (length // 256 + 1)
    assert request_digest("PUT", b"/x?", body[:length]).hex() == digest(
        "PUT", b"/x?", body[:length]
    )


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
