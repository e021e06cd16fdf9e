"""What the gate does while its ledger is away, and what it tells its observer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from service import BASE, KEYS, served

from powfast.challenge import Issuer, solve
from powfast.errors import InvalidInput, StoreUnavailable
from powfast.gate import Asked, Gate, run
from powfast.http import challenge_in, format_solution
from powfast.servers.asgi import PowMiddleware
from powfast.servers.charge import Charge as BlockingCharge
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

    def __init__(self, tariff: EvidenceTariff = TARIFF, **options: Any) -> None:
        self.ledger, self.held = Leaving(MemoryLedger(tariff)), Leaving(HeldAnswers())
        self.notes = Notebook()
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


def solution_to(response: httpx.Response) -> dict[str, str]:
    token = challenge_in(response.status_code, response.headers["www-authenticate"])
    assert token is not None
    return {"pow-solution": format_solution(token, solve(token))}


OPEN = {"on_store_error": "open"}
LOCAL = {"on_store_error": "local", "fallback": MemoryLedger(TARIFF)}


@pytest.mark.parametrize("path", ["/1", "/1?before=true"])
def test_closed_refuses_and_admits_nothing(path: str) -> None:
    service = Service()
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        solution = solution_to(client.get(path))
        runs = service.runs
        service.ledger.present = False
        for headers in ({}, solution):
            refused = (
                client.get("/2", headers={}) if not headers else client.get(path, headers=headers)
            )
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "3"
            assert refused.json()["type"] == "urn:powfast:store-unavailable"
        assert service.runs <= runs + 1  # the unpaid run, whose answer stayed inside
        service.ledger.present = True
        assert client.get(path, headers=solution).json() == 1  # the solution was not spent


def test_local_charges_and_claims_here() -> None:
    service = Service(on_store_error="local", fallback=MemoryLedger(TARIFF))
    service.ledger.present = False
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        asked = client.get("/1")
        assert (asked.status_code, asked.json()["work"]) == (402, BASE)
        solution = solution_to(asked)
        assert client.get("/1", headers=solution).json() == 1
        assert "already-redeemed" in client.get("/1", headers=solution).json()["detail"]


def test_open_answers_without_a_price() -> None:
    service = Service(on_store_error="open")
    service.ledger.present = False
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/1").json() == 1
        assert client.get("/1?before=true").json() == 1


@pytest.mark.parametrize(("options", "status"), [({}, 503), (LOCAL, 402), (OPEN, 402)])
def test_held_answers_that_are_lost_cost_a_second_run(options: Any, status: int) -> None:
    service = Service(**options)
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        solution = solution_to(client.get("/1"))
        service.held.present = False
        assert client.get("/2").status_code == status
        assert client.get("/1", headers=solution).json() == 1
    assert service.runs == (2 if status == 503 else 3)


def failures(service: Service) -> list[str | float]:
    return [fields["operation"] for name, fields in service.notes.events if name == "store-error"]


@pytest.mark.parametrize(
    ("options", "known"),
    [({}, ["reserve"]), (LOCAL, ["reserve", "charge"]), (OPEN, ["reserve", "charge"])],
)
def test_a_request_waits_for_no_store_after_the_ledger(options: Any, known: list[str]) -> None:
    service = Service(**options)
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        solution = solution_to(client.get("/1"))
        service.ledger.present = service.held.present = False
        for path, headers, asked in (
            ("/1", solution, ["claim"]),
            ("/2", {"authorization": "Bearer new"}, ["opening"]),
            ("/3", {}, known),
        ):
            service.notes.events.clear()
            client.get(path, headers=headers)
            assert failures(service) == asked


def test_a_place_in_memory_is_given_back_though_the_ledger_failed() -> None:
    held = HeldAnswers()
    ledger = Leaving(MemoryLedger(TARIFF))
    gate = Gate(Issuer(KEYS), ledger, held)  # type: ignore[arg-type]

    def endpoint() -> None:
        ledger.present = False
        bill.charge([1.0])

    bill = BlockingCharge(gate, Asked("alice", "", b"digest"))
    answer = run(gate.serve(bill, None, endpoint))
    assert answer is not None and answer.status == 503
    assert len(held) == 0


def test_an_account_seen_while_the_ledger_is_away_still_owes_its_opening() -> None:
    service = Service(EvidenceTariff(BASE, 5 * BASE), on_store_error="open")
    service.ledger.present = False
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/1").json() == 1
        service.ledger.present = True
        assert client.get("/2").json()["work"] == 5 * BASE
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
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        solution = solution_to(client.get("/1"))
        client.get("/2", headers=solution)
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
        ("store-error", {"operation": "charge", "mode": "closed"}),
        ("refused", {"code": "store-unavailable"}),
    ]
    assert service.notes.spans == [
        "gate", "ledger", "ledger", "gate", "verify", "ledger", "gate", "verify", "ledger", "gate",
        "ledger",
    ]  # fmt: skip
