"""Batches that nobody counted before they ran: none is answered beyond a stated size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc
import httpx
import pytest
from flask_service import FlaskService, threaded
from gateway_service import SECRET, opened, record, report
from gateway_service import new_gate as new_gateway_gate
from grpc_service import ALICE as ALICE_IN_METADATA
from grpc_service import Serve as ServeGrpc
from grpc_service import both_servers, streaming, unary
from grpc_service import new_gate as new_grpc_gate
from service import ALICE, BASE, Service, paid, served, token_of
from stores import until
from upstreams import Scripted

from powfast.accounts import account_of
from powfast.batches import UNCOUNTED
from powfast.clients.grpc import PowInterceptor as PayingInterceptor
from powfast.http import Exchange
from powfast.servers.connections import Upstream
from powfast.servers.gateway import Gateway
from powfast.servers.upstream import ReverseProxy

New = Callable[..., Any]
Serve = Callable[[Any], AbstractContextManager[str]]
both = pytest.mark.parametrize(
    ("new", "serve"), [(Service, served), (FlaskService, threaded)], ids=["asgi", "wsgi"]
)
TOO_MANY = [1.0] * (UNCOUNTED + 1)


class Heard:
    """An observer that keeps the events that it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, **fields: Any) -> None:
        self.events.append((name, fields))

    def span(self, name: str) -> Any:
        return nullcontext()

    def fields(self, name: str) -> list[dict[str, Any]]:
        return [fields for heard, fields in self.events if heard == name]


def ask(
    client: httpx.Client, evidence: list[float], path: str = "predict", **headers: str
) -> httpx.Response:
    body = {"x": 1, "evidence": evidence}
    return client.post(f"/v1/{path}", json=body, headers=headers)


def count(exchange: Exchange) -> int:
    return exchange.request.count(b".0")


def count_nothing(exchange: Exchange) -> int:
    raise ValueError("no body of mine")


@both
@pytest.mark.parametrize("queries", [None, count_nothing], ids=["nobody", "unreadable"])
def test_a_batch_that_nobody_counted_is_not_answered(
    new: New, serve: Serve, queries: Callable[[Exchange], int] | None
) -> None:
    heard = Heard()
    service = new(gate={"observer": heard}, queries=queries)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        refused = ask(client, TOO_MANY)
        assert refused.status_code == 413
        assert refused.json()["type"] == "urn:powfast:uncounted-queries"
        assert "queries=" in refused.json()["detail"] and "split" in refused.json()["detail"]
        assert "pow-receipt" not in refused.headers
        account = service.ledger.account(account_of(ALICE["authorization"]))
        assert (account.balance, account.state[0]) == (-BASE, 0)  # it has run, for one price
        assert ask(client, TOO_MANY[1:]).status_code == 402  # is held, as any other
    assert heard.fields("refused") == [{"code": "uncounted-queries"}]


@both
def test_a_batch_is_answered_that_was_counted_or_paid_before_it_runs(
    new: New, serve: Serve
) -> None:
    counting = new(gate={"max_unpaid_runs": 0}, queries=count)
    with serve(counting.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        solution = paid(token_of(ask(client, TOO_MANY)))
        assert counting.runs == 0
        assert ask(client, TOO_MANY, **solution).json() == {"answer": 1}
    requiring = new()
    with serve(requiring.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        solution = paid(token_of(ask(client, TOO_MANY, "beforehand")))
        assert requiring.runs == 0
        assert ask(client, TOO_MANY, "beforehand", **solution).json() == {"answer": 1}


@both
def test_what_the_middleware_charges_is_bound_as_well(new: New, serve: Serve) -> None:
    service = new(evidence=lambda exchange: TOO_MANY)
    with serve(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        assert client.get("/v1/free").status_code == 413


@both_servers
def test_grpc_answers_no_batch_that_nobody_counted(serve: ServeGrpc) -> None:
    with serve(new_grpc_gate()) as server, server.channel() as channel:
        asked = {"x": 1, "evidence": TOO_MANY}
        with pytest.raises(grpc.RpcError) as refused:
            unary(channel, "predict")(asked, metadata=ALICE_IN_METADATA)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "queries=" in refused.value.details()
        with pytest.raises(grpc.RpcError) as asked_for:
            unary(channel, "beforehand")(asked, metadata=ALICE_IN_METADATA)
        assert asked_for.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_report_of_a_batch_is_charged_in_full_and_heard_of() -> None:
    heard = Heard()
    gate = new_gateway_gate(observer=heard)
    gateway = Gateway(gate, report_secret=SECRET, queries_header="x-queries")
    with served(gateway.app) as url, httpx.Client(base_url=url) as client:
        passed = opened(client)
        assert report(client, passed.headers["pow-request"], evidence=TOO_MANY).status_code == 204
        assert record(gate).balance == -UNCOUNTED * BASE
        assert heard.fields("uncounted") == [{"queries": UNCOUNTED + 1}]
        gate.ledger.reset(account_of(ALICE["authorization"]))
        passed = opened(client, **{"x-queries": str(len(TOO_MANY))})
        assert report(client, passed.headers["pow-request"], evidence=TOO_MANY).status_code == 204
    assert len(heard.fields("uncounted")) == 1  # this one had been counted


async def test_the_proxy_answers_no_batch_that_nobody_counted() -> None:
    model = Scripted()
    upstream = Upstream(model.url, timeout=60, connections=4)
    proxy = ReverseProxy(
        Service().gate, upstream, evidence=lambda exchange: TOO_MANY, paths=("/v1/",)
    )
    transport = httpx.ASGITransport(proxy)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        refused = await client.post("/v1/chat/completions", json={}, headers=ALICE)
    upstream.close()
    model.close()
    assert (refused.status_code, len(model.asked)) == (413, 1)
    assert refused.json()["type"] == "urn:powfast:uncounted-queries"


@both_servers
def test_a_stream_that_nobody_counted_is_charged_in_full_and_heard_of(serve: ServeGrpc) -> None:
    heard = Heard()
    with serve(new_grpc_gate(max_unpaid_runs=0, observer=heard)) as server:
        server.model.may_end.set()
        with server.channel(PayingInterceptor()) as channel:
            asked = {"x": 1, "evidence": TOO_MANY}
            answers = list(streaming(channel, "tell")(asked, metadata=ALICE_IN_METADATA))
        until(lambda: bool(heard.fields("charged")))
    assert len(answers) == len(TOO_MANY)
    assert heard.fields("charged")[0]["queries"] == len(TOO_MANY)
    assert heard.fields("uncounted") == [{"queries": len(TOO_MANY)}]
