"""The exchange over gRPC: real servers, blocking and asynchronous."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from conftest import PATIENCE, missing
from grpc_service import (
    ALICE,
    ASK,
    METHOD,
    Serve,
    awaited,
    blocking,
    both_servers,
    dumps,
    loads,
    new_gate,
    paid,
    streaming,
    token_of,
    unary,
)
from service import BASE
from stores import redis_serving, until

from powfast.accounts import address, certificate, name_of
from powfast.challenge import decode
from powfast.clients.grpc import PowInterceptor as PayingInterceptor
from powfast.errors import InvalidInput, StoreUnavailable
from powfast.gate import Gate
from powfast.http import Exchange, request_digest
from powfast.servers.grpc import PowInterceptor
from powfast.stores import MemoryLedger, open_held, open_ledger
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff


@both_servers
def test_a_client_never_sees_the_challenge(serve: Serve) -> None:
    with serve(new_gate()) as served, served.channel(PayingInterceptor()) as channel:
        response, call = unary(channel, "predict").with_call(ASK, metadata=ALICE)
        assert response == {"answer": 1}
        trailing = dict(call.trailing_metadata())
        assert trailing["pow-receipt"] == f"work={2 * BASE}, balance=0"
        assert (trailing["model"], trailing["raw-bin"]) == ("m", b"\x00\xff")
        assert served.model.runs == 1


@both_servers
def test_the_challenge_stands_in_trailing_metadata(serve: Serve) -> None:
    with serve(new_gate()) as served:
        error = served.refused("predict")
        challenge = decode(token_of(error))
        assert challenge.work == 2 * BASE
        assert challenge.account == name_of("bearer alice")
        method = b"/test.Model/predict"
        assert challenge.request == request_digest("POST", method, dumps(ASK), {}.get)
        assert "solve the challenge" in error.details()
        assert "model" not in dict(error.trailing_metadata())
        assert not served.refused("predict").initial_metadata()


@both_servers
def test_an_answer_is_released_without_a_second_run(serve: Serve) -> None:
    with serve(new_gate()) as served, served.channel() as channel:
        solution = paid(token_of(served.refused("predict")))
        for _ in range(2):  # again, where the connection broke
            assert unary(channel, "predict")(ASK, metadata=solution) == {"answer": 1}
        assert served.model.runs == 1
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
            receipt = dict(call.trailing_metadata())["pow-receipt"]
            assert receipt.startswith(f"work={BASE}")
            assert list(streaming(channel, method)({**ask, "x": 0}, metadata=ALICE)) == []
            free = {**ask, "evidence": []}
            assert list(streaming(channel, method)(free, metadata=ALICE)) == answers
        assert served.model.runs == 3


@both_servers
def test_half_an_answer_is_neither_held_nor_sold(serve: Serve) -> None:
    ask = {"x": 4, "evidence": [1.0]}
    with serve(new_gate()) as served:
        with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
            list(streaming(channel, "watchful")(ask, metadata=ALICE, timeout=0.15))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: served.model.ended)
        with served.channel(PayingInterceptor()) as channel:
            answers = list(streaming(channel, "watchful")(ask, metadata=ALICE, timeout=PATIENCE))
    assert answers == [{"answer": number} for number in range(4)]


@both_servers
def test_a_call_that_is_being_answered_has_no_copies(serve: Serve) -> None:
    with serve(new_gate()) as served, served.channel(PayingInterceptor()) as channel:
        first = streaming(channel, "waiting")(ASK, metadata=ALICE)
        until(lambda: served.model.runs)
        with served.channel() as other, pytest.raises(grpc.RpcError) as caught:
            list(streaming(other, "waiting")(ASK, metadata=ALICE))
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert dict(caught.value.trailing_metadata())["retry-after"] == "1"
        served.model.may_end.set()
        assert list(first) == [{"answer": "at last"}]
        assert served.model.runs == 1


@both_servers
def test_who_leaves_a_free_stream_halfway_may_ask_again(serve: Serve) -> None:
    """Its run is over, and costs nothing, whether or not the method has noticed."""
    account = name_of("bearer alice")
    with serve(new_gate()) as served, served.channel() as channel:
        for _ in range(2):
            call = streaming(channel, "endless")(ASK, metadata=ALICE)
            assert next(call) == {"answer": 0}
            call.cancel()
            until(lambda: served.gate.ledger.account(account).balance == 0)


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
        def enter(self, *_: Any) -> Any:
            raise StoreUnavailable("db.example:6379 is away", 3.0)

    tariff = EvidenceTariff(base_work=BASE)
    with serve(new_gate(max_queries=1)) as served:
        assert served.refused("predict").code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        keys = (*ALICE, ("authorization", "Bearer junk"))
        assert served.refused("predict", metadata=keys).code() is grpc.StatusCode.INVALID_ARGUMENT
    with serve(new_gate(refuse_above=1)) as served:
        assert served.refused("predict").code() is grpc.StatusCode.PERMISSION_DENIED
    with serve(new_gate(ledger=Gone(tariff))) as served:
        error = served.refused("predict")
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "example" not in error.details()
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
    with serve(new_gate(held=HeldAnswers(max_bytes=0))) as served:
        assert served.call("predict") == {"answer": 1}
        assert served.model.runs == 2


@both_servers
def test_two_servers_share_what_is_held(serve: Serve, tmp_path: Path) -> None:
    """Binary metadata survives the store."""

    def over(url: str) -> Gate:
        asynchronous = serve is awaited
        tariff = EvidenceTariff(base_work=BASE)
        ledger = open_ledger(url, tariff, asynchronous=asynchronous, timeout=60.0)
        return new_gate(ledger=ledger, held=open_held(url, asynchronous=asynchronous, timeout=60.0))

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
        with one.channel() as channel:
            assert unary(channel, "predict")(ASK, metadata=solution) == {"answer": 1}
        assert (one.model.runs, other.model.runs) == (1, 0)


def test_a_blocking_server_needs_a_ledger_that_blocks() -> None:
    ledger = open_ledger("redis://nowhere", EvidenceTariff(base_work=BASE), asynchronous=True)
    with pytest.raises(InvalidInput, match="blocks"):
        PowInterceptor(new_gate(ledger=ledger))


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
            unary(channel, "predict")(ASK, timeout=PATIENCE)
    assert decode(token_of(caught.value)).account == name_of("CN=alice,O=Example")
