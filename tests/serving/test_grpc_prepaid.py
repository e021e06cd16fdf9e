"""Work that is done ahead, and streams that are charged at their end, over gRPC."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conftest import PATIENCE
from grpc_service import (
    ALICE,
    ASK,
    Serve,
    both_servers,
    new_gate,
    paid,
    streaming,
    token_of,
    unary,
)
from service import BASE
from stores import until

from powfast.accounts import name_of
from powfast.challenge import decode
from powfast.gate import Gate
from powfast.http import challenge_in
from powfast.receipts import PREPAID

NAME = name_of("bearer alice")


def floor_first(credit: int = 0) -> Gate:
    gate = new_gate(max_unpaid_runs=0)
    if credit:
        gate.ledger.redeem(NAME, "", b"", b"credit", time.time() + 60, credit)
    return gate


def record(gate: Gate) -> Any:
    return gate.ledger.account(NAME)


@both_servers
def test_trailing_metadata_offers_a_challenge_for_any_later_call(serve: Serve) -> None:
    with serve(floor_first(), queries=lambda asked: 2) as served, served.channel() as channel:
        asked = token_of(served.refused("predict"))
        assert (decode(asked).work, served.model.runs) == (2 * BASE, 0)
        predict = unary(channel, "predict")
        _, call = predict.with_call(ASK, metadata=paid(asked))
        said = dict(call.trailing_metadata())
        assert said["pow-receipt"] == f"work={2 * BASE}, balance=0"
        ahead = challenge_in(402, said["pow-challenge"])
        assert ahead is not None
        challenge = decode(ahead)
        assert (challenge.account, challenge.request) == (NAME, b"")
        assert challenge.work == PREPAID * BASE

        left = (PREPAID - 2) * BASE
        _, call = predict.with_call({**ASK, "x": 2}, metadata=paid(ahead))
        said = dict(call.trailing_metadata())
        assert said["pow-receipt"] == f"work={PREPAID * BASE}, balance={left}"
        assert "pow-challenge" not in said
        _, call = predict.with_call({**ASK, "x": 3}, metadata=ALICE)
        said = dict(call.trailing_metadata())
        assert said["pow-receipt"] == f"work=0, balance={left - 2 * BASE}"


@both_servers
def test_a_prepaid_solution_that_is_spent_stops_no_call_that_is_covered(serve: Serve) -> None:
    with serve(floor_first(3 * BASE), queries=lambda asked: 2) as served:
        with served.channel() as channel:
            _, call = unary(channel, "predict").with_call(ASK, metadata=ALICE)
        said = dict(call.trailing_metadata())
        ahead = challenge_in(402, said["pow-challenge"])
        assert ahead is not None
        for x in (2, 3):
            with served.channel() as channel:
                answer = unary(channel, "predict")({**ASK, "x": x}, metadata=paid(ahead))
            assert answer == {"answer": x}
        assert record(served.gate).balance == (3 + PREPAID - 3 * 2) * BASE


@both_servers
def test_a_stream_on_credit_flows_and_is_charged_at_its_end(serve: Serve) -> None:
    ask = {"evidence": [1.0, 1000.0]}
    with serve(floor_first(BASE)) as served, served.channel() as channel:
        call = streaming(channel, "tell")(ask, metadata=ALICE, timeout=PATIENCE)
        assert next(call) == {"answer": 1.0}  # it has not ended yet
        assert record(served.gate).state[0] == 0
        served.model.may_end.set()
        assert list(call) == [{"answer": 1000.0}]
        price = served.gate.ledger.tariff.work([1.0, 1000.0])[0].sum()
        assert record(served.gate).state[0] == 2
        assert record(served.gate).balance == pytest.approx(BASE - price)
        asked = decode(token_of(served.refused("predict")))
        assert asked.work > price - BASE
        assert served.model.runs == 1


@both_servers
def test_who_leaves_a_stream_is_charged_for_what_was_sent(serve: Serve) -> None:
    ask = {"evidence": [1.0, 1.0, 1.0]}
    with serve(floor_first(10 * BASE)) as served, served.channel() as channel:
        call = streaming(channel, "tell")(ask, metadata=ALICE, timeout=PATIENCE)
        assert next(call) == {"answer": 1.0}
        call.cancel()
        served.model.may_end.set()
        until(lambda: record(served.gate).state[0] > 0)
        charged = record(served.gate).state[0]
        assert 1 <= charged <= 3
        assert record(served.gate).balance == (10 - charged) * BASE


@both_servers
def test_without_credit_no_stream_begins(serve: Serve) -> None:
    with serve(floor_first()) as served, served.channel() as channel:
        call = streaming(channel, "tell")({"evidence": [1.0]}, metadata=ALICE, timeout=PATIENCE)
        with pytest.raises(Exception) as caught:
            next(call)
        assert decode(token_of(caught.value)).work == BASE
        assert served.model.runs == 0
