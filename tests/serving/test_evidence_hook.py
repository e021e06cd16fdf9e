"""Answers that the operator prices, because their endpoint does not charge."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from flask import Flask, request
from service import ALICE, BASE, KEYS, UNPAID, served

from powfast.challenge import Issuer
from powfast.clients.httpx import PowAuth
from powfast.gate import Gate
from powfast.http import Exchange
from powfast.servers.asgi import PowMiddleware as AsgiMiddleware
from powfast.servers.wsgi import PowMiddleware as WsgiMiddleware
from powfast.stores import MemoryLedger
from powfast.stores.held import LARGEST_SHARE, OVERHEAD, HeldAnswers
from powfast.tariff import EvidenceTariff

Serve = Callable[..., Any]


def gate() -> Gate:
    held = HeldAnswers(max_bytes=LARGEST_SHARE * (OVERHEAD + 1000))
    return Gate(Issuer(KEYS), MemoryLedger(EvidenceTariff(base_work=BASE)), held, **UNPAID)


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def over_asgi(runs: list[bytes], evidence: Any) -> Iterator[str]:
    app = FastAPI()

    @app.post("/{status}")
    async def echo(status: int, asked: Request) -> Response:
        runs.append(await asked.body())
        return Response(runs[-1], status)

    app.add_middleware(AsgiMiddleware, gate=gate(), evidence=evidence)
    with served(app) as url:
        yield url


@contextmanager
def over_wsgi(runs: list[bytes], evidence: Any) -> Iterator[str]:
    app = Flask("echo")

    @app.post("/<int:status>")
    def echo(status: int) -> tuple[bytes, int]:
        runs.append(request.get_data())
        return runs[-1], status

    guarded = WsgiMiddleware(app.wsgi_app, gate(), evidence=evidence)
    with make_server("127.0.0.1", 0, guarded, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=[over_asgi, over_wsgi])
def over(request: pytest.FixtureRequest) -> Serve:
    serve: Serve = request.param
    return serve


def test_the_operator_prices_what_went_through(over: Serve) -> None:
    seen: list[Exchange] = []
    runs: list[bytes] = []

    def evidence(exchange: Exchange) -> list[float]:
        seen.append(exchange)
        return [1.0] * len(exchange.response)

    with over(runs, evidence) as url, httpx.Client(auth=PowAuth(), headers=ALICE) as client:
        assert client.post(f"{url}/200?a=b", content=b"four").content == b"four"
        assert client.post(f"{url}/404", content=b"x").status_code == 404
    assert seen[0] == Exchange("POST", b"/200?a=b", b"four", 200, b"four")
    assert seen[1].status == 404
    assert runs == [b"four", b"x"]


def test_no_evidence_no_price(over: Serve) -> None:
    runs: list[bytes] = []
    with over(runs, lambda exchange: []) as url:
        assert httpx.post(f"{url}/200", content=b"four").content == b"four"
        assert httpx.post(f"{url}/500", content=b"four").status_code == 500
        assert len(runs) == 2
        # too large to be kept while it is priced: the endpoint runs again, with the same body
        large = b"x" * 2000
        assert httpx.post(f"{url}/200", content=large).content == large
        assert runs[2:] == [large, large]


def test_a_large_answer_is_priced_and_runs_again_once_paid(over: Serve) -> None:
    runs: list[bytes] = []
    sizes: list[int] = []

    def evidence(exchange: Exchange) -> list[float]:
        sizes.append(len(exchange.response))
        return [1.0]

    large = b"x" * 2000
    with over(runs, evidence) as url, httpx.Client(auth=PowAuth(), headers=ALICE) as client:
        assert client.post(f"{url}/200", content=large).content == large
    # asked; paid, and priced again, for it may be another answer; and made to go out
    assert (len(runs), sizes) == (3, [0, 0])


async def test_the_price_may_be_awaited() -> None:
    async def evidence(exchange: Exchange) -> list[float]:
        return [1.0]

    with over_asgi([], evidence) as url:
        assert httpx.post(f"{url}/200", content=b"x").status_code == 402
