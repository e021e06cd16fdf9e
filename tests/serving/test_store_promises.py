"""Exactness under concurrency: two processes over each shared store, in any interleaving.

Every run has to be one that the same operations could have made one after the other.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import redis_serving

from powfast.challenge import Issuer, solve
from powfast.errors import InvalidInput, Refused
from powfast.gate import Asked, Gate, run
from powfast.http import format_solution
from powfast.stores import open_ledger
from powfast.stores.base import NEW, settle
from powfast.tariff import EvidenceTariff
from powfast.tariff.state import unpacked

BASE = 1000.0
TARIFF = EvidenceTariff(BASE, 50 * BASE, volume=((4, 1.5),))
KEYS = {"2026a": bytes(range(32))}
ASKED = Asked("alice", "", b"a request")
PATIENCE = 60.0

Step = tuple[str, tuple[Any, ...]]


def gateway(url: str, pipe: Connection) -> None:
    """A process of its own: does what it is sent, `threads` steps at a time."""
    ledger = open_ledger(url, TARIFF, timeout=PATIENCE)
    gate = Gate(Issuer(KEYS), ledger)

    def do(step: Step) -> Any:
        operation, arguments = step
        try:
            if operation == "redeem":
                run(gate.redeem(ASKED, *arguments))
                return "admitted"
            return getattr(ledger, operation)(*arguments)
        except (InvalidInput, Refused) as error:
            return error.code

    for steps, threads in iter(pipe.recv, None):
        with ThreadPoolExecutor(threads) as pool:
            pipe.send(list(pool.map(do, steps)))
    ledger.close()


class TwoGateways:
    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.ledger = open_ledger(url, TARIFF, timeout=PATIENCE)
        self._pipes, self._processes = [], []
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=gateway, args=(url, theirs))
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def do(self, *steps: list[Step], threads: int = 1) -> list[list[Any]]:
        """Give each process its steps, both at once; return what came of them."""
        for pipe, mine in zip(self._pipes, steps, strict=True):
            pipe.send((mine, threads))
        return [pipe.recv() for pipe in self._pipes]

    def close(self) -> None:
        self.ledger.close()
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join()


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def gateways(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoGateways]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        both = TwoGateways(f"sqlite:///{folder}/ledger.db")
        yield both
        both.close()
        return
    with redis_serving(folder) as server:
        both = TwoGateways(server.url)
        yield both
        both.close()


numbers = itertools.count()
CHARGES = st.tuples(
    st.sampled_from(["alice", "bob"]),
    st.sampled_from([b"1", b"2", b"3", b"4"]),
    st.just("evidence"),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("charge"), CHARGES),
        st.tuples(st.just("claim"), st.tuples(st.sampled_from([b"x", b"y"]))),
        st.tuples(st.just("invalid"), CHARGES),
    ),
    max_size=12,
)
EVIDENCE = {b"1": [0.0, 30.0], b"2": [2.0], b"3": [7.5, 1.0, 0.25], b"4": [1.0]}


@settings(max_examples=40, deadline=None)
@given(STEPS, STEPS)
def test_every_interleaving_is_one_after_the_other(
    gateways: TwoGateways, first: list[Any], second: list[Any]
) -> None:
    run_number = f"{next(numbers)} "
    results = gateways.do(*([concrete(step, run_number) for step in s] for s in (first, second)))
    outcomes = list(zip(first + second, results[0] + results[1], strict=True))
    for challenge in (b"x", b"y"):
        claims = [won for step, won in outcomes if step == ("claim", (challenge,))]
        assert sum(claims) == bool(claims)
    assert {code for (kind, _), code in outcomes if kind == "invalid"} <= {"invalid-input"}
    for account in ("alice", "bob"):
        prices = [
            (step[1][1], work)
            for step, work in outcomes
            if step[0] == "charge" and step[1][0] == account
        ]
        charged = dict(prices)
        assert len(set(prices)) == len(charged)  # whoever asked again was told the same
        state = gateways.ledger.state(run_number + account)
        orders = itertools.permutations(charged)
        assert any(is_outcome(order, charged, state) for order in orders)


def concrete(step: Step, run_number: str) -> Step:
    kind, arguments = step
    if kind == "claim":
        return kind, (run_number.encode() + arguments[0], 4e9)
    account, request, _ = arguments
    evidence = EVIDENCE[request] if kind == "charge" else [*EVIDENCE[request], float("nan")]
    return "charge", (run_number + account, "", request, evidence)


def is_outcome(order: tuple[bytes, ...], charged: dict[bytes, int], state: Any) -> bool:
    """Whether charging in this order asks for these prices and leaves this state."""
    page = NEW
    for request in order:
        work, page, _ = settle(TARIFF, EVIDENCE[request], page, None, 0.0)
        if work != charged[request]:
            return False
    return state is None if page[0] is None else np.array_equal(unpacked(page[0]), state)


def test_1000_concurrent_queries_cost_what_1000_serial_ones_do(gateways: TwoGateways) -> None:
    steps: list[list[Step]] = [
        [("charge", ("many", "", bytes([process, i // 256, i % 256]), [1.3])) for i in range(500)]
        for process in range(2)
    ]
    published = gateways.do(*steps, threads=16)
    page, owed = NEW, 0
    for _ in range(1000):
        work, page, _ = settle(TARIFF, [1.3], page, None, 0.0)
        owed += work
    assert np.array_equal(gateways.ledger.state("many"), unpacked(page[0]))  # type: ignore[arg-type]
    assert sum(published[0] + published[1]) == owed


def test_one_request_charged_by_all_at_once_counts_once(gateways: TwoGateways) -> None:
    step: Step = ("charge", ("one", "of a group", b"1", [5.0]))
    published = gateways.do([step] * 32, [step] * 32, threads=32)
    expected, page, _ = settle(TARIFF, [5.0], NEW, NEW, 0.0)
    assert set(published[0] + published[1]) == {expected}
    for name in (("one", "of a group"), ("", "of a group")):
        assert np.array_equal(gateways.ledger.state(*name), unpacked(page[0]))  # type: ignore[arg-type]


def test_64_redemptions_of_one_solution_admit_one(gateways: TwoGateways) -> None:
    token = Issuer(KEYS).issue(work=1_000_000, account=ASKED.account, request=ASKED.digest)
    solution = solve(token)
    wrong = (*solution[:-1], (solution[-1] + 1) % 2**64)
    steps: list[Step] = [("redeem", (format_solution(token, wrong),))]
    assert gateways.do(steps * 8, steps * 8, threads=8) == [["wrong-solution"] * 8] * 2
    steps = [("redeem", (format_solution(token, solution),))]
    outcomes = gateways.do(steps * 32, steps * 32, threads=32)
    assert sorted(outcomes[0] + outcomes[1]) == ["admitted"] + ["already-redeemed"] * 63
