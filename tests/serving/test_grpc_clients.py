"""The interceptors of gRPC channels, blocking and asynchronous, against real servers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from conftest import PATIENCE
from grpc_service import (
    ALICE,
    ASK,
    BlockingModel,
    Model,
    Serve,
    Served,
    blocking,
    both_servers,
    handlers,
    new_gate,
    streaming,
    unary,
)
from service import BASE, KEYS
from till import MANY, PRICE, Till

from powfast.challenge import Challenge, Issuer
from powfast.clients.flow import Payer
from powfast.clients.grpc import PowInterceptor as PayingInterceptor
from powfast.clients.grpc import aio_interceptors
from powfast.errors import Cancelled, TooMuchWork
from powfast.http import payment_required
from powfast.servers.grpc import PowInterceptor


def test_a_client_keeps_to_its_limits() -> None:
    with blocking(new_gate()) as served:
        with pytest.raises(TooMuchWork):
            served.call("predict", max_work=BASE)
        with served.channel(PayingInterceptor(max_work=BASE)) as channel:
            with pytest.raises(TooMuchWork):
                next(streaming(channel, "stream")(ASK))
            with pytest.raises(TooMuchWork):
                unary(channel, "predict").future(ASK).result()


def test_calls_and_streams_share_a_budget() -> None:
    """Each of two accounts is asked for as much; a budget is for one of them."""

    def accounts() -> Iterator[Any]:
        return iter([(("authorization", f"Bearer {name}"),) for name in ("bob", "carol")])

    def blocking_calls(served: Served, budget: int) -> None:
        paying = PayingInterceptor(max_total_work=budget)
        bob, carol = accounts()
        with served.channel(paying) as channel:
            assert unary(channel, "predict")(ASK, metadata=bob) == {"answer": 1}
            assert paying.spent == budget
            with pytest.raises(TooMuchWork, match="0 are left"):
                next(streaming(channel, "stream")(ASK, metadata=carol))

    async def aio_calls(served: Served, budget: int) -> None:
        interceptors = aio_interceptors(max_total_work=budget)
        bob, carol = accounts()
        async with grpc.aio.insecure_channel(served.target, interceptors=interceptors) as channel:
            assert await unary(channel, "predict")(ASK, metadata=bob) == {"answer": 1}
            with pytest.raises(TooMuchWork, match="0 are left"):
                _ = [each async for each in streaming(channel, "stream")(ASK, metadata=carol)]

    with blocking(new_gate()) as served:
        probe = PayingInterceptor()
        with served.channel(probe) as channel:
            unary(channel, "predict")(ASK, metadata=ALICE)
        blocking_calls(served, probe.spent)
    with blocking(new_gate()) as served:
        asyncio.run(aio_calls(served, probe.spent))


@both_servers
def test_what_an_answer_costs_beyond_its_floor_is_paid_as_well(serve: Serve) -> None:
    """Nobody counts the two queries of a call before it runs."""
    floor_first = {"max_unpaid_runs": 0}

    async def aio_calls(target: str) -> None:
        async with grpc.aio.insecure_channel(target, interceptors=aio_interceptors()) as channel:
            assert await unary(channel, "predict")(ASK, metadata=ALICE) == {"answer": 1}
            bob = (("authorization", "Bearer bob"),)
            assert [each async for each in streaming(channel, "stream")(ASK, metadata=bob)]

    with serve(new_gate(**floor_first)) as served:
        asyncio.run(aio_calls(served.target))
    with serve(new_gate(**floor_first)) as served:
        paying = PayingInterceptor()
        with served.channel(paying) as channel:
            assert unary(channel, "predict")(ASK, metadata=ALICE) == {"answer": 1}
            assert paying.spent == 2 * BASE
            assert list(
                streaming(channel, "stream")(ASK, metadata=(("authorization", "Bearer c"),))
            )


def test_a_client_pays_once_and_leaves_metadata_alone() -> None:
    """The second challenge, of a server that never admits, is its caller's."""
    seen: list[Any] = []

    class Greedy(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.append([pair for pair in details.invocation_metadata if pair[0] != "user-agent"])
            return continuation(details)

    gate = new_gate()
    with ThreadPoolExecutor(2) as pool:
        guard = PowInterceptor(gate, account=lambda caller: str(len(seen)))
        server = grpc.server(pool, interceptors=[Greedy(), guard])
        server.add_generic_rpc_handlers([handlers(BlockingModel())])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        served = Served(Model(), gate, f"127.0.0.1:{port}")
        with pytest.raises(grpc.RpcError) as caught:
            served.call("predict")
        with served.channel(PayingInterceptor()) as channel, pytest.raises(grpc.RpcError):
            list(streaming(channel, "stream")(ASK, metadata=ALICE))
        server.stop(None).wait()
    assert "wrong-account" in caught.value.details()
    assert len(seen) == 4
    for first, second in (seen[:2], seen[2:]):
        assert first == list(ALICE)
        assert second[:1] == list(ALICE)
        assert [key for key, _ in second] == ["authorization", "pow-solution"]


@contextmanager
def insatiable() -> Iterator[tuple[str, list[Any]]]:
    """A server that answers every call with two fresh challenges; its target, and solutions."""
    solutions: list[Any] = []
    issuer = Issuer(KEYS)

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            stream = details.method.endswith("stream")
            kinds = (grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler)
            return kinds[stream](self.ask)

        def ask(self, request: bytes, context: Any) -> Any:
            solutions.append(dict(context.invocation_metadata()).get("pow-solution"))
            asked = dict(payment_required(issuer.issue(work=BASE), "pay").headers)
            challenge = asked[b"www-authenticate"].decode()
            context.set_trailing_metadata([("www-authenticate", challenge)] * 2)
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "pay")

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers([Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}", solutions
        server.stop(None).wait()


RETRIES = {  # of the library itself, below its interceptors
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.01s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["FAILED_PRECONDITION"],
            },
        }
    ]
}


@pytest.mark.parametrize("config", [{"methodConfig": []}, RETRIES], ids=["plain", "retries"])
@pytest.mark.parametrize("kind", ["unary", "future", "stream", "unary-aio", "stream-aio"])
def test_one_call_pays_once_whatever_is_answered(kind: str, config: Any) -> None:
    asked: list[Challenge] = []
    limits: Any = {"policy": lambda challenge: asked.append(challenge) is None}
    options = [("grpc.service_config", json.dumps(config))]

    def call(target: str) -> None:
        with grpc.insecure_channel(target, options) as plain:
            channel = grpc.intercept_channel(plain, PayingInterceptor(**limits))
            if kind == "stream":
                messages = streaming(channel, "stream")(ASK)
                for _ in range(2):  # whoever asks again is told the same again
                    with pytest.raises(grpc.RpcError):
                        next(messages)
                next(messages)
            elif kind == "future":
                unary(channel, "unary").future(ASK).result()
            else:
                unary(channel, "unary")(ASK)

    async def aio_call(target: str) -> None:
        interceptors = aio_interceptors(**limits)
        async with grpc.aio.insecure_channel(target, options, interceptors=interceptors) as channel:
            if kind == "stream-aio":
                _ = [each async for each in streaming(channel, "stream")(ASK)]
            else:
                await unary(channel, "unary")(ASK)

    with insatiable() as (target, solutions), pytest.raises(grpc.RpcError) as caught:
        asyncio.run(aio_call(target)) if kind.endswith("aio") else call(target)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert len(asked) == len({solution for solution in solutions if solution}) == 1
    assert len(solutions) == (6 if config is RETRIES else 2)


def test_cancelling_a_stream_cancels_its_solving() -> None:
    started = threading.Event()

    def progress(done: int, work: int) -> None:
        started.set()

    paying = PayingInterceptor(progress=progress, threads=1, max_work=2**60)
    with blocking(new_gate()) as served, served.channel(paying) as channel:
        call = streaming(channel, "stream")({"x": 1, "evidence": [1e6] * 8}, metadata=ALICE)
        threading.Thread(target=lambda: started.wait(PATIENCE) and call.cancel()).start()
        with pytest.raises(Cancelled):
            next(call)


async def aio_call(served: Served, method: str, request: Any = ASK, **limits: Any) -> Any:
    async with grpc.aio.insecure_channel(
        served.target, interceptors=aio_interceptors(**limits)
    ) as channel:
        return await unary(channel, method)(request, metadata=ALICE)


@both_servers
def test_an_asynchronous_client_pays(serve: Serve) -> None:
    async def calls(served: Served) -> None:
        asks = [{"x": x, "evidence": [1.0]} for x in range(4)]
        answers = await asyncio.gather(*(aio_call(served, "predict", ask) for ask in asks))
        assert answers == [{"answer": x} for x in range(4)]
        assert await aio_call(served, "plain") == {"answer": 1}
        with pytest.raises(TooMuchWork):
            await aio_call(served, "predict", max_work=1)
        async with grpc.aio.insecure_channel(
            served.target, interceptors=aio_interceptors()
        ) as channel:
            ask = {"x": 3, "evidence": [1.0]}
            for method in ("stream", "stream_beforehand"):
                call = streaming(channel, method)(ask, metadata=ALICE)
                assert [each async for each in call] == [{"answer": x} for x in range(3)]
            free = streaming(channel, "stream")({**ask, "evidence": []})
            assert [each["answer"] async for each in free] == [0, 1, 2]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [each async for each in streaming(channel, "nowhere")(ask)]
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    with serve(new_gate()) as served:
        asyncio.run(calls(served))
        assert served.model.runs == 4 + 1 + 1 + 3


def test_cancelling_an_asynchronous_call_cancels_its_solving() -> None:
    started, stopped = threading.Event(), threading.Event()

    class Watched(Payer):
        def pay(self, token: bytes, cancel: Any = None, peer: Any = None) -> str:
            try:
                return super().pay(token, cancel, peer)
            except Cancelled:
                stopped.set()
                raise

    async def calls(served: Served) -> None:
        interceptors = aio_interceptors(
            progress=lambda done, work: started.set(), threads=1, max_work=2**60
        )
        for interceptor in interceptors:
            interceptor._payer.__class__ = Watched
        async with grpc.aio.insecure_channel(served.target, interceptors=interceptors) as channel:
            call = unary(channel, "predict")({"x": 1, "evidence": [1e6] * 8}, metadata=ALICE)
            waiting = asyncio.ensure_future(call)
            await asyncio.to_thread(started.wait, PATIENCE)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await asyncio.to_thread(stopped.wait, PATIENCE)

    with blocking(new_gate()) as served:
        asyncio.run(calls(served))


# -- what is solved ahead


@contextmanager
def counter(till: Till) -> Iterator[str]:
    """The till behind gRPC; its target."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            stream = details.method.endswith("stream")
            kinds = (grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler)
            return kinds[stream](self.messages if stream else self.ask)

        def ask(self, request: bytes, context: Any) -> bytes:
            sent = dict(context.invocation_metadata())
            account, solution = sent.get("authorization", "nobody"), sent.get("pow-solution")
            status, told = till.answer("/ask", account, solution)
            context.set_trailing_metadata(list(told.items()))
            if status == 402:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "pay")
            return b"{}"

        def messages(self, request: bytes, context: Any) -> Iterator[bytes]:
            yield self.ask(request, context)
            yield b"{}"

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers([Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.mark.parametrize("kind", ["unary", "future", "stream", "unary-aio", "stream-aio"])
def test_credit_refills_by_itself(kind: str) -> None:
    """Alice's own challenge once, then what is ready with her next call, and not with Bob's."""
    till, calls = Till(), [ALICE, (("authorization", "Bearer bob"),), ALICE, *[ALICE] * 30]

    def settle(payer: Payer) -> None:
        end = time.monotonic() + PATIENCE
        while payer.prepaid.has_solver:
            assert time.monotonic() < end
            time.sleep(0.005)

    def ask(target: str) -> Payer:
        payer = PayingInterceptor()
        with grpc.insecure_channel(target) as plain:
            channel = grpc.intercept_channel(plain, payer)
            for metadata in calls:
                if kind == "stream":
                    assert len(list(streaming(channel, "stream")(ASK, metadata=metadata))) == 2
                elif kind == "future":
                    unary(channel, "unary").future(ASK, metadata=metadata).result()
                else:
                    unary(channel, "unary")(ASK, metadata=metadata)
                settle(payer)
        return payer

    async def aio_ask(target: str) -> Payer:
        interceptors = aio_interceptors()
        payer: Payer = interceptors[0]._payer  # type: ignore[attr-defined]
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
            for metadata in calls:
                if kind == "stream-aio":
                    call = streaming(channel, "stream")(ASK, metadata=metadata)
                    assert len([each async for each in call]) == 2
                else:
                    await unary(channel, "unary")(ASK, metadata=metadata)
                settle(payer)
        return payer

    with counter(till) as target:
        payer = asyncio.run(aio_ask(target)) if kind.endswith("aio") else ask(target)
    assert till.kinds()[:5] == [None, "own", None, "own", "ahead"]
    assert till.kinds().count("own") == 2
    ready_for_bob = MANY
    assert payer.spent == sum(till.balances.values()) + len(calls) * PRICE + ready_for_bob
