"""The gate over both drivers, and over nodes that share a store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from service import ALICE, ASK, BASE, KEYS, Service, paid, served, token_of
from stores import redis_serving

from powfast.accounts import account_of
from powfast.bill import Bill, Event, Phase, RequestIdentity
from powfast.challenge import Issuer, decode, solve, token_from_text
from powfast.errors import InvalidInput
from powfast.gate import Gate, run
from powfast.http import Answer, format_solution
from powfast.stores import MemoryLedger, open_held, open_ledger
from powfast.stores.base import RERUNS
from powfast.tariff import EvidenceTariff

TARIFF = EvidenceTariff(base_work=BASE)
IDENTITY = RequestIdentity("alice", "", b"digest")


class Awaited:
    """A memory ledger whose methods are coroutines."""

    def __init__(self) -> None:
        self._ledger = MemoryLedger(TARIFF)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._ledger, name)
        if not callable(member):
            return member

        async def operation(*arguments: Any) -> Any:
            await asyncio.sleep(0)
            return member(*arguments)

        return operation


class Served:
    """A gate, and what it makes of requests to an endpoint that counts its runs."""

    def __init__(self, ledger: Any) -> None:
        self.gate = Gate(Issuer(KEYS), ledger, max_unpaid_runs=256)
        self.runs = 0

    def ask(
        self,
        solution: str | None = None,
        evidence: tuple[float, ...] = (1.0, 1.0),
        identity: RequestIdentity = IDENTITY,
    ) -> Answer:
        bill = Bill()

        async def endpoint() -> Answer:
            self.runs += 1
            bill.advance(Event.CHARGE)
            await bill.charging(evidence)
            if bill.phase is Phase.COVERED:
                bill.advance(Event.ANSWER)
            return Answer(200, (), b"answer")

        answer: Answer = self._drive(self.gate.serve(identity, bill, solution, endpoint))
        return answer

    @property
    def record(self) -> Any:
        found = self.gate.ledger.account(IDENTITY.account)
        return self._drive(found) if isinstance(self.gate.ledger, Awaited) else found

    def _drive(self, flow: Any) -> Any:
        return asyncio.run(flow) if isinstance(self.gate.ledger, Awaited) else run(flow)


def challenge_in(answer: Answer) -> bytes:
    return token_from_text(json.loads(answer.body)["challenge"])


@pytest.fixture(params=[lambda: MemoryLedger(TARIFF), Awaited])
def gate(request: pytest.FixtureRequest) -> Served:
    return Served(request.param())


def test_charge_challenge_redeem(gate: Served) -> None:
    asked = gate.ask()
    token = challenge_in(asked)
    said = decode(token)
    assert (asked.status, said.account, said.request) == (402, "alice", b"digest")
    assert said.work == 2 * BASE
    solution = format_solution(token, solve(token))
    other = gate.ask(solution, identity=RequestIdentity("alice", "", b"other"))
    assert b"(wrong-request)" in other.body
    for _ in range(3):  # and for who has lost it
        answer = gate.ask(solution)
        assert (answer.status, answer.body) == (200, b"answer")
        assert (b"pow-receipt", b"work=%d, balance=0" % said.work) in answer.headers
    assert gate.runs == 2  # one for the other
    assert gate.record.balance == -2 * BASE  # which nobody has paid


def test_what_the_grid_adds_is_credit(gate: Served) -> None:
    price = TARIFF.work([3.3, 7.7])[0].sum()
    token = challenge_in(gate.ask(evidence=(3.3, 7.7)))
    work = decode(token).work
    assert price < work <= 1.125 * price
    assert gate.ask(format_solution(token, solve(token)), (3.3, 7.7)).status == 200
    assert gate.record.balance == pytest.approx(work - price)


def test_errors_come_through_both_drivers(gate: Served) -> None:
    with pytest.raises(InvalidInput):
        gate.ask(evidence=(-1.0,))
    assert (gate.record.balance, gate.record.unpaid_runs) == (0, 0)  # a failure costs nothing
    assert b"(malformed-token)" in gate.ask("rubbish").body


@pytest.mark.parametrize("name", ["a" * 256, "ä" * 128, "\ud800", 7])
def test_a_name_fits_into_a_token(name: Any) -> None:
    with pytest.raises(InvalidInput, match="255"):
        RequestIdentity(name, "", b"")
    with pytest.raises(InvalidInput, match="255"):
        RequestIdentity("", name, b"")


@pytest.mark.parametrize(
    "options",
    [
        {"max_unpaid_runs": -1},
        {"max_unpaid_runs": 2.5},
        {"max_queries": 0},
        {"max_queries": "many"},
    ],
)
def test_bounds_are_counts(options: Any) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        Gate(Issuer(KEYS), MemoryLedger(TARIFF), **options)


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shared.db"
    else:
        with redis_serving(tmp_path) as server:
            yield server.url


def test_two_nodes_charge_64_copies_once_and_spend_their_solution_once(url: str) -> None:
    nodes = [
        Service(ledger=open_ledger(url, TARIFF, timeout=60), held=open_held(url, timeout=60))
        for _ in range(2)
    ]
    with served(nodes[0].app) as one, served(nodes[1].app) as two, httpx.Client() as http:

        def ask(at: str, headers: dict[str, str] = ALICE) -> httpx.Response:
            one_name = {"host": "models.example"}  # whatever node answers
            return http.post(at + "/v1/predict", json=ASK, headers=headers | one_name, timeout=60)

        tokens = [token_of(ask(at)) for at in (one, two, one)]
        assert {decode(token).work for token in tokens} == {2 * BASE}
        with ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(ask, (one, two) * 32, [paid(tokens[0])] * 64))
    statuses = {answer.status_code for answer in answers}
    assert {answer.text for answer in answers if answer.is_success} == {'{"answer":1}'}
    record = nodes[0].ledger.account(account_of(ALICE["authorization"]))
    runs = nodes[0].runs + nodes[1].runs
    if url.startswith("redis"):  # which shares what is held
        assert (statuses, runs, record.state[0], record.balance) == ({200}, 1, 2, 0)
    else:  # the second node runs it again for the payment, so often; then it is a new request
        assert {200} <= statuses <= {200, 402, 409}
        assert runs <= 1 + RERUNS + 1
        assert (record.state[0], record.balance) in ((2, 0), (4, -2 * BASE))
    for node in nodes:
        node.ledger.close()
