"""The exchange over gRPC: real servers and channels, blocking and asynchronous."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from conftest import missing
from service import BASE, KEYS
from stores import redis_serving

from powfast.accounts import address, certificate, name_of
from powfast.challenge import Issuer, decode, solve
from powfast.clients.flow import Payer
from powfast.clients.grpc import PowInterceptor as PayingInterceptor
from powfast.clients.grpc import aio_interceptors
from powfast.errors import Cancelled, InvalidInput, StoreUnavailable, TooMuchWork
from powfast.gate import Gate
from powfast.grpc import AioPowInterceptor, PowInterceptor, current_charge
from powfast.held import HeldAnswers
from powfast.http import Exchange, challenge_in, format_solution, request_digest
from powfast.ledger import MemoryLedger, open_held, open_ledger
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


class BlockingModel(Model):
    def predict(self, request: Any, context: Any) -> Any:
        self.runs += 1
        current_charge().charge(request["evidence"])
        context.set_trailing_metadata((("model", "m"), ("raw-bin", b"\x00\xff")))
        return {"answer": request["x"]}

    def beforehand(self, request: Any, context: Any) -> Any:
        current_charge().require(request["evidence"])
        self.runs += 1
        return {"answer": request["x"]}

    def stream(self, request: Any, context: Any) -> Iterator[Any]:
        self.runs += 1
        current_charge().charge(request["evidence"])
        for number in range(request["x"]):
            yield {"answer": number}

    def stream_beforehand(self, request: Any, context: Any) -> Iterator[Any]:
        current_charge().require(request["evidence"])
        self.runs += 1
        for number in range(request["x"]):
            yield {"answer": number}

    def late(self, request: Any, context: Any) -> Iterator[Any]:
        yield {"answer": "early"}
        try:
            current_charge().charge([1.0])
        except RuntimeError as error:
            yield {"answer": str(error)}

    def aborts(self, request: Any, context: Any) -> Any:
        current_charge().charge(request["evidence"])
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")

    def fails(self, request: Any, context: Any) -> Any:
        current_charge().charge(request["evidence"])
        context.set_code(grpc.StatusCode.DATA_LOSS)
        return {}

    def hides(self, request: Any, context: Any) -> Any:
        """Swallows what stops it, as careless code does."""
        try:
            current_charge().require(request["evidence"])
        except Exception:
            return {"answer": "hidden"}

    def plain(self, request: Any, context: Any) -> Any:
        self.runs += 1
        return {"answer": request["x"]}

    def talk(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            try:
                current_charge()
            except RuntimeError as error:
                yield {"answer": [request["x"], str(error)]}


class AwaitedModel(Model):
    async def predict(self, request: Any, context: Any) -> Any:
        self.runs += 1
        await current_charge().charge(request["evidence"])
        context.set_trailing_metadata((("model", "m"), ("raw-bin", b"\x00\xff")))
        return {"answer": request["x"]}

    async def beforehand(self, request: Any, context: Any) -> Any:
        await current_charge().require(request["evidence"])
        self.runs += 1
        return {"answer": request["x"]}

    async def stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        await current_charge().charge(request["evidence"])
        for number in range(request["x"]):
            yield {"answer": number}

    async def stream_beforehand(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await current_charge().require(request["evidence"])
        self.runs += 1
        for number in range(request["x"]):
            yield {"answer": number}

    async def late(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield {"answer": "early"}
        try:
            await current_charge().charge([1.0])
        except RuntimeError as error:
            yield {"answer": str(error)}

    async def aborts(self, request: Any, context: Any) -> Any:
        await current_charge().charge(request["evidence"])
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")

    async def fails(self, request: Any, context: Any) -> Any:
        await current_charge().charge(request["evidence"])
        context.set_code(grpc.StatusCode.DATA_LOSS)
        return {}

    async def hides(self, request: Any, context: Any) -> Any:
        try:
            await current_charge().require(request["evidence"])
        except Exception:
            return {"answer": "hidden"}

    async def plain(self, request: Any, context: Any) -> Any:
        self.runs += 1
        return {"answer": request["x"]}

    async def talk(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            try:
                current_charge()
            except RuntimeError as error:
                yield {"answer": [request["x"], str(error)]}


def handlers(model: Any) -> grpc.GenericRpcHandler:
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    kinds = {
        **dict.fromkeys(("predict", "beforehand", "aborts", "fails", "hides", "plain"), unary),
        **dict.fromkeys(("stream", "stream_beforehand", "late"), stream),
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
            return unary(channel, method)(request, metadata=metadata, timeout=30)

    def refused(self, method: str, request: Any = ASK, metadata: Any = ALICE) -> grpc.RpcError:
        """Call with a client that does not pay."""
        with self.channel() as channel, pytest.raises(grpc.RpcError) as caught:
            unary(channel, method)(request, metadata=metadata, timeout=30)
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
    return Gate(Issuer(KEYS, ttl=ttl), ledger, held, **options)


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
    assert ready.wait(10), "the server did not start"
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


@both_servers
def test_a_client_never_sees_the_challenge(serve: Serve) -> None:
    with serve(new_gate()) as served, served.channel(PayingInterceptor()) as channel:
        response, call = unary(channel, "predict").with_call(ASK, metadata=ALICE)
        assert response == {"answer": 1}
        trailing = dict(call.trailing_metadata())
        assert trailing["pow-receipt"] == f"work={2 * BASE}"
        assert (trailing["model"], trailing["raw-bin"]) == ("m", b"\x00\xff")
        assert served.model.runs == 1


@both_servers
def test_the_challenge_stands_in_trailing_metadata(serve: Serve) -> None:
    with serve(new_gate()) as served:
        error = served.refused("predict")
        challenge = decode(token_of(error))
        assert challenge.work == 2 * BASE
        assert challenge.account == name_of("bearer alice")
        assert challenge.request == request_digest("POST", b"/test.Model/predict", dumps(ASK))
        assert "solve the challenge" in error.details()
        assert "model" not in dict(error.trailing_metadata())
        assert not served.refused("predict").initial_metadata()


@both_servers
def test_an_answer_is_released_once_without_a_second_run(serve: Serve) -> None:
    with serve(new_gate()) as served, served.channel() as channel:
        solution = paid(token_of(served.refused("predict")))
        assert unary(channel, "predict")(ASK, metadata=solution) == {"answer": 1}
        assert served.model.runs == 1
        again = served.refused("predict", metadata=solution)
        assert "already-redeemed" in again.details()
        other = served.refused("predict", {**ASK, "x": 2}, solution)
        assert "wrong-request" in other.details()
        assert decode(token_of(other)).work == 2 * BASE
        bob = (("authorization", "Bearer bob"), solution[1])
        assert "wrong-account" in served.refused("predict", metadata=bob).details()
        garbage = (*ALICE, ("pow-solution", "a.b"))
        assert "malformed" in served.refused("predict", metadata=garbage).details()


@both_servers
def test_evidence_known_beforehand_is_paid_before_the_model_runs(serve: Serve) -> None:
    with serve(new_gate()) as served:
        token_of(served.refused("beforehand"))
        assert served.model.runs == 0
        assert served.call("beforehand") == {"answer": 1}
        assert served.model.runs == 1
        assert "answer" not in str(served.refused("hides"))


@both_servers
@pytest.mark.parametrize("method", ["stream", "stream_beforehand"])
def test_a_stream_is_paid_before_its_first_message(serve: Serve, method: str) -> None:
    ask = {"x": 3, "evidence": [1.0]}
    answers = [{"answer": number} for number in range(3)]
    with serve(new_gate()) as served:
        with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
            list(streaming(channel, method)(ask, metadata=ALICE))
        assert decode(token_of(caught.value)).work == BASE
        with served.channel(PayingInterceptor()) as channel:
            call = streaming(channel, method)(ask, metadata=ALICE)
            assert list(call) == answers
            assert dict(call.trailing_metadata())["pow-receipt"] == f"work={BASE}"
            assert list(streaming(channel, method)({**ask, "x": 0}, metadata=ALICE)) == []
            free = {**ask, "evidence": []}
            assert list(streaming(channel, method)(free, metadata=ALICE)) == answers
        assert served.model.runs == 3


@both_servers
def test_a_stream_on_its_way_cannot_be_charged(serve: Serve) -> None:
    with serve(new_gate()) as served, served.channel(PayingInterceptor()) as channel:
        first, second = streaming(channel, "late")(ASK)
        assert first == {"answer": "early"}
        assert "up to their first message" in second["answer"]


@both_servers
def test_streams_of_requests_pass_untouched(serve: Serve) -> None:
    with serve(new_gate(), evidence=lambda exchange: [1.0]) as served, served.channel() as channel:
        talk = channel.stream_stream(
            METHOD + "talk", request_serializer=dumps, response_deserializer=loads
        )
        answers = [message["answer"] for message in talk(iter([{"x": 1}, {"x": 2}]))]
    assert [x for x, _ in answers] == [1, 2]
    assert "nothing guards" in answers[0][1]


@both_servers
def test_what_is_not_charged_passes(serve: Serve) -> None:
    with serve(new_gate()) as served, served.channel() as channel:
        assert unary(channel, "plain")(ASK) == {"answer": 1}
        assert unary(channel, "predict")({**ASK, "evidence": []}) == {"answer": 1}
        assert len(served.gate.held) == 0


@both_servers
def test_failures_pass_and_are_not_held(serve: Serve) -> None:
    with serve(new_gate()) as served:
        error = served.refused("aborts")
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such model")
        assert served.refused("fails").code() is grpc.StatusCode.DATA_LOSS
        assert served.refused("predict", {"x": 1, "evidence": [-1.0]}).code() is (
            grpc.StatusCode.UNKNOWN
        )
        assert served.refused("nowhere").code() is grpc.StatusCode.UNIMPLEMENTED
        assert len(served.gate.held) == 0


@both_servers
def test_refusals_have_codes_of_their_own(serve: Serve) -> None:
    class Gone(MemoryLedger):
        def charge(self, *_: Any) -> int:
            raise StoreUnavailable("the store is away", 3.0)

    tariff = EvidenceTariff(base_work=BASE)
    with serve(new_gate(held=HeldAnswers(per_account=1))) as served:
        served.refused("predict")
        error = served.refused("predict", {**ASK, "x": 2})
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(dict(error.trailing_metadata())["retry-after"]) > 0
        keys = (*ALICE, ("authorization", "Bearer junk"))
        assert served.refused("predict", metadata=keys).code() is grpc.StatusCode.INVALID_ARGUMENT
    with serve(new_gate(refuse_above=1)) as served:
        assert served.refused("predict").code() is grpc.StatusCode.PERMISSION_DENIED
    with serve(new_gate(ledger=Gone(tariff))) as served:
        error = served.refused("predict")
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(error.trailing_metadata())["retry-after"] == "3"


@both_servers
def test_an_operator_prices_methods_it_cannot_edit(serve: Serve) -> None:
    seen: list[Exchange] = []

    def evidence(exchange: Exchange) -> list[float]:
        seen.append(exchange)
        return [1.0] * 3

    with serve(new_gate(), evidence=evidence, methods=(METHOD + "plain",)) as served:
        assert decode(token_of(served.refused("plain"))).work == 3 * BASE
        assert served.call("plain") == {"answer": 1}
        assert served.model.runs == 1
        unguarded = served.refused("predict")  # the prefix leaves it out
        assert unguarded.code() is grpc.StatusCode.UNKNOWN
    response = dumps({"answer": 1})
    assert seen == [Exchange("POST", b"/test.Model/plain", dumps(ASK), 200, response)]


@both_servers
def test_an_answer_too_large_to_hold_costs_another_run(serve: Serve) -> None:
    with serve(new_gate(held=HeldAnswers(account_bytes=4))) as served:
        assert served.call("predict") == {"answer": 1}
        assert served.model.runs == 2


@both_servers
def test_two_servers_share_what_is_held(serve: Serve, tmp_path: Path) -> None:
    """Binary metadata survives the store."""

    def over(url: str) -> Gate:
        asynchronous = serve is awaited
        tariff = EvidenceTariff(base_work=BASE)
        ledger = open_ledger(url, tariff, asynchronous=asynchronous, timeout=10.0)
        return new_gate(ledger=ledger, held=open_held(url, asynchronous=asynchronous, timeout=10.0))

    with (
        redis_serving(tmp_path) as store,
        serve(over(store.url)) as one,
        serve(over(store.url)) as other,
    ):
        solution = paid(token_of(one.refused("predict")))
        with other.channel() as channel:
            response, call = unary(channel, "predict").with_call(ASK, metadata=solution)
        assert response == {"answer": 1}
        trailing = dict(call.trailing_metadata())
        assert (trailing["model"], trailing["raw-bin"]) == ("m", b"\x00\xff")
        assert (one.model.runs, other.model.runs) == (1, 0)
        assert "already-redeemed" in one.refused("predict", metadata=solution).details()


def test_a_blocking_server_needs_a_ledger_that_blocks() -> None:
    class OnALoop:
        async def charge(self, *_: Any) -> int:
            return 0

    with pytest.raises(InvalidInput, match="blocks"):
        PowInterceptor(new_gate(ledger=OnALoop()))


# -- clients


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
        threading.Thread(target=lambda: started.wait(30) and call.cancel()).start()
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
            await asyncio.to_thread(started.wait, 10)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await asyncio.to_thread(stopped.wait, 10)

    with blocking(new_gate()) as served:
        asyncio.run(calls(served))


# -- who calls


@both_servers
def test_an_address_is_the_connections(serve: Serve) -> None:
    with serve(new_gate(), account=address()) as served:
        assert decode(token_of(served.refused("predict"))).account == "127.0.0.0/24"
    with serve(new_gate(), account=address(proxies=1)) as served:
        metadata = (("x-forwarded-for", "10.0.0.1"), ("x-forwarded-for", "198.51.100.1"))
        assert decode(token_of(served.refused("predict", metadata=metadata))).account == (
            "198.51.100.0/24"
        )


def openssl(folder: Path, *words: str) -> None:
    try:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        missing("openssl is not installed")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("certificates")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("localhost", "alice"):
        openssl(
            folder, *new, "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-subj", f"/O=Example/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
        )  # fmt: skip
    return lambda name: (folder / name).read_bytes()


def test_a_certificate_names_the_account(certificates: Callable[[str], bytes]) -> None:
    server = grpc.ssl_server_credentials(
        [(certificates("localhost.key"), certificates("localhost.pem"))],
        root_certificates=certificates("alice.pem"),
        require_client_auth=True,
    )
    client = grpc.ssl_channel_credentials(
        certificates("localhost.pem"), certificates("alice.key"), certificates("alice.pem")
    )
    with blocking(new_gate(), server, account=certificate()) as served:
        target = served.target.replace("127.0.0.1", "localhost")
        with grpc.secure_channel(target, client) as channel, pytest.raises(grpc.RpcError) as caught:
            unary(channel, "predict")(ASK, timeout=30)
    assert decode(token_of(caught.value)).account == name_of("CN=alice,O=Example")
