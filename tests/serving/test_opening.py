"""What a new account pays before anything runs for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service import ALICE, BASE, Service, paid, served, token_of
from stores import redis_serving

from powfast.accounts import account_of
from powfast.challenge import decode
from powfast.clients.httpx import PowAuth
from powfast.stores import MemoryLedger, RedisLedger, open_held, open_ledger
from powfast.tariff import EvidenceTariff

OPENING = 20 * BASE
FIRST = 22 * BASE
"""What a new account is asked for: the opening and one query's price, rounded up."""
CREDIT = FIRST - OPENING - BASE


@pytest.fixture
def service() -> Service:
    return Service(
        ledger=MemoryLedger(EvidenceTariff(base_work=BASE, opening_work=OPENING, probation=False))
    )


def asked(client: httpx.Client, x: int, queries: int = 1) -> httpx.Response:
    return client.post("/v1/predict", json={"x": x, "evidence": [1.0] * queries})


def record_of_alice(service: Service) -> Any:
    return service.ledger.account(account_of(ALICE["authorization"]))


def test_the_opening_pays_for_the_first_request_too(service: Service) -> None:
    asked_for = PowAuth(policy=lambda challenge: challenge.request != b"")  # nothing ahead
    with (
        served(service.app) as url,
        httpx.Client(base_url=url, auth=asked_for, headers=ALICE) as client,
    ):
        receipts = [asked(client, x).headers.get("pow-receipt") for x in range(3)]
    assert receipts == [
        f"work={FIRST}, balance={CREDIT}",
        f"work=0, balance={CREDIT - BASE}",  # it had the credit
        f"work={BASE}, balance=0",  # it was held
    ]
    assert service.runs == 3
    assert record_of_alice(service).balance == CREDIT - BASE == 0


def test_an_answer_that_goes_out_at_once_is_given_again(service: Service) -> None:
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        client.headers.update(paid(token_of(asked(client, 1))))
        answers = [asked(client, 1) for _ in range(3)]
    assert [answer.json() for answer in answers] == [{"answer": 1}] * 3
    receipts = [answer.headers["pow-receipt"] for answer in answers]
    assert receipts == [f"work={FIRST}, balance={CREDIT}"] * 3
    assert service.runs == 1
    record = record_of_alice(service)
    assert (record.state[0], record.balance, record.opened) == (1, CREDIT, True)


def test_it_is_owed_until_it_is_paid_and_nothing_runs(service: Service) -> None:
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        works = [decode(token_of(asked(client, x))).work for x in (1, 1, 2, 3)]
    assert works == [FIRST] * 4
    assert service.runs == 0
    assert len(service.gate.held) == 0  # type: ignore[arg-type]


def test_a_large_first_request_owes_the_rest(service: Service) -> None:
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(asked(client, 1, queries=30))
        assert decode(token).work == FIRST
        client.headers.update(paid(token))
        rest = asked(client, 1, queries=30)
        assert (rest.status_code, rest.headers["pow-receipt"]) == (402, f"work={FIRST}")
        token = token_of(rest)
        assert decode(token).work == 28 * BASE == OPENING + 30 * BASE - FIRST
        client.headers.update(paid(token))
        assert asked(client, 1, queries=30).json() == {"answer": 1}
    assert service.runs == 1
    assert record_of_alice(service).balance == 0


def test_an_opening_pays_for_no_dear_request(service: Service) -> None:
    """Whatever the openings are issued for, each is worth its work and no more."""
    dear = [{"x": x, "evidence": [50.0] * 60} for x in range(3)]
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        openings = [token_of(client.post("/v1/predict", json=body)) for body in dear]
        assert asked(client, 9, 1).status_code == 402
        first = paid(token_of(asked(client, 9, 1)))
        assert client.post("/v1/predict", json=body_of(9), headers=first).json() == {"answer": 9}
        for body, opening in zip(dear, openings, strict=True):
            answer = client.post("/v1/predict", json=body, headers=paid(opening))
            assert answer.status_code == 402
            assert decode(token_of(answer)).work > 1000 * OPENING
    record = record_of_alice(service)
    assert record.state[0] == 1 + 3 * 60
    assert record.unpaid_runs == 3


def body_of(x: int) -> dict[str, Any]:
    return {"x": x, "evidence": [1.0]}


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
    tariff = EvidenceTariff(base_work=BASE, opening_work=OPENING, probation=False)
    ledger: Any = open_ledger(url, tariff, timeout=60)
    service = Service(ledger=ledger, held=open_held(url, timeout=60))
    with served(service.app) as at, httpx.Client(base_url=at) as client:
        for name in range(50):
            client.headers["authorization"] = f"Bearer {name}"
            assert decode(token_of(asked(client, 1))).work == FIRST
            client.headers["pow-solution"] = "x.y"
            assert decode(token_of(asked(client, 1))).work == FIRST
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
        return sum(ledger.account(account) is not None for account in accounts)
    if isinstance(ledger, RedisLedger):
        return int(ledger._client.dbsize())
    said = ledger._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    counts = (ledger._database.execute(f"SELECT count(*) FROM {name}") for (name,) in said)
    return sum(count.fetchone()[0] for count in counts)
