"""What is WSGI's own: Flask on a threaded server, and on one held to PEP 3333."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flask
import httpx
import pytest
from flask_service import FlaskService, strict, threaded
from service import ALICE, ASK, BASE, KEYS, paid, token_of

from powfast.challenge import Issuer, decode
from powfast.clients.httpx import PowAuth
from powfast.errors import InvalidInput, PaymentRequired
from powfast.gate import Gate
from powfast.servers.wsgi import PowMiddleware, bill_of
from powfast.stores import open_ledger
from powfast.tariff import EvidenceTariff

both_servers = pytest.mark.parametrize("serve", [threaded, strict])
Serve = Callable[[Any], AbstractContextManager[str]]


@both_servers
def test_a_client_never_sees_the_402(serve: Serve) -> None:
    service = FlaskService()
    with serve(service.app) as url, httpx.Client(base_url=url, auth=PowAuth()) as client:
        response = client.post("/v1/predict", json=ASK, headers=ALICE)
        assert (response.status_code, response.json()) == (200, {"answer": 1})
        assert response.headers["pow-receipt"] == f"work={2 * BASE}, balance=0"
        assert response.headers["x-model"] == "m"
        assert client.post("/v1/pieces").text == "abc"
    assert service.runs == 1


@both_servers
def test_the_challenge_and_every_refusal(serve: Serve) -> None:
    service = FlaskService()
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = client.post("/v1/predict", json=ASK)
        assert (asked.status_code, asked.json()["work"]) == (402, 2 * BASE)
        assert asked.headers["x-should-retry"] == "false"
        token = token_of(asked)
        other = token_of(client.post("/v1/predict", json={**ASK, "x": 2}))
        bob = token_of(client.post("/v1/predict", json=ASK, headers={"authorization": "bob"}))
        table = {
            "wrong-request": paid(other),
            "wrong-account": paid(bob),
            "malformed-token": {"pow-solution": "rubbish"},
        }
        for code, attempt in table.items():
            refused = client.post("/v1/predict", json=ASK, headers=attempt)
            assert refused.status_code == 402, code
            assert f"({code})" in refused.json()["detail"]
            assert decode(token_of(refused)).work == 2 * BASE
        # a challenge is bound to path and query, and a query is no part of a path
        assert client.post("/v1/predict?y=1", json=ASK, headers=paid(token)).status_code == 402
        assert client.post("/v1/predict%3F", json=ASK, headers=paid(token)).status_code == 404
        headers = paid(token)
        assert client.post("/v1/predict", json=ASK, headers=headers).json() == {"answer": 1}
        # whose connection broke gets what it has paid for once more
        again = client.post("/v1/predict", json=ASK, headers=headers)
        assert (again.status_code, again.json()) == (200, {"answer": 1})
    assert service.runs == 4  # of alice three, of bob one


def test_a_solution_pays_for_one_reading_of_a_body() -> None:
    """A multipart body holds other queries for each boundary that Content-Type may name."""
    service = FlaskService()

    @service.flask.post("/v1/form")
    def form() -> Any:
        bill_of(flask.request.environ).charge([float(flask.request.form["evidence"])])
        return flask.request.form["evidence"]

    part = '--{0}\r\ncontent-disposition: form-data; name="evidence"\r\n\r\n{1}\r\n--{0}--\r\n'
    body = part.format("cheap", 1) + part.format("dear", 1e9)
    read = {name: f"multipart/form-data; boundary={name}" for name in ("cheap", "dear")}
    with threaded(service.app) as url, httpx.Client(base_url=url) as client:

        def post(boundary: str, headers: dict[str, str]) -> httpx.Response:
            return client.post(
                "/v1/form", content=body, headers={**headers, "content-type": read[boundary]}
            )

        solution = paid(token_of(post("cheap", ALICE)))
        dear = post("dear", solution)
        assert "(wrong-request)" in dear.json()["detail"]
        assert decode(token_of(dear)).work > 1000 * BASE
        assert post("cheap", solution).text == "1"


@both_servers
def test_what_several_people_share_is_held_for_none_of_them(serve: Serve) -> None:
    """Nobody without credentials reads what was computed for another: the model runs again."""
    service = FlaskService()
    with serve(service.app) as url, httpx.Client(base_url=url) as client:
        solution = paid(token_of(client.post("/v1/predict", json=ASK)))
        del solution["authorization"]
        assert client.post("/v1/predict", json=ASK, headers=solution).json() == {"answer": 1}
    assert service.runs == 2
    record = service.ledger.account("anonymous")
    assert record is not None
    assert record.state[0] == 2  # it is charged once


def test_an_application_may_seed_the_generator_of_python() -> None:
    """Models do, for each answer; held answers are told apart all the same."""
    service = FlaskService()
    service.flask.before_request(lambda: random.seed(0))
    asks = [{**ASK, "x": x} for x in range(3)]
    with threaded(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        solutions = [paid(token_of(client.post("/v1/predict", json=ask))) for ask in asks]
        for ask, solution in zip(asks, solutions, strict=True):
            answer = client.post("/v1/predict", json=ask, headers=solution)
            assert answer.json() == {"answer": ask["x"]}


@pytest.mark.parametrize("handled", ["raised", "by Flask", "by a handler"])
def test_require_runs_the_model_only_when_paid(handled: str) -> None:
    service = FlaskService()
    service.flask.config["PROPAGATE_EXCEPTIONS"] = handled == "raised"
    if handled == "by a handler":
        service.flask.register_error_handler(PaymentRequired, lambda error: ("free answer!", 200))
    with threaded(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = client.post("/v1/beforehand", json=ASK)
        token = token_of(asked)
        assert "free" not in asked.text
        assert service.runs == 0
        answer = client.post("/v1/beforehand", json=ASK, headers=paid(token))
        assert answer.json() == {"answer": 1}
    assert service.runs == 1


@both_servers
def test_what_is_not_charged_passes_untouched(serve: Serve) -> None:
    service = FlaskService(max_body=100)
    with serve(service.app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/free").text == "free"
        assert client.head("/v1/free").headers["content-length"] == "4"
        assert client.delete("/v1/free").status_code == 204
        assert client.post("/unguarded", json={"long": "x" * 1000}).is_success
        assert client.post("/v1/predict", json={"long": "x" * 1000}).status_code == 413
        assert client.post("/v1/fails").status_code == 503
        assert "before the answer starts" in client.post("/v1/late").text
        bad = client.post("/v1/predict", json={"x": 1, "evidence": [-1]})
        assert bad.status_code == 500
        assert "answer" not in bad.text
    assert len(service.gate.held) == 0


def test_a_chunked_body_is_read_to_its_end_and_no_further_than_the_limit() -> None:
    service = FlaskService(max_body=10)
    with threaded(service.app) as url, httpx.Client(base_url=url) as client:
        assert client.post("/v1/free", content=iter([b"12345", b"67890"])).text == "free1234567890"
        assert client.post("/v1/free", content=iter([b"12345", b"678901"])).status_code == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30])
def test_a_malformed_length_is_refused(length: str) -> None:
    statuses: list[str] = []
    environ = {"PATH_INFO": "/v1/free", "REQUEST_METHOD": "POST", "CONTENT_LENGTH": length}
    FlaskService().app(environ, lambda status, *_: statuses.append(status))  # type: ignore[arg-type]
    assert statuses == ["400 Bad Request"]


def test_a_body_that_ends_early_is_refused() -> None:
    service = FlaskService()
    with (
        threaded(service.app) as url,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as s,
    ):
        s.sendall(b"POST /v1/free HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfour")
        s.shutdown(socket.SHUT_WR)
        assert b" 400 " in s.recv(1000)


def test_a_challenge_to_head_has_no_body() -> None:
    """On a connection that is kept, a body would be taken for the next answer."""
    service = FlaskService(evidence=lambda exchange: [1.0])
    with (
        threaded(service.app) as url,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as s,
        s.makefile("rb") as answer,
    ):
        s.sendall(b"HEAD /v1/free HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 402 " in answer.readline()
        assert answer.read().endswith(b"\r\n\r\n")


def test_a_forgotten_middleware_and_an_asynchronous_ledger_are_named() -> None:
    with pytest.raises(RuntimeError, match="/v1/predict"):
        bill_of({"PATH_INFO": "/v1/predict"})

    ledger = open_ledger("redis://nowhere", EvidenceTariff(base_work=BASE), asynchronous=True)
    gate = Gate(Issuer(KEYS), ledger)
    with pytest.raises(InvalidInput, match="blocks"):
        PowMiddleware(lambda environ, start_response: [], gate)
