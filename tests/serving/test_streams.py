"""Answers that stream: with credit at once, charged at their end, whoever reads it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from flask_service import FlaskService, threaded
from service import ALICE, BASE, Service, paid, served, token_of
from stores import until

from powfast.accounts import account_of, address
from powfast.bill import STREAMS
from powfast.challenge import decode
from powfast.http import challenge_in
from powfast.receipts import PREPAID

New = Callable[..., Any]
Serve = Callable[[Any], AbstractContextManager[str]]
both = pytest.mark.parametrize(
    ("new", "serve"), [(Service, served), (FlaskService, threaded)], ids=["asgi", "wsgi"]
)
FLOOR_FIRST = {"max_unpaid_runs": 0}
ME = account_of(ALICE["authorization"])


def record(service: Any) -> Any:
    return service.ledger.account(ME)


def told(x: int, evidence: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"x": x, "evidence": [evidence, evidence], **more}


@contextmanager
def begun(client: httpx.Client, body: Any, **headers: str) -> Iterator[Iterator[str]]:
    """Give the lines of an answer as they come."""
    with client.stream("POST", "/v1/tell", json=body, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer.iter_lines()


def give_credit(service: Any, work: int = 100 * BASE) -> None:
    service.ledger.redeem(ME, "", b"", work.to_bytes(16, "big"), time.time() + 60, work)


@both
def test_with_credit_it_is_read_as_it_comes_and_charged_at_its_end(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    give_credit(service)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        with begun(client, told(1)) as lines:
            assert next(lines) == "first"
            assert record(service).state[0] == 0  # the floor is taken, and nothing counted
            assert record(service).balance == 99 * BASE
            service.may_go.set()
            assert list(lines) == ["last"]
        until(lambda: record(service).state[0] == 2)
        assert record(service).balance == 98 * BASE
        assert not record(service).unpaid_runs


@both
def test_without_credit_nothing_runs(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    service.may_go.set()
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/tell", json=told(1)))
        assert (decode(token).work, service.runs) == (BASE, 0)
        answers = [client.post("/v1/tell", json=told(1), headers=paid(token)) for _ in range(3)]
        # the second query is a debt; the copies are not answered for the same solution
        assert [answer.status_code for answer in answers] == [200, 402, 402]
        assert decode(token_of(answers[1])).work == 2 * BASE
    assert service.runs == 1
    assert record(service).balance == -BASE


@both
def test_a_stream_that_is_paid_is_given_again_for_its_solution(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST, queries=lambda asked: 2)
    service.may_go.set()
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/tell", json=told(1)))
        answers = [client.post("/v1/tell", json=told(1), headers=paid(token)) for _ in range(3)]
    assert [answer.text for answer in answers] == ["first\nlast\n"] * 3
    assert (service.runs, record(service).state[0], record(service).balance) == (1, 2, 0)
    assert decode_offer(answers[0]) == PREPAID * BASE  # its balance is not known yet


def decode_offer(answer: httpx.Response) -> int:
    token = challenge_in(402, answer.headers["pow-challenge"])
    assert token is not None
    return decode(token).work


@both
def test_what_its_price_is_above_the_floor_is_a_debt(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    service.may_go.set()
    give_credit(service, BASE)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        answer = client.post("/v1/tell", json=told(1, 1000.0))
        assert answer.text == "first\nlast\n"
        debt = -record(service).balance
        price = service.ledger.tariff.work([1000.0, 1000.0])[0].sum()
        assert debt == pytest.approx(price - BASE)
        asked = client.post("/v1/predict", json=told(2))
        moment = service.ledger.tariff.price(record(service).state) * BASE
        work = decode(token_of(asked)).work
        assert debt + moment <= work < 1.125 * (debt + moment)
        again = client.post("/v1/tell", json=told(1, 1000.0))
        assert decode(token_of(again)).work == work
    assert service.runs == 1


@both
def test_who_hangs_up_is_charged_for_what_was_answered(new: New, serve: Serve) -> None:
    """And the debt is asked for, as if it had been read to its end."""
    service = new(gate=FLOOR_FIRST)
    give_credit(service, BASE)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        with begun(client, told(1, 1000.0, pieces=20)) as lines:
            assert next(lines) == "first"
        service.may_go.set()
        until(lambda: record(service).state[0] >= 1)
        assert record(service).balance < -10 * BASE
        assert client.post("/v1/predict", json=told(2)).status_code == 402
    assert service.runs == 1
    assert not service.gate._streams._running


@both
def test_a_stream_that_fails_is_charged_for_what_was_answered(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    service.may_go.set()
    give_credit(service)
    with (
        serve(service.app) as url,
        httpx.Client(base_url=url, headers=ALICE) as client,
        pytest.raises(httpx.HTTPError),
    ):
        assert "last" not in client.post("/v1/tell", json=told(1, fails=True)).text
        raise httpx.HTTPError("Werkzeug ends the body as if it were whole")
    until(lambda: record(service).state[0] == 1)
    assert record(service).balance == 99 * BASE
    assert not service.gate._streams._running


@both
def test_few_of_an_account_stream_at_once(new: New, serve: Serve) -> None:
    """The others come at their end, charged and paid."""
    service = new(gate=FLOOR_FIRST)
    give_credit(service)
    with (
        serve(service.app) as url,
        httpx.Client(base_url=url, headers=ALICE, timeout=0.5) as client,
        ExitStack() as running,
    ):
        for x in range(STREAMS):
            lines = running.enter_context(begun(client, told(x)))
            assert next(lines) == "first"
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/tell", json=told(STREAMS))
        service.may_go.set()
    until(lambda: not service.gate._streams._running)
    with (
        serve(service.app) as url,
        httpx.Client(base_url=url, headers=ALICE) as client,
        begun(client, told(9)) as lines,
    ):
        assert next(lines) == "first"


@both
@pytest.mark.parametrize(
    ("options", "headers"),
    [({"gate": {"max_unpaid_runs": 5}}, ALICE), ({"gate": FLOOR_FIRST, "account": address()}, {})],
    ids=["unpaid runs", "shared account"],
)
def test_elsewhere_it_waits_for_its_payment(
    new: New, serve: Serve, options: dict[str, Any], headers: dict[str, str]
) -> None:
    """Where runs may be unpaid, or nobody would pay the debt: withheld, as other answers are."""
    service = new(**options)
    service.may_go.set()
    with serve(service.app) as url, httpx.Client(base_url=url, headers=headers) as client:
        body = told(1, 1000.0)
        answer = client.post("/v1/tell", json=body)
        while answer.status_code == 402:
            assert "first" not in answer.text
            solution = {"pow-solution": paid(token_of(answer))["pow-solution"]}
            answer = client.post("/v1/tell", json=body, headers=solution)
    assert answer.text == "first\nlast\n"
    account = service.ledger.account(*(["127.0.0.0/24"] if not headers else [ME]))
    assert account.balance >= 0


@both
def test_a_request_is_charged_at_its_end_or_before(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    give_credit(service)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        said = client.post("/v1/both").text
    assert "no request can be charged at its end here" in said
    assert record(service).state[0] == 1
