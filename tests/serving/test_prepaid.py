"""Work that is done ahead of need: offered when credit runs low, good for any later request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from flask_service import FlaskService, threaded
from service import ALICE, BASE, KEYS, Service, paid, served, token_of
from stores import until

from powfast.accounts import account_of, address
from powfast.challenge import Issuer, decode, solve
from powfast.http import challenge_in, format_solution
from powfast.receipts import LOW, PREPAID

New = Callable[..., Any]
Serve = Callable[[Any], AbstractContextManager[str]]
both = pytest.mark.parametrize(
    ("new", "serve"), [(Service, served), (FlaskService, threaded)], ids=["asgi", "wsgi"]
)
FLOOR_FIRST = {"max_unpaid_runs": 0}
WORTH = PREPAID * BASE


def ask(client: httpx.Client, x: int = 1, queries: int = 1, **headers: str) -> httpx.Response:
    body = {"x": x, "evidence": [1.0] * queries}
    return client.post("/v1/predict", json=body, headers=headers)


def first_paid(client: httpx.Client, queries: int = 1) -> httpx.Response:
    """What a client does that knows nothing yet."""
    return ask(client, 1, queries, **paid(token_of(ask(client, 1, queries))))


def offered(response: httpx.Response) -> bytes:
    token = challenge_in(402, response.headers["pow-challenge"])
    assert token is not None
    return token


def solved(response: httpx.Response) -> dict[str, str]:
    token = offered(response)
    return {"pow-solution": format_solution(token, solve(token))}


def balance(service: Any) -> float:
    return float(service.ledger.account(account_of(ALICE["authorization"])).balance)


@both
def test_after_its_first_402_a_client_that_pays_ahead_needs_one_exchange(
    new: New, serve: Serve
) -> None:
    service = new(gate=FLOOR_FIRST)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = ask(client)
        assert (asked.status_code, service.runs) == (402, 0)
        assert decode(token_of(asked)).work == BASE
        assert "pow-challenge" not in asked.headers  # who never pays is offered nothing
        answer, receipts, offers = first_paid(client), [], []
        for x in range(2 * PREPAID):
            receipts.append(answer.headers["pow-receipt"])
            offers.append("pow-challenge" in answer.headers)
            answer = ask(client, x + 2, **(solved(answer) if offers[-1] else {}))
            assert answer.json() == {"answer": x + 2}
    assert receipts[:3] == [
        f"work={BASE}, balance=0",
        f"work={WORTH}, balance={WORTH - BASE}",
        f"work=0, balance={WORTH - 2 * BASE}",
    ]
    left = [int(receipt.rpartition("=")[2]) for receipt in receipts]
    assert offers == [credit < LOW * BASE for credit in left]
    assert service.runs == 2 * PREPAID + 1


@both
def test_an_offer_is_for_the_account_and_for_any_request(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        answer = first_paid(client)
    said = decode(offered(answer))
    assert (said.account, said.request) == (account_of(ALICE["authorization"]), b"")
    assert (said.work, said.group) == (WORTH, "")
    terms = f'work="{said.work}", parts="{said.parts}", expires="120"'
    assert answer.headers["pow-challenge"].endswith(f'", {terms}')


@both
def test_who_asks_for_batches_is_offered_two_of_them(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST, queries=lambda asked: 100)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        assert decode(token_of(ask(client, 1, 100))).work == 104 * BASE
        answer = first_paid(client, 100)
        assert decode(offered(answer)).work == 208 * BASE
        assert ask(client, 2, 100, **solved(answer)).json() == {"answer": 2}


@both
def test_an_offer_is_never_worth_more_than_credit_can_rise(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST, queries=lambda asked: 900)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        answer = first_paid(client, 900)
    left = int(answer.headers["pow-receipt"].rpartition("=")[2])
    assert decode(offered(answer)).work == service.ledger.tariff.credit_limit - left


@both
def test_what_is_paid_ahead_counts_once_and_for_its_account(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        ahead = solved(first_paid(client))
        stolen = ask(client, 2, **ahead, authorization="Bearer mallory")
        assert stolen.status_code == 402
        assert "(wrong-account)" in stolen.json()["detail"]
        assert balance(service) == 0
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, client, x, **ahead) for x in range(8)]
        assert {answer.result().status_code for answer in answers} <= {200, 402}
        answers = [ask(client, x, **ahead) for x in range(10, 15)]  # refused, and credit pays
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["pow-receipt"][:8] for answer in answers} == {"work=0, "}
    charged = service.ledger.account(account_of(ALICE["authorization"])).state[0]
    assert balance(service) == BASE + WORTH - charged * BASE


@both
def test_a_refused_solution_is_as_good_as_none(new: New, serve: Serve) -> None:
    """Without credit, a fresh challenge for the request, which says what was wrong."""
    service = new(gate=FLOOR_FIRST)
    account = account_of(ALICE["authorization"])
    old = Issuer(KEYS, clock=lambda: time.time() - 1000).issue(work=WORTH, account=account)
    group = Issuer(KEYS).issue(work=WORTH, account=account, group="others")
    nobody = Issuer(KEYS).issue(work=WORTH)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        for token, code in (
            (old, "expired"),
            (group, "wrong-account"),
            (nobody, "wrong-account"),
        ):
            refused = ask(client, **paid(token))
            assert decode(token_of(refused)).work == BASE
            assert f"({code})" in refused.json()["detail"]
        ahead = solved(first_paid(client))
        assert ask(client, 2, **ahead).status_code == 200
        answer = ask(client, 3, **paid(old))
        assert answer.headers["pow-receipt"] == f"work=0, balance={WORTH - 2 * BASE}"


@both
def test_with_a_copy_of_a_request_that_runs_it_is_credit(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    with (
        serve(service.app) as url,
        httpx.Client(base_url=url, headers=ALICE) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        ahead = solved(first_paid(client))
        token = token_of(client.post("/v1/slow"))
        running = pool.submit(client.post, "/v1/slow", headers=paid(token))
        until(lambda: service.runs == 2)
        copy = client.post("/v1/slow", headers=ahead)
        assert (copy.status_code, balance(service)) == (409, WORTH)
        service.may_go.set()
        assert running.result().status_code == 200
    assert balance(service) == WORTH


@both
def test_it_pays_a_debt_and_what_waits_goes_out(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    account = account_of(ALICE["authorization"])
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        due = first_paid(client, 20)  # nobody has counted them
        assert (due.status_code, due.headers["pow-receipt"]) == (402, f"work={BASE}")
        ahead = Issuer(KEYS).issue(work=WORTH, account=account)
        answer = ask(client, 1, 20, **paid(ahead))
    assert (answer.json(), service.runs) == ({"answer": 1}, 1)
    left = BASE + WORTH - 20 * BASE
    assert answer.headers["pow-receipt"] == f"work={WORTH}, balance={left}"
    assert balance(service) == left


@both
def test_people_who_share_an_account_are_told_no_balance(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST, account=address())
    with serve(service.app) as url, httpx.Client(base_url=url) as client:
        answer = first_paid(client)
        assert answer.status_code == 200
        assert answer.headers["pow-receipt"] == f"work={BASE}"
        assert "pow-challenge" not in answer.headers


@both
def test_what_is_not_charged_says_nothing_of_payment(new: New, serve: Serve) -> None:
    service = new(gate=FLOOR_FIRST)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        ahead = solved(first_paid(client))
        told = [client.get("/v1/free", headers=each) for each in (ahead, {})]
    assert [answer.status_code for answer in told] == [200, 200]
    assert [answer.headers.get("pow-receipt") for answer in told] == [f"work={WORTH}", None]
    assert balance(service) == WORTH


@both
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_any_method_is_asked_for_its_floor(new: New, serve: Serve, method: str) -> None:
    service = new(gate=FLOOR_FIRST)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = client.request(method, "/v1/free")
        assert decode(token_of(asked)).work == BASE
        answer = client.request(method, "/v1/free", headers=paid(token_of(asked)))
        assert answer.status_code != 402
    assert balance(service) == BASE  # nothing was charged


@both
def test_the_floor_is_for_as_many_queries_as_are_counted(new: New, serve: Serve) -> None:
    service = new(
        gate={**FLOOR_FIRST, "max_queries": 50},
        queries=lambda asked: len(json.loads(asked.request)["evidence"]),
    )
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        works = [decode(token_of(ask(client, 1, n))).work for n in (1, 2, 7, 50)]
        assert works == [BASE, 2 * BASE, 7 * BASE, 52 * BASE]
        refused = ask(client, 1, 51)
        assert (refused.status_code, refused.json()["type"]) == (
            413,
            "urn:powfast:too-many-queries",
        )
        assert decode(token_of(client.post("/v1/predict", content=b"{"))).work == BASE
        assert decode(token_of(client.post("/v1/predict", json=[]))).work == BASE
        assert decode(token_of(ask(client, 1, 0))).work == BASE
        assert service.runs == 0
        assert first_paid(client, 7).json() == {"answer": 1}
