"""What a new account pays before anything runs for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service import BASE, Service, served
from stores import redis_serving

from powfast.accounts import account_of
from powfast.challenge import decode, solve
from powfast.clients.httpx import PowAuth
from powfast.http import challenge_in, format_solution
from powfast.stores import MemoryLedger, RedisLedger, open_held, open_ledger
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


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "memory://"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
    else:
        with redis_serving(tmp_path) as server:
            yield server.url


def test_names_that_pay_nothing_leave_nothing(url: str) -> None:
    tariff = EvidenceTariff(base_work=BASE, opening_work=OPENING)
    ledger: Any = open_ledger(url, tariff, timeout=60)
    service = Service(ledger=ledger, held=open_held(url, timeout=60))
    with served(service.app) as at, httpx.Client(base_url=at) as client:
        for name in range(50):
            client.headers["authorization"] = f"Bearer {name}"
            assert decode(token_of(asked(client, 1))).work == OPENING
            client.headers["pow-solution"] = "x.y"
            assert decode(token_of(asked(client, 1))).work == OPENING
        assert remembered(ledger) == 0
        del client.headers["pow-solution"]
        client.auth = PowAuth()
        assert asked(client, 1).json() == {"answer": 1}
        assert remembered(ledger) > 0
    ledger.close()


def remembered(ledger: Any) -> int:
    """What there is in the store."""
    if isinstance(ledger, MemoryLedger):
        accounts = (account_of(f"Bearer {name}") for name in range(50))
        return sum(ledger.state(account) is not None for account in accounts)
    if isinstance(ledger, RedisLedger):
        return int(ledger._client.dbsize())
    tables = ("page", "charged", "spent")
    counts = (ledger._database.execute(f"SELECT count(*) FROM {name}") for name in tables)
    return sum(count.fetchone()[0] for count in counts)
