"""The exchange behind WSGI: a real Flask service on threaded and on strict servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import make_server as make_strict_server
from wsgiref.validate import validator

import flask
import httpx
import pytest
from service import BASE, KEYS
from werkzeug.serving import WSGIRequestHandler as WerkzeugHandler
from werkzeug.serving import make_server

from powfast.challenge import Issuer, decode, solve
from powfast.clients.httpx import PowAuth
from powfast.errors import InvalidInput, PaymentRequired
from powfast.gate import Gate
from powfast.held import HeldAnswers
from powfast.http import challenge_in, format_solution
from powfast.ledger import MemoryLedger
from powfast.tariff import EvidenceTariff
from powfast.wsgi import PowMiddleware, charge_of

ALICE = {"authorization": "Bearer alice"}
ASK = {"x": 1, "evidence": [1.0, 1.0]}


class FlaskService:
    """One gate and one Flask application behind it, whose "model" counts its runs."""

    def __init__(self, *, ttl: float = 120.0, held: HeldAnswers | None = None, **options: Any):
        self.runs = 0
        self.ledger = MemoryLedger(EvidenceTariff(base_work=BASE))
        self.gate = Gate(Issuer(KEYS, ttl=ttl), self.ledger, held)
        self.flask = app = flask.Flask(__name__)

        @app.post("/v1/predict")
        def predict() -> Any:
            body = flask.request.get_json()
            self.runs += 1
            charge_of(flask.request.environ).charge(body["evidence"])
            return {"answer": body["x"]}, 200, {"X-Model": "m"}

        @app.post("/v1/beforehand")
        def beforehand() -> Any:
            body = flask.request.get_json()
            charge_of(flask.request.environ).require(body["evidence"])
            self.runs += 1
            return {"answer": body["x"]}

        @app.post("/v1/pieces")
        def pieces() -> Any:
            charge_of(flask.request.environ).charge([1.0])
            return flask.Response(iter(["a", "b", "c"]))

        @app.post("/v1/late")
        def late() -> Any:
            charge = charge_of(flask.request.environ)

            def body() -> Iterator[str]:
                yield "early"
                try:
                    charge.charge([1.0])
                except RuntimeError as error:
                    yield str(error)

            return flask.Response(body())

        @app.post("/v1/fails")
        def fails() -> Any:
            charge_of(flask.request.environ).charge([1.0])
            return "broken", 503

        @app.route("/v1/free", methods=["GET", "HEAD", "POST"])
        def free() -> str:
            return "free" + flask.request.get_data(as_text=True)

        @app.delete("/v1/free")
        def nothing() -> Any:
            response = flask.Response(status=204)
            del response.headers["content-type"]  # PEP 3333's validator minds it
            return response

        @app.post("/unguarded")
        def unguarded() -> Any:
            return flask.request.get_json()

        self.app = PowMiddleware(app.wsgi_app, self.gate, paths=("/v1/",), **options)


class Quiet(WerkzeugHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


class QuietStrict(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(server: Any) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def threaded(service: FlaskService) -> Any:
    server = make_server("127.0.0.1", 0, service.app, threaded=True, request_handler=Quiet)
    return serving(server)


def strict(service: FlaskService) -> Any:
    """Both sides of the middleware held to PEP 3333."""
    service.app._app = validator(service.flask.wsgi_app)
    app = validator(service.app)
    return serving(make_strict_server("127.0.0.1", 0, app, handler_class=QuietStrict))


both_servers = pytest.mark.parametrize("serve", [threaded, strict])
Serve = Callable[[FlaskService], Any]


def token_of(response: httpx.Response) -> bytes:
    token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
    assert token is not None, response.text
    return token


def paid(token: bytes) -> dict[str, str]:
    return {**ALICE, "pow-solution": format_solution(token, solve(token))}


@both_servers
def test_a_client_never_sees_the_402(serve: Serve) -> None:
    service = FlaskService()
    with serve(service) as url, httpx.Client(base_url=url, auth=PowAuth()) as client:
        response = client.post("/v1/predict", json=ASK, headers=ALICE)
        assert (response.status_code, response.json()) == (200, {"answer": 1})
        assert response.headers["pow-receipt"] == f"work={2 * BASE}"
        assert response.headers["x-model"] == "m"
        assert client.post("/v1/pieces").text == "abc"
    assert service.runs == 1


@both_servers
def test_the_challenge_and_every_refusal(serve: Serve) -> None:
    service = FlaskService()
    with serve(service) as url, httpx.Client(base_url=url, headers=ALICE) as client:
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
        replayed = client.post("/v1/predict", json=ASK, headers=headers)
        assert "(already-redeemed)" in replayed.json()["detail"]


def test_of_64_concurrent_copies_of_a_solution_one_wins() -> None:
    service = FlaskService()
    with threaded(service) as url, httpx.Client(base_url=url, timeout=60) as client:
        headers = paid(token_of(client.post("/v1/predict", json=ASK, headers=ALICE)))
        with ThreadPoolExecutor(64) as pool:
            copies = [
                pool.submit(client.post, "/v1/predict", json=ASK, headers=headers)
                for _ in range(64)
            ]
            statuses = [copy.result().status_code for copy in copies]
    assert sorted(statuses) == [200] + [402] * 63


def test_where_the_held_answer_is_gone_the_endpoint_runs_as_paid() -> None:
    service = FlaskService(held=HeldAnswers(account_bytes=4))
    with threaded(service) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/predict", json=ASK))
        answer = client.post("/v1/predict", json=ASK, headers=paid(token))
        assert answer.json() == {"answer": 1}
        assert answer.headers["pow-receipt"] == f"work={2 * BASE}"
    assert service.runs == 2
    state = service.ledger.state(decode(token).account)
    assert state is not None
    assert state[0] == 2  # and costs nothing more


@pytest.mark.parametrize("handled", ["raised", "by Flask", "by a handler"])
def test_require_runs_the_model_only_when_paid(handled: str) -> None:
    service = FlaskService()
    service.flask.config["PROPAGATE_EXCEPTIONS"] = handled == "raised"
    if handled == "by a handler":
        service.flask.register_error_handler(PaymentRequired, lambda error: ("free answer!", 200))
    with threaded(service) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = client.post("/v1/beforehand", json=ASK)
        token = token_of(asked)
        assert "free" not in asked.text
        assert service.runs == 0
        answer = client.post("/v1/beforehand", json=ASK, headers=paid(token))
        assert answer.json() == {"answer": 1}
    assert service.runs == 1


def test_unpaid_answers_are_bounded_per_account() -> None:
    service = FlaskService(held=HeldAnswers(per_account=3))
    with threaded(service) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = [client.post("/v1/predict", json={**ASK, "x": i}) for i in range(5)]
        assert [response.status_code for response in asked] == [402, 402, 402, 429, 429]
        assert asked[3].headers["retry-after"] == "120"
    assert service.runs == 3


@both_servers
def test_what_is_not_charged_passes_untouched(serve: Serve) -> None:
    service = FlaskService(max_body=100)
    with serve(service) as url, httpx.Client(base_url=url) as client:
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
    with threaded(service) as url, httpx.Client(base_url=url) as client:
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
        threaded(service) as url,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as s,
    ):
        s.sendall(b"POST /v1/free HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfour")
        s.shutdown(socket.SHUT_WR)
        assert b" 400 " in s.recv(1000)


def test_a_challenge_to_head_has_no_body() -> None:
    """On a connection that is kept, a body would be taken for the next answer."""
    service = FlaskService(evidence=lambda exchange: [1.0])
    with (
        threaded(service) as url,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as s,
        s.makefile("rb") as answer,
    ):
        s.sendall(b"HEAD /v1/free HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 402 " in answer.readline()
        assert answer.read().endswith(b"\r\n\r\n")


def test_an_account_that_no_token_can_carry_is_refused_before_the_model_runs() -> None:
    service = FlaskService(account=lambda caller: "a" * 256)
    with threaded(service) as url:
        response = httpx.post(url + "/v1/predict", json=ASK)
    assert (response.status_code, response.json()["type"]) == (400, "urn:powfast:invalid-input")
    assert service.runs == 0


def test_a_forgotten_middleware_and_an_asynchronous_ledger_are_named() -> None:
    with pytest.raises(RuntimeError, match="/v1/predict"):
        charge_of({"PATH_INFO": "/v1/predict"})

    class Awaited:
        async def charge(self, *_: Any) -> int:
            return 0

        async def claim(self, *_: Any) -> bool:
            return True

    gate = Gate(Issuer(KEYS), Awaited())
    with pytest.raises(InvalidInput, match="blocks"):
        PowMiddleware(lambda environ, start_response: [], gate)
