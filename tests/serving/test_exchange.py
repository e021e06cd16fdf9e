"""The exchange of real services, the same behind ASGI and WSGI: every refusal, every bound."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from flask_service import FlaskService, threaded
from service import ALICE, ASK, BASE, KEYS, Service, paid, served, token_of
from stores import until

from powfast.accounts import account_of
from powfast.challenge import Issuer, decode, solve
from powfast.clients.httpx import PowAuth
from powfast.http import format_solution
from powfast.puzzle import verify
from powfast.stores.base import RERUNS
from powfast.stores.held import HeldAnswers

JSON = {"content-type": "application/json"}
New = Callable[..., Any]
Serve = Callable[[Any], AbstractContextManager[str]]
both = pytest.mark.parametrize(
    ("new", "serve"), [(Service, served), (FlaskService, threaded)], ids=["asgi", "wsgi"]
)


@both
def test_asking_again_runs_the_model_once_and_charges_once(new: New, serve: Serve) -> None:
    service = new()
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        tokens = [token_of(client.post("/v1/predict", json=ASK)) for _ in range(5)]
        assert len(set(tokens)) == 5
        assert {decode(token).work for token in tokens} == {2 * BASE}
        answer = client.post("/v1/predict", json=ASK, headers=paid(tokens[2]))
        assert answer.json() == {"answer": 1}
    assert service.runs == 1
    assert queries_and_balance(service) == (2, 0)


def queries_and_balance(service: Any) -> tuple[float, float]:
    record = service.ledger.account(account_of(ALICE["authorization"]))
    return record.state[0], record.balance


@both
def test_every_refusal_carries_a_fresh_challenge(new: New, serve: Serve) -> None:
    service = new()
    stranger = Issuer({"2026a": bytes(32)})
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/predict", json=ASK))
        headers = paid(token)
        other = token_of(client.post("/v1/predict", json={**ASK, "x": 2}))
        bob = token_of(client.post("/v1/predict", json=ASK, headers={"authorization": "bob"}))
        forged = stranger.issue(
            work=2, account=decode(token).account, request=decode(token).request
        )
        nonces = solve(token)
        worse = next(n for n in range(100) if not verify(decode(token).puzzle, (n, *nonces[1:])))
        wrong = format_solution(token, (worse, *nonces[1:]))
        expired = Issuer(KEYS, clock=lambda: 1.0).issue(
            work=2, account=decode(token).account, request=decode(token).request
        )
        table = {
            "wrong-request": paid(other),
            "wrong-account": paid(bob),
            "bad-signature": paid(forged),
            "expired": paid(expired),
            "wrong-solution": {"pow-solution": wrong},
            "malformed-solution": {"pow-solution": headers["pow-solution"].split(".")[0] + ".AA"},
            "malformed-token": {"pow-solution": "rubbish"},
        }
        for code, attempt in table.items():
            refused = client.post("/v1/predict", json=ASK, headers=attempt)
            assert refused.status_code == 402, code
            assert f"({code})" in refused.json()["detail"], refused.json()["detail"]
            assert decode(token_of(refused)).work == 2 * BASE
        assert client.post("/v1/predict", json=ASK, headers=headers).status_code == 200
    assert service.runs == 3  # the two others' and this


@both
@pytest.mark.parametrize(
    "other",
    [
        {"url": "/v1/predict?y=1"},
        {"url": "/v1/predict/"},
        {"json": {**ASK, "x": 2}},
        {"method": "PUT"},
        {"headers": {"host": "elsewhere"}},
        {"headers": {"content-type": "application/JSON"}},
        {"headers": {"content-encoding": "identity"}},
        {"headers": {"x-model": "large"}},
    ],
    ids=str,
)
def test_a_solution_is_good_for_one_request(new: New, serve: Serve, other: dict[str, Any]) -> None:
    service = new(bind=("X-Model",))
    asked: dict[str, Any] = {"method": "POST", "url": "/v1/predict", "json": ASK}
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        solution = paid(token_of(client.request(**asked)))
        wrong = asked | other | {"headers": solution | other.get("headers", {})}
        refused = client.request(**wrong)
        assert refused.headers.get("pow-receipt") is None
        assert "wrong-request" in refused.text or refused.status_code in (307, 404, 405)
        assert client.request(**asked, headers=solution).json() == {"answer": 1}


@both
def test_a_solution_sent_again_gets_the_same_answer_again(new: New, serve: Serve) -> None:
    service = new()
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        headers = paid(token_of(client.post("/v1/predict", json=ASK)))
        answers = [client.post("/v1/predict", json=ASK, headers=headers) for _ in range(5)]
        assert {answer.text for answer in answers} == {answers[0].text}
        receipts = {answer.headers["pow-receipt"] for answer in answers}
        assert receipts == {f"work={2 * BASE}, balance=0"}
        assert (service.runs, queries_and_balance(service)) == (1, (2, 0))
        assert client.post("/v1/predict", json=ASK).status_code == 402  # another request
    assert (service.runs, queries_and_balance(service)) == (2, (4, -2 * BASE))


@both
def test_a_spent_solution_is_good_for_nothing_but_its_answer(new: New, serve: Serve) -> None:
    service = new(held=HeldAnswers(max_bytes=0))
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        headers = paid(token_of(client.post("/v1/predict", json=ASK)))
        answers = [client.post("/v1/predict", json=ASK, headers=headers) for _ in range(6)]
        statuses = [answer.status_code for answer in answers]
        assert statuses == sorted(statuses)
        assert set(statuses) == {200, 402}
        assert "(already-redeemed)" in answers[-1].json()["detail"]
    assert service.runs <= 1 + RERUNS + 1


@both
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/login"])
@pytest.mark.parametrize("hold_shared", [False, True])
def test_what_others_may_not_read_is_not_held(
    new: New, serve: Serve, path: str, hold_shared: bool
) -> None:
    """Answers to nobody in particular, and those that set a cookie, are made again once paid."""
    service = new(gate={"hold_shared": hold_shared})
    headers = ALICE if path == "/v1/login" else {}
    with serve(service.app) as url, httpx.Client(base_url=url, headers=headers) as client:
        solution = {"pow-solution": paid(token_of(client.post(path, json=ASK)))["pow-solution"]}
        assert len(service.gate.held) == hold_shared
        answer = client.post(path, json=ASK, headers=solution)
    assert "answer" in answer.text
    assert answer.headers["pow-receipt"]
    assert service.runs == (1 if hold_shared else 2)


@both
@pytest.mark.parametrize("header", ["authorization", "cookie"])
def test_an_answer_goes_to_nobody_else(new: New, serve: Serve, header: str) -> None:
    """Whoever has the same account, but not what the asker came with, has the endpoint run."""
    service = new(account=lambda caller: "the team")
    mine, others = ({header: value} for value in ("mine", "another"))
    with serve(service.app) as url, httpx.Client(base_url=url) as client:
        token = token_of(client.post("/v1/predict", json=ASK, headers=mine))
        solution = {"pow-solution": paid(token)["pow-solution"]}
        answer = client.post("/v1/predict", json=ASK, headers=solution | others)
        assert answer.json() == {"answer": 1}
        assert service.runs == 2
        answer = client.post("/v1/predict", json=ASK, headers=solution | mine)
        assert answer.status_code == 402  # one answer is read for one solution


@both
def test_copies_of_a_request_that_is_being_answered_wait(new: New, serve: Serve) -> None:
    service = new()
    with (
        serve(service.app) as url,
        httpx.Client(base_url=url, headers=ALICE) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(client.post, "/v1/slow")
        until(lambda: service.runs)
        copies = [client.post("/v1/slow") for _ in range(5)]
        service.may_go.set()
        answer = client.post("/v1/slow", headers=paid(token_of(first.result())))
    for copy in copies:
        assert (copy.status_code, copy.headers["retry-after"]) == (409, "1")
        assert copy.json()["type"] == "urn:powfast:in-progress"
    assert "answer" in answer.text
    assert service.runs == 1


@both
def test_too_many_queries_are_refused_before_they_are_priced(new: New, serve: Serve) -> None:
    service = new(gate={"max_queries": 3})
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        refused = client.post("/v1/predict", json={"x": 1, "evidence": [1.0] * 4})
        assert refused.status_code == 413
        assert refused.json()["type"] == "urn:powfast:too-many-queries"
        assert "split" in refused.json()["detail"]
        assert queries_and_balance(service) == (0, -BASE)  # what has run is owed
        enough = client.post("/v1/predict", json={"x": 1, "evidence": [1.0] * 3})
        assert enough.status_code == 402


@both
def test_what_stands_on_the_wire_twice_or_wrong_admits_nothing(new: New, serve: Serve) -> None:
    service = new()
    body = json.dumps(ASK)
    whole = {"Content-Length": str(len(body))}
    with serve(service.app) as url:
        headers = {"host": "x", **ALICE, **JSON}
        asked = httpx.post(url + "/v1/predict", content=body, headers=headers)
        solution = paid(token_of(asked))["pow-solution"]
        for version, headers, status in (
            ("1.0", whole, 402),
            ("1.1", {**whole, "PoW-Solution": ""}, 402),
            ("1.1", {**whole, "PoW-Solution": "A" * 20_000 + ".AA"}, 402),
            ("1.1", {**whole, "PoW-Solution": solution, "pow-solution": solution}, 402),
            ("1.1", {"Content-Length": "-5", "PoW-Solution": solution}, 400),
            ("1.1", {**whole, "PoW-Solution": solution}, 200),
        ):
            sent = {"Host": "x", "Connection": "close", **ALICE, **JSON, **headers}
            lines = [f"POST /v1/predict HTTP/{version}", *(f"{k}: {v}" for k, v in sent.items())]
            with socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as connection:
                connection.sendall("\r\n".join([*lines, "", body]).encode())
                with connection.makefile("rb") as answer:
                    assert f" {status} ".encode() in answer.readline(), headers
    assert service.runs == 1


@both
def test_64_concurrent_copies_of_a_solution_get_one_answer(new: New, serve: Serve) -> None:
    service = new()
    with serve(service.app) as url, httpx.Client(base_url=url, timeout=60) as client:
        headers = paid(token_of(client.post("/v1/predict", json=ASK, headers=ALICE)))
        with ThreadPoolExecutor(64) as pool:
            copies = [
                pool.submit(client.post, "/v1/predict", json=ASK, headers=headers)
                for _ in range(64)
            ]
            answers = [copy.result() for copy in copies]
    assert [(answer.status_code, answer.text) for answer in answers] == [
        (200, answers[0].text)
    ] * 64
    assert (service.runs, queries_and_balance(service)) == (1, (2, 0))


@both
def test_where_the_held_answer_is_gone_the_endpoint_runs_as_paid(new: New, serve: Serve) -> None:
    service = new(held=HeldAnswers(max_bytes=0))
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/predict", json=ASK))
        answer = client.post("/v1/predict", json=ASK, headers=paid(token))
        assert answer.json() == {"answer": 1}
    assert service.runs == 2
    assert queries_and_balance(service) == (2, 0)  # and costs nothing more


@both
def test_unpaid_runs_are_bounded_per_account(new: New, serve: Serve) -> None:
    service = new(gate={"max_unpaid_runs": 3})
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        tokens = [token_of(client.post("/v1/predict", json={**ASK, "x": i})) for i in range(5)]
        debt = 3 * 2 * BASE  # from here on all of it, and the price of the moment
        assert [decode(token).work for token in tokens] == [2 * BASE] * 3 + [debt + BASE] * 2
        assert service.runs == 3
        other = {"authorization": "Bearer bob"}
        assert client.post("/v1/predict", json=ASK, headers=other).status_code == 402
        assert service.runs == 4
        first = client.post("/v1/predict", json={**ASK, "x": 0}, headers=paid(tokens[0]))
        assert first.json() == {"answer": 0}
        assert decode(token_of(client.post("/v1/predict", json={**ASK, "x": 9}))).work == 2 * BASE
        assert service.runs == 5
        settled = client.post("/v1/predict", json={**ASK, "x": 3}, headers=paid(tokens[3]))
        assert settled.json() == {"answer": 3}
    assert service.runs == 6
    assert queries_and_balance(service) == (10, 2 * BASE + debt + BASE - 5 * 2 * BASE)


@both
def test_nothing_runs_unpaid_where_no_run_may_be(new: New, serve: Serve) -> None:
    service = new(gate={"max_unpaid_runs": 0})
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        tokens = [token_of(client.post("/v1/predict", json=ASK)) for _ in range(3)]
        assert {decode(token).work for token in tokens} == {BASE}  # the price of the moment
        assert service.runs == 0
        rest = client.post("/v1/predict", json=ASK, headers=paid(tokens[0]))
        assert decode(token_of(rest)).work == BASE  # it had a second query
        answer = client.post("/v1/predict", json=ASK, headers=paid(token_of(rest)))
        assert answer.json() == {"answer": 1}
    assert (service.runs, queries_and_balance(service)) == (1, (2, 0))


@both
def test_who_pays_the_debt_reads_what_waits(new: New, serve: Serve) -> None:
    service = new(gate={"max_unpaid_runs": 3})
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        tokens = [token_of(client.post("/v1/predict", json={**ASK, "x": i})) for i in range(4)]
        one_query = {"x": 4, "evidence": [1.0]}
        debt = token_of(client.post("/v1/predict", json=one_query))
        client.post("/v1/predict", json=one_query, headers=paid(debt))
        assert queries_and_balance(service) == (7, 0)
        answers = [client.post("/v1/predict", json={**ASK, "x": i}).json() for i in range(3)]
    assert answers == [{"answer": i} for i in range(3)]
    assert (len(tokens), service.runs) == (4, 4)


@both
def test_malformed_evidence_is_never_admitted(new: New, serve: Serve) -> None:
    service = new()
    with serve(service.app) as url:
        for evidence in ([-1.0], ["a"], [[1.0]]):
            body = {"x": 1, "evidence": evidence}
            response = httpx.post(url + "/v1/predict", json=body, auth=PowAuth())
            assert response.status_code == 500
            assert "answer" not in response.text


@both
def test_another_status_can_carry_the_challenge(new: New, serve: Serve) -> None:
    service = new(status=401)
    with serve(service.app) as url, httpx.Client(base_url=url) as client:
        assert client.post("/v1/predict", json=ASK).status_code == 401
        assert client.post("/v1/predict", json=ASK, auth=PowAuth()).json() == {"answer": 1}


@both
def test_an_account_that_no_token_can_carry_is_refused_before_anything_runs(
    new: New, serve: Serve
) -> None:
    service = new(account=lambda caller: "a" * 256)
    with serve(service.app) as url:
        response = httpx.post(url + "/v1/predict", json=ASK)
    assert (response.status_code, response.json()["type"]) == (400, "urn:powfast:invalid-input")
    assert service.runs == 0


@both
def test_a_price_above_the_threshold_is_refused_and_still_charged(new: New, serve: Serve) -> None:
    service = new(gate={"refuse_above": 50 * BASE})
    dear = {"x": 1, "evidence": [1e6] * 4}
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        assert client.post("/v1/predict", json=ASK).status_code == 402
        for _ in range(3):
            refused = client.post("/v1/predict", json=dear)
            assert refused.status_code == 403
            assert refused.json()["type"] == "urn:powfast:price-too-high"
            assert "answer" not in refused.json()
        assert client.post("/v1/predict", json={**ASK, "x": 2}).status_code == 403
        assert service.runs == 2  # known to be too dear: nothing runs
        assert queries_and_balance(service) == (6, -2 * BASE - BASE)  # the price of the moment
        other = {"authorization": "Bearer bob"}
        assert client.post("/v1/predict", json=ASK, headers=other).status_code == 402
