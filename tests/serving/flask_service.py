"""The service again, behind WSGI: Flask on a threaded server, and on one held to PEP 3333."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import make_server as make_strict_server
from wsgiref.validate import validator

import flask
from service import BASE, KEYS, UNPAID
from werkzeug.serving import WSGIRequestHandler as WerkzeugHandler
from werkzeug.serving import make_server

from powfast.challenge import Issuer
from powfast.gate import Gate
from powfast.servers.wsgi import PowMiddleware, bill_of
from powfast.stores import MemoryLedger
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff


class FlaskService:
    """One gate and one Flask application behind it, whose "model" counts its runs."""

    def __init__(
        self,
        *,
        ttl: float = 120.0,
        held: HeldAnswers | None = None,
        gate: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.runs = 0
        self.may_go = threading.Event()
        self.ledger = MemoryLedger(EvidenceTariff(base_work=BASE))
        self.gate = Gate(Issuer(KEYS, ttl=ttl), self.ledger, held, **(UNPAID | (gate or {})))
        self.flask = app = flask.Flask(__name__)

        @app.post("/v1/predict")
        def predict() -> Any:
            body = flask.request.get_json()
            self.runs += 1
            bill_of(flask.request.environ).charge(body["evidence"])
            return {"answer": body["x"]}, 200, {"X-Model": "m"}

        @app.post("/v1/beforehand")
        def beforehand() -> Any:
            body = flask.request.get_json()
            bill_of(flask.request.environ).require(body["evidence"])
            self.runs += 1
            return {"answer": body["x"]}

        @app.post("/v1/slow")
        def slow() -> str:
            self.runs += 1
            self.may_go.wait()
            bill_of(flask.request.environ).charge([1.0])
            return "answer"

        @app.post("/v1/login")
        def login() -> Any:
            self.runs += 1
            bill_of(flask.request.environ).charge([1.0])
            return "answer", 200, {"Set-Cookie": "session=1"}

        @app.post("/v1/pieces")
        def pieces() -> Any:
            bill_of(flask.request.environ).charge([1.0])
            return flask.Response(iter(["a", "b", "c"]))

        @app.post("/v1/late")
        def late() -> Any:
            charge = bill_of(flask.request.environ)

            def body() -> Iterator[str]:
                yield "early"
                try:
                    charge.charge([1.0])
                except RuntimeError as error:
                    yield str(error)

            return flask.Response(body())

        @app.post("/v1/fails")
        def fails() -> Any:
            bill_of(flask.request.environ).charge([1.0])
            return "broken", 503

        @app.route("/v1/free", methods=["GET", "HEAD", "POST"])
        def free() -> str:
            return "free" + flask.request.get_data(as_text=True)

        @app.delete("/v1/free")
        def nothing() -> Any:
            response = flask.Response(status=204)
            del response.headers["content-type"]  # PEP 3333's validator minds it
            return response

        @app.post("/v1/tell")
        def tell() -> Any:
            self.runs += 1
            body, answered = flask.request.get_json(), []
            first, last = body["evidence"]

            def pieces() -> Iterator[str]:
                answered.append(first)
                yield "first\n"
                self.may_go.wait()
                if body.get("fails"):
                    raise ValueError("broken")
                for _ in range(body.get("pieces", 0)):
                    yield "more\n"
                    time.sleep(0.02)
                answered.append(last)
                yield "last\n"

            bill_of(flask.request.environ).charge_at_end(lambda: answered)
            return flask.Response(pieces())

        @app.post("/v1/both")
        def both() -> Any:
            bill = bill_of(flask.request.environ)
            bill.charge([1.0])
            try:
                bill.charge_at_end(lambda: [1.0])
            except RuntimeError as error:
                return str(error)
            return "charged twice"

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


def threaded(app: PowMiddleware) -> AbstractContextManager[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    return serving(server)


def strict(app: PowMiddleware) -> AbstractContextManager[str]:
    """Both sides of the middleware held to PEP 3333."""
    app._app = validator(app._app)
    return serving(make_strict_server("127.0.0.1", 0, validator(app), handler_class=QuietStrict))
