"""A model behind gRPC: a blocking and an asynchronous server, and how to call them."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from conftest import PATIENCE
from service import BASE, KEYS, UNPAID

from powfast.challenge import Issuer, solve
from powfast.clients.grpc import PowInterceptor as PayingInterceptor
from powfast.gate import Gate
from powfast.http import challenge_in, format_solution
from powfast.servers.grpc import AioPowInterceptor, PowInterceptor, current_bill
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

ALICE = (("authorization", "Bearer alice"),)
ASK = {"x": 1, "evidence": [1.0, 1.0]}
METHOD = "/test.Model/"


def dumps(message: Any) -> bytes:
    return json.dumps(message).encode()


def loads(message: bytes) -> Any:
    return json.loads(message or b"{}")  # a failed call of grpc.aio has an empty message


JSON = {"request_deserializer": json.loads, "response_serializer": dumps}


class Model:
    """Methods that count their runs; `charge` is what a method of this kind of server calls."""

    def __init__(self) -> None:
        self.runs = 0
        self.ended = 0
        self.may_end = threading.Event()


class BlockingModel(Model):
    def predict(self, request: Any, context: Any) -> Any:
        self.runs += 1
        current_bill().charge(request["evidence"])
        context.set_trailing_metadata((("model", "m"), ("raw-bin", b"\x00\xff")))
        return {"answer": request["x"]}

    def beforehand(self, request: Any, context: Any) -> Any:
        current_bill().require(request["evidence"])
        self.runs += 1
        return {"answer": request["x"]}

    def stream(self, request: Any, context: Any) -> Iterator[Any]:
        self.runs += 1
        current_bill().charge(request["evidence"])
        for number in range(request["x"]):
            yield {"answer": number}

    def watchful(self, request: Any, context: Any) -> Iterator[Any]:
        """Stops once the client is gone."""
        self.runs += 1
        current_bill().charge(request["evidence"])
        for number in range(request["x"]):
            if not context.is_active():
                break
            yield {"answer": number}
            time.sleep(0.1)
        self.ended += 1

    def waiting(self, request: Any, context: Any) -> Iterator[Any]:
        self.runs += 1
        self.may_end.wait(PATIENCE)
        current_bill().charge(request["evidence"])
        yield {"answer": "at last"}

    def tell(self, request: Any, context: Any) -> Iterator[Any]:
        """Is charged at its end for what it has answered by then."""
        self.runs += 1
        answered: list[float] = []
        current_bill().charge_at_end(lambda: answered)
        for evidence in request["evidence"]:
            answered.append(evidence)
            yield {"answer": evidence}
            self.may_end.wait(PATIENCE)

    def stream_beforehand(self, request: Any, context: Any) -> Iterator[Any]:
        current_bill().require(request["evidence"])
        self.runs += 1
        for number in range(request["x"]):
            yield {"answer": number}

    def endless(self, request: Any, context: Any) -> Iterator[Any]:
        for number in itertools.count():
            yield {"answer": number}

    def late(self, request: Any, context: Any) -> Iterator[Any]:
        yield {"answer": "early"}
        try:
            current_bill().charge([1.0])
        except RuntimeError as error:
            yield {"answer": str(error)}

    def aborts(self, request: Any, context: Any) -> Any:
        current_bill().charge(request["evidence"])
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")

    def fails(self, request: Any, context: Any) -> Any:
        current_bill().charge(request["evidence"])
        context.set_code(grpc.StatusCode.DATA_LOSS)
        return {}

    def hides(self, request: Any, context: Any) -> Any:
        """Swallows what stops it, as careless code does."""
        try:
            current_bill().require(request["evidence"])
        except Exception:
            return {"answer": "hidden"}

    def plain(self, request: Any, context: Any) -> Any:
        self.runs += 1
        return {"answer": request["x"]}

    def talk(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            try:
                current_bill()
            except RuntimeError as error:
                yield {"answer": [request["x"], str(error)]}


class AwaitedModel(Model):
    async def predict(self, request: Any, context: Any) -> Any:
        self.runs += 1
        await current_bill().charge(request["evidence"])
        context.set_trailing_metadata((("model", "m"), ("raw-bin", b"\x00\xff")))
        return {"answer": request["x"]}

    async def beforehand(self, request: Any, context: Any) -> Any:
        await current_bill().require(request["evidence"])
        self.runs += 1
        return {"answer": request["x"]}

    async def stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        await current_bill().charge(request["evidence"])
        for number in range(request["x"]):
            yield {"answer": number}

    async def watchful(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        await current_bill().charge(request["evidence"])
        for number in range(request["x"]):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                break
            yield {"answer": number}
        self.ended += 1

    async def waiting(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        await asyncio.to_thread(self.may_end.wait, PATIENCE)
        await current_bill().charge(request["evidence"])
        yield {"answer": "at last"}

    async def tell(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        answered: list[float] = []
        current_bill().charge_at_end(lambda: answered)
        for evidence in request["evidence"]:
            answered.append(evidence)
            yield {"answer": evidence}
            await asyncio.to_thread(self.may_end.wait, PATIENCE)

    async def stream_beforehand(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await current_bill().require(request["evidence"])
        self.runs += 1
        for number in range(request["x"]):
            yield {"answer": number}

    async def endless(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in itertools.count():
            yield {"answer": number}

    async def late(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield {"answer": "early"}
        try:
            await current_bill().charge([1.0])
        except RuntimeError as error:
            yield {"answer": str(error)}

    async def aborts(self, request: Any, context: Any) -> Any:
        await current_bill().charge(request["evidence"])
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")

    async def fails(self, request: Any, context: Any) -> Any:
        await current_bill().charge(request["evidence"])
        context.set_code(grpc.StatusCode.DATA_LOSS)
        return {}

    async def hides(self, request: Any, context: Any) -> Any:
        try:
            await current_bill().require(request["evidence"])
        except Exception:
            return {"answer": "hidden"}

    async def plain(self, request: Any, context: Any) -> Any:
        self.runs += 1
        return {"answer": request["x"]}

    async def talk(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            try:
                current_bill()
            except RuntimeError as error:
                yield {"answer": [request["x"], str(error)]}


def handlers(model: Any) -> grpc.GenericRpcHandler:
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    kinds = {
        **dict.fromkeys(("predict", "beforehand", "aborts", "fails", "hides", "plain"), unary),
        **dict.fromkeys(
            ("stream", "stream_beforehand", "watchful", "waiting", "endless", "late", "tell"),
            stream,
        ),
        "talk": grpc.stream_stream_rpc_method_handler,
    }
    methods = {name: kind(getattr(model, name), **JSON) for name, kind in kinds.items()}
    return grpc.method_handlers_generic_handler("test.Model", methods)


class Served:
    """A gate and a server behind it."""

    def __init__(self, model: Model, gate: Gate, target: str) -> None:
        self.model = model
        self.gate = gate
        self.target = target

    @contextmanager
    def channel(self, *interceptors: Any) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.target) as channel:
            yield grpc.intercept_channel(channel, *interceptors)

    def call(self, method: str, request: Any = ASK, metadata: Any = ALICE, **limits: Any) -> Any:
        """Call with a paying client."""
        with self.channel(PayingInterceptor(**limits)) as channel:
            return unary(channel, method)(request, metadata=metadata, timeout=PATIENCE)

    def refused(self, method: str, request: Any = ASK, metadata: Any = ALICE) -> grpc.RpcError:
        """Call with a client that does not pay."""
        with self.channel() as channel, pytest.raises(grpc.RpcError) as caught:
            unary(channel, method)(request, metadata=metadata, timeout=PATIENCE)
        return caught.value


def unary(channel: grpc.Channel, method: str) -> Any:
    return channel.unary_unary(
        METHOD + method, request_serializer=dumps, response_deserializer=loads
    )


def streaming(channel: Any, method: str) -> Any:
    return channel.unary_stream(
        METHOD + method, request_serializer=dumps, response_deserializer=loads
    )


def new_gate(**options: Any) -> Gate:
    ledger = options.pop("ledger", None) or MemoryLedger(EvidenceTariff(base_work=BASE))
    ttl, held = options.pop("ttl", 120.0), options.pop("held", None)
    return Gate(Issuer(KEYS, ttl=ttl), ledger, held, **(UNPAID | options))


@contextmanager
def blocking(
    gate: Gate, credentials: grpc.ServerCredentials | None = None, **options: Any
) -> Iterator[Served]:
    model = BlockingModel()
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, interceptors=[PowInterceptor(gate, **options)])
        server.add_generic_rpc_handlers([handlers(model)])
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield Served(model, gate, f"127.0.0.1:{port}")
        finally:
            server.stop(None).wait()
            closings(gate)


def closings(gate: Gate) -> list[Any]:
    """Close the stores of a gate; what is returned may have to be awaited."""
    stores = (gate.ledger, gate.held)
    return [store.close() for store in stores if hasattr(store, "close")]


@contextmanager
def awaited(gate: Gate, **options: Any) -> Iterator[Served]:
    model, ready, ended = AwaitedModel(), threading.Event(), asyncio.Event()
    found: list[Any] = []

    async def serve() -> None:
        server = grpc.aio.server(interceptors=[AioPowInterceptor(gate, **options)])
        server.add_generic_rpc_handlers([handlers(model)])
        found[:] = [server.add_insecure_port("127.0.0.1:0"), asyncio.get_running_loop()]
        await server.start()
        ready.set()
        await ended.wait()
        await server.stop(None)
        for closing in closings(gate):
            if closing is not None:
                await closing

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(PATIENCE), "the server did not start"
    try:
        yield Served(model, gate, f"127.0.0.1:{found[0]}")
    finally:
        found[1].call_soon_threadsafe(ended.set)
        thread.join()


Serve = Callable[..., Any]
both_servers = pytest.mark.parametrize("serve", [blocking, awaited])


def token_of(error: Any) -> bytes:
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error
    token = challenge_in(402, dict(error.trailing_metadata())["www-authenticate"])
    assert token is not None
    return token


def paid(token: bytes) -> tuple[tuple[str, str], ...]:
    return (*ALICE, ("pow-solution", format_solution(token, solve(token))))
