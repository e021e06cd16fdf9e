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

from powfast.challenge import Issuer, decode, solve
from powfast.clients.httpx import PowAuth
from powfast.http import format_solution
from powfast.puzzle import verify
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
    state = service.ledger.state(decode(tokens[0]).account)
    assert state is not None
    assert state[0] == 2


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
        replayed = client.post("/v1/predict", json=ASK, headers=headers)
        assert replayed.status_code == 402
        assert "(already-redeemed)" in replayed.json()["detail"]
        # a challenge is bound to method, path, query and body
        assert client.post("/v1/predict?y=1", json=ASK, headers=headers).status_code == 402


@both
def test_what_stands_on_the_wire_twice_or_wrong_admits_nothing(new: New, serve: Serve) -> None:
    service = new()
    body = json.dumps(ASK)
    whole = {"Content-Length": str(len(body))}
    with serve(service.app) as url:
        asked = httpx.post(url + "/v1/predict", content=body, headers={**ALICE, **JSON})
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
def test_of_64_concurrent_copies_of_a_solution_one_wins(new: New, serve: Serve) -> None:
    service = new()
    with serve(service.app) as url, httpx.Client(base_url=url, timeout=60) as client:
        headers = paid(token_of(client.post("/v1/predict", json=ASK, headers=ALICE)))
        with ThreadPoolExecutor(64) as pool:
            copies = [
                pool.submit(client.post, "/v1/predict", json=ASK, headers=headers)
                for _ in range(64)
            ]
            statuses = [copy.result().status_code for copy in copies]
    assert sorted(statuses) == [200] + [402] * 63


@both
def test_where_the_held_answer_is_gone_the_endpoint_runs_as_paid(new: New, serve: Serve) -> None:
    service = new(held=HeldAnswers(account_bytes=4))
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/predict", json=ASK))
        answer = client.post("/v1/predict", json=ASK, headers=paid(token))
        assert answer.json() == {"answer": 1}
    assert service.runs == 2
    state = service.ledger.state(decode(token).account)
    assert state is not None
    assert state[0] == 2  # and costs nothing more


@both
def test_unpaid_answers_are_bounded_per_account(new: New, serve: Serve) -> None:
    service = new(held=HeldAnswers(per_account=3))
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = [client.post("/v1/predict", json={**ASK, "x": i}) for i in range(5)]
        assert [response.status_code for response in asked] == [402, 402, 402, 429, 429]
        assert asked[3].json()["type"] == "urn:powfast:too-many-unpaid"
        assert asked[3].headers["retry-after"] == "120"
        assert service.runs == 3
        other = {"authorization": "Bearer bob"}
        assert client.post("/v1/predict", json=ASK, headers=other).status_code == 402
        body = json.loads(asked[0].request.content)
        assert client.post("/v1/predict", json=body, headers=paid(token_of(asked[0]))).is_success
        assert client.post("/v1/predict", json={**ASK, "x": 9}).status_code == 402


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
    service = new()
    service.gate.refuse_above = 50 * BASE
    dear = {"x": 1, "evidence": [1e6] * 4}
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        assert client.post("/v1/predict", json=ASK).status_code == 402
        for _ in range(2):
            refused = client.post("/v1/predict", json=dear)
            assert refused.status_code == 403
            assert refused.json()["type"] == "urn:powfast:price-too-high"
            assert "answer" not in refused.json()
        assert client.post("/v1/predict", json={**ASK, "x": 2}).status_code == 403
        other = {"authorization": "Bearer bob"}
        assert client.post("/v1/predict", json=ASK, headers=other).status_code == 402
