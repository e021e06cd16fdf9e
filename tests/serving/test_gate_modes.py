"""What the gate does while its ledger is away, and what it tells its observer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from service import ALICE, BASE, KEYS, UNPAID, served

from powfast.accounts import account_of
from powfast.bill import RequestIdentity
from powfast.challenge import Issuer, solve
from powfast.errors import InvalidInput, StoreUnavailable
from powfast.gate import Gate, run
from powfast.http import challenge_in, format_solution
from powfast.servers.asgi import PowMiddleware
from powfast.servers.charge import BlockingBill
from powfast.servers.fastapi import Charge
from powfast.stores import MemoryLedger
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff

TARIFF = EvidenceTariff(base_work=BASE)


class Leaving:
    """A store that is there as long as `present`."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.present = True

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def operation(*arguments: Any) -> Any:
            if not self.present:
                raise StoreUnavailable("the store went away", 2.5)
            return value(*arguments)

        return operation


class Notebook:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, str | float]]] = []
        self.spans: list[str] = []

    def event(self, name: str, **fields: str | float) -> None:
        self.events.append((name, fields))

    def span(self, name: str) -> AbstractContextManager[object]:
        self.spans.append(name)
        return nullcontext()


class Service:
    """A gate over stores that can leave."""

    def __init__(self, tariff: EvidenceTariff = TARIFF, held: Any = None, **options: Any) -> None:
        self.ledger = Leaving(MemoryLedger(tariff))
        self.held = Leaving(HeldAnswers()) if held is None else held
        self.notes = Notebook()
        options = UNPAID | options
        gate = Gate(Issuer(KEYS), self.ledger, self.held, observer=self.notes, **options)  # type: ignore[arg-type]
        self.runs = 0
        self.app = FastAPI()
        self.app.add_middleware(PowMiddleware, gate=gate)

        @self.app.get("/{x}")
        async def answer(x: int, pow: Charge, before: bool = False) -> int:
            if before:
                await pow.require([1.0])
            self.runs += 1
            if not before:
                await pow.charge([1.0])
            return x

    @property
    def record(self) -> Any:
        return self.ledger.account(account_of(ALICE["authorization"]))

    def client(self, url: str) -> httpx.Client:
        return httpx.Client(base_url=url, headers=ALICE)


def solution_to(response: httpx.Response) -> dict[str, str]:
    token = challenge_in(response.status_code, response.headers["www-authenticate"])
    assert token is not None
    return {"pow-solution": format_solution(token, solve(token))}


OPEN = {"on_store_error": "open"}
LOCAL = {"on_store_error": "local", "fallback": MemoryLedger(TARIFF)}


@pytest.mark.parametrize("path", ["/1", "/1?before=true"])
def test_closed_refuses_and_admits_nothing(path: str) -> None:
    service = Service()
    with served(service.app) as url, service.client(url) as client:
        solution = solution_to(client.get(path))
        runs = service.runs
        service.ledger.present = False
        for refused in (client.get("/2"), client.get(path, headers=solution)):
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "3"
            assert refused.json()["type"] == "urn:powfast:store-unavailable"
            assert "went away" not in refused.text  # what a store says is the operator's
        assert service.runs == runs
        service.ledger.present = True
        assert client.get(path, headers=solution).json() == 1  # the solution was not spent


def test_local_charges_and_redeems_here() -> None:
    held = HeldAnswers()
    service = Service(on_store_error="local", fallback=MemoryLedger(TARIFF), held=held)
    service.ledger.present = False
    with served(service.app) as url, service.client(url) as client:
        asked = client.get("/1")
        assert (asked.status_code, asked.json()["work"]) == (402, BASE)
        solution = solution_to(asked)
        assert [client.get("/1", headers=solution).json() for _ in range(2)] == [1, 1]
        other = client.get("/2", headers=solution)
        assert "wrong-request" in other.json()["detail"]
    assert service.runs == 2


def test_open_answers_without_a_price() -> None:
    service = Service(on_store_error="open")
    service.ledger.present = False
    with served(service.app) as url, service.client(url) as client:
        answers = [client.get(path) for path in ("/1", "/1?before=true")]
    assert [answer.json() for answer in answers] == [1, 1]
    assert not any("pow-receipt" in answer.headers for answer in answers)  # nobody knows of credit


@pytest.mark.parametrize("options", [{}, LOCAL, OPEN])
def test_held_answers_that_are_lost_cost_a_second_run(options: Any) -> None:
    service = Service(**options)
    with served(service.app) as url, service.client(url) as client:
        solution = solution_to(client.get("/1"))
        service.held.present = False
        assert client.get("/2").status_code == 402
        assert client.get("/1", headers=solution).json() == 1
    assert service.runs == 3
    assert service.record.state[0] == 2  # and nothing more


def failures(service: Service) -> list[str | float]:
    return [fields["operation"] for name, fields in service.notes.events if name == "store-error"]


@pytest.mark.parametrize("options", [{}, LOCAL, OPEN])
def test_a_request_waits_for_no_store_after_the_ledger(options: Any) -> None:
    service = Service(**options)
    with served(service.app) as url, service.client(url) as client:
        solution = solution_to(client.get("/1"))
        service.ledger.present = service.held.present = False
        for path, headers, asked in (
            ("/1", solution, ["redeem"]),
            ("/2", {"authorization": "Bearer new"}, ["enter"]),
            ("/3", {}, ["enter"]),
        ):
            service.notes.events.clear()
            client.get(path, headers=headers)
            assert failures(service) == asked


def test_what_has_run_is_owed_though_its_charge_failed() -> None:
    ledger = Leaving(MemoryLedger(TARIFF))
    gate, bill = Gate(Issuer(KEYS), ledger, **UNPAID), BlockingBill()  # type: ignore[arg-type]

    async def endpoint() -> None:
        ledger.present = False
        bill.charge([1.0])

    answer = run(gate.serve(RequestIdentity("alice", "", b"digest"), bill, None, endpoint))
    assert answer is not None and answer.status == 503
    assert len(gate.held) == 0  # type: ignore[arg-type]
    ledger.present = True
    record = ledger.account("alice")
    assert (record.balance, record.unpaid_runs) == (-BASE, 1)


def test_an_account_seen_while_the_ledger_is_away_still_owes_its_opening() -> None:
    service = Service(EvidenceTariff(BASE, 5 * BASE, probation=False), on_store_error="open")
    service.ledger.present = False
    with served(service.app) as url, service.client(url) as client:
        assert client.get("/1").json() == 1
        service.ledger.present = True
        assert client.get("/2").json()["work"] == 5 * BASE + BASE
    assert service.runs == 1


@pytest.mark.parametrize(
    "options",
    [
        {"on_store_error": "ajar"},
        {"on_store_error": "local"},
        {"on_store_error": "closed", "fallback": MemoryLedger(TARIFF)},
    ],
)
def test_a_mode_says_what_it_needs(options: Any) -> None:
    with pytest.raises(InvalidInput, match=r"on_store_error"):
        Gate(Issuer(KEYS), MemoryLedger(TARIFF), **options)


def test_the_observer_is_told() -> None:
    service = Service()
    with served(service.app) as url, service.client(url) as client:
        solution = solution_to(client.get("/1"))
        client.get("/2", headers=solution)
        client.get("/1", headers=solution)
        client.get("/1", headers=solution)
        service.ledger.present = False
        client.get("/3")
    assert service.notes.events == [
        ("charged", {"work": BASE, "queries": 1}),
        ("challenged", {"work": BASE}),
        ("redeemed", {"outcome": "wrong-request", "work": 0}),
        ("charged", {"work": BASE, "queries": 1}),
        ("challenged", {"work": BASE}),
        ("redeemed", {"outcome": "ok", "work": BASE}),
        ("redeemed", {"outcome": "again", "work": 0}),
        ("store-error", {"operation": "enter", "mode": "closed"}),
        ("refused", {"code": "store-unavailable"}),
    ]
    assert service.notes.spans == [
        "gate", "ledger", "ledger", "gate", "verify", "ledger", "ledger", "gate", "verify",
        "ledger", "gate", "verify", "ledger", "gate", "ledger",
    ]  # fmt: skip
