"""What a new account pays before anything runs for it."""

from __future__ import annotations

import httpx
import pytest
from service import BASE, Service, served

from powfast.challenge import decode, solve
from powfast.clients.httpx import PowAuth
from powfast.http import challenge_in, format_solution
from powfast.ledger import MemoryLedger
from powfast.tariff import EvidenceTariff
from powfast.tariff.evidence import COVERED

OPENING = 20 * BASE


@pytest.fixture
def service() -> Service:
    return Service(ledger=MemoryLedger(EvidenceTariff(base_work=BASE, opening_work=OPENING)))


def asked(client: httpx.Client, x: int, queries: int = 1) -> httpx.Response:
    return client.post("/v1/predict", json={"x": x, "evidence": [1.0] * queries})


def token_of(response: httpx.Response) -> bytes:
    token = challenge_in(response.status_code, response.headers["www-authenticate"])
    assert token is not None
    return token


def test_the_opening_pays_for_the_first_request_too(service: Service) -> None:
    with served(service.app) as url, httpx.Client(base_url=url, auth=PowAuth()) as client:
        receipts = [asked(client, x).headers["pow-receipt"] for x in range(3)]
    assert receipts == [f"work={OPENING}", f"work={BASE}", f"work={BASE}"]
    assert service.runs == 3


def test_it_is_owed_until_it_is_paid_and_nothing_runs(service: Service) -> None:
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        works = [decode(token_of(asked(client, x))).work for x in (1, 1, 2, 3)]
    assert works == [OPENING] * 4
    assert service.runs == 0
    assert len(service.gate.held) == 0


def test_a_large_first_request_owes_the_rest(service: Service) -> None:
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        token = token_of(asked(client, 1, queries=30))
        assert decode(token).work == OPENING
        body = {"x": 1, "evidence": [1.0] * 30}
        solution = {"pow-solution": format_solution(token, solve(token))}
        rest = client.post("/v1/predict", json=body, headers=solution)
        assert (rest.status_code, rest.headers["pow-receipt"]) == (402, f"work={OPENING}")
        token = token_of(rest)
        assert decode(token).work == 30 * BASE - OPENING // COVERED
        solution = {"pow-solution": format_solution(token, solve(token))}
        answer = client.post("/v1/predict", json=body, headers=solution)
        assert answer.json() == {"answer": 1}
    assert service.runs == 1


def test_what_is_known_beforehand_is_paid_with_the_opening(service: Service) -> None:
    with served(service.app) as url, httpx.Client(base_url=url, auth=PowAuth()) as client:
        answer = client.post("/v1/beforehand", json={"x": 1, "evidence": [1.0]})
        assert answer.json() == {"answer": 1}
    assert service.runs == 1
