"""Account evidence behind every kind of server: what the application is charged is an estimate."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask, request
from flask_service import threaded
from grpc_service import ALICE as ALICE_IN_METADATA
from grpc_service import awaited, blocking, unary
from service import ALICE, KEYS, UNPAID, served

from powfast.accounts import name_of
from powfast.challenge import Issuer
from powfast.clients.grpc import PowInterceptor
from powfast.clients.httpx import PowAuth
from powfast.gate import Gate
from powfast.servers.asgi import PowMiddleware as AsgiMiddleware
from powfast.servers.fastapi import Charge
from powfast.servers.wsgi import PowMiddleware as WsgiMiddleware
from powfast.servers.wsgi import bill_of
from powfast.sketch import Advance, Sketch
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

VERSION = b"estimate"
NAME = name_of("bearer alice")


class Estimator:
    """Thinks every query ordinary by itself, and says what it was told of the account's past."""

    def __init__(self, own: float = 1.0) -> None:
        self.own = own
        self.seen: list[float | None] = []

    def __call__(self, *_: Any) -> Estimate:
        return Estimate(self)


class Estimate:
    def __init__(self, estimator: Estimator) -> None:
        self.evidence = [1.0, 1.0]
        self._estimator = estimator

    def advance(self, sketch: Sketch | None) -> Advance:
        self._estimator.seen.append(None if sketch is None else float(sketch.sums[0]))
        return Advance([self._estimator.own] * 2, [2.0, 7.0], [0.0, 0.0], VERSION)


def gate(account_evidence: bool = True) -> Gate:
    tariff = EvidenceTariff(base_work=10, account_evidence=account_evidence)
    return Gate(Issuer(KEYS), MemoryLedger(tariff), **UNPAID)


Ask = Callable[[], None]
"""Asks twice about two queries as Alice, paying."""


def over_http(serving: AbstractContextManager[str]) -> Any:
    with serving as url, httpx.Client(base_url=url, auth=PowAuth(), headers=ALICE) as client:
        for _ in range(2):
            assert client.post("/v1", json={}).status_code == 200


def fastapi(gate: Gate, estimate: Estimator) -> None:
    app = FastAPI()
    app.add_middleware(AsgiMiddleware, gate=gate)

    @app.post("/v1")
    async def predict(pow: Charge) -> str:
        await pow.charge(estimate())
        return "answer"

    over_http(served(app))


def asgi(gate: Gate, estimate: Estimator) -> None:
    app = FastAPI()
    app.add_middleware(AsgiMiddleware, gate=gate, evidence=estimate)
    app.post("/v1")(lambda: "answer")
    over_http(served(app))


def at_its_end(gate: Gate, estimate: Estimator) -> None:
    app = FastAPI()
    app.add_middleware(AsgiMiddleware, gate=gate)

    @app.post("/v1")
    async def predict(pow: Charge) -> str:
        pow.charge_at_end(estimate)
        return "answer"

    over_http(served(app))


def wsgi(gate: Gate, estimate: Estimator) -> None:
    app = Flask("model")

    @app.post("/v1")
    def predict() -> str:
        bill_of(request.environ).charge(estimate())
        return "answer"

    over_http(threaded(WsgiMiddleware(app, gate)))


def grpc_blocking(gate: Gate, estimate: Estimator) -> None:
    over_grpc(blocking(gate, evidence=estimate))


def grpc_awaited(gate: Gate, estimate: Estimator) -> None:
    over_grpc(awaited(gate, evidence=estimate))


def over_grpc(serving: Any) -> None:
    with serving as served, served.channel(PowInterceptor()) as channel:
        for x in range(2):
            assert unary(channel, "plain")({"x": x}, metadata=ALICE_IN_METADATA) == {"answer": x}


every_server = pytest.mark.parametrize(
    "ask", [fastapi, asgi, at_its_end, wsgi, grpc_blocking, grpc_awaited]
)


@every_server
def test_each_request_is_judged_by_what_the_account_had_asked_before(ask: Any) -> None:
    guard, estimator = gate(), Estimator()
    ask(guard, estimator)
    assert estimator.seen == [None, 2.0]
    record = guard.ledger.account(NAME)
    assert record is not None and record.sketch is not None
    assert record.sketch.sums.tolist() == [4.0, 14.0]
    assert record.sketch.version == VERSION


@every_server
def test_a_tariff_without_account_evidence_takes_the_queries_evidence_alone(ask: Any) -> None:
    guard, estimator = gate(account_evidence=False), Estimator(own=50.0)
    ask(guard, estimator)
    record = guard.ledger.account(NAME)
    assert estimator.seen == []
    assert record is not None and record.state[0] == 4.0 and record.sketch is None


def test_account_evidence_raises_the_price() -> None:
    ordinary, odd = gate(), gate()
    fastapi(ordinary, Estimator(own=1.0))
    fastapi(odd, Estimator(own=200.0))
    records = [guard.ledger.account(NAME) for guard in (ordinary, odd)]
    before, after = [
        guard.ledger.tariff.price(record.state)
        for guard, record in zip((ordinary, odd), records, strict=True)
    ]
    assert before == 1.0 and after > 100.0


def test_a_group_has_a_sketch_of_its_own() -> None:
    guard, estimator, app = gate(), Estimator(), FastAPI()
    app.add_middleware(AsgiMiddleware, gate=guard, evidence=estimator, group=lambda caller: "lab")
    app.post("/v1")(lambda: "answer")
    with served(app) as url:
        for key in ("alice", "bob"):
            with httpx.Client(base_url=url, auth=PowAuth()) as client:
                headers = {"authorization": f"Bearer {key}"}
                assert client.post("/v1", json={}, headers=headers).status_code == 200
    assert estimator.seen == [None, None, None, 2.0], "the account's and the group's, each"
    group = guard.ledger.account("", "lab")
    assert group is not None and group.sketch is not None
    assert group.sketch.sums.tolist() == [4.0, 14.0]


def test_requests_at_once_start_at_the_same_sketch_and_lose_nothing() -> None:
    guard, estimator, app = gate(), Estimator(), Flask("model")
    entered = []

    @app.post("/v1/<int:number>")
    def predict(number: int) -> str:
        entered.append(number)
        bill_of(request.environ).charge(estimator())
        return "answer"

    with threaded(WsgiMiddleware(app, guard)) as url, ThreadPoolExecutor(8) as pool:

        def ask(number: int) -> int:
            with httpx.Client(base_url=url, auth=PowAuth(), headers=ALICE) as client:
                return client.post(f"/v1/{number}").status_code

        assert list(pool.map(ask, range(16))) == [200] * 16
    record = guard.ledger.account(NAME)
    assert record is not None and record.sketch is not None
    assert record.sketch.sums.tolist() == [32.0, 112.0]
    assert all(seen is None or seen % 2.0 == 0.0 for seen in estimator.seen)
