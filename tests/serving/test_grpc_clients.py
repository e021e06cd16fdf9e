"""The interceptors of gRPC channels, blocking and asynchronous, against real servers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
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
from service import BASE

from powfast.clients.flow import Payer
from powfast.clients.grpc import PowInterceptor as PayingInterceptor
from powfast.clients.grpc import aio_interceptors
from powfast.errors import Cancelled, TooMuchWork
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
        def pay(self, token: bytes, cancel: Any = None) -> str:
            try:
                return super().pay(token, cancel)
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
