"""A gateway, and how proxies and model servers ask it."""

from __future__ import annotations

import json
from typing import Any

import httpx
from service import ALICE, BASE, KEYS

from powfast.accounts import account_of
from powfast.challenge import Issuer, decode, solve
from powfast.gate import Gate
from powfast.http import challenge_in, format_solution
from powfast.stores import MemoryLedger
from powfast.stores.base import AccountRecord
from powfast.tariff import EvidenceTariff

SECRET = "a-secret-of-the-operator"
ASK = {"x-forwarded-method": "POST", "x-forwarded-uri": "/v1/predict?n=1", **ALICE}
OPENING = 31_000
REQUEST = "0" * 32 + ".1000"  # of a request that is to be reported, and what was paid
FIRST = OPENING + BASE  # a new account pays both at once


def new_gate(ledger: Any = None, **options: Any) -> Gate:
    tariff = EvidenceTariff(base_work=BASE, opening_work=OPENING, probation=False)
    return Gate(Issuer(KEYS), ledger or MemoryLedger(tariff), **options)


def token_of(response: httpx.Response, status: int = 401) -> bytes:
    assert response.status_code == status, response.text
    token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
    assert token is not None
    return token


def paid(token: bytes) -> dict[str, str]:
    return {"pow-solution": format_solution(token, solve(token))}


def work_of(client: httpx.Client, **headers: str) -> int:
    return decode(token_of(client.get("/check", headers={**ASK, **headers}))).work


def opened(client: httpx.Client, **headers: str) -> httpx.Response:
    """Pay an account's opening, and its first request with it."""
    said = {**ASK, **headers}
    solution = paid(token_of(client.get("/check", headers=said)))
    passed = client.get("/check", headers={**said, **solution})
    assert passed.status_code == 200
    return passed


def record(gate: Gate) -> AccountRecord:
    found = gate.ledger.account(account_of("Bearer alice"))
    assert isinstance(found, AccountRecord)
    return found


def report(
    client: httpx.Client, request: str, secret: str = SECRET, **document: Any
) -> httpx.Response:
    said = {"account": account_of("Bearer alice"), "request": request, **document}
    headers = {"authorization": f"Bearer {secret}"}
    return client.post("/report", content=json.dumps(said), headers=headers)
