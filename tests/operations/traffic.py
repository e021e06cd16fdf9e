"""Real requests through a real gate, with secrets that a search would recognise."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from powfast.accounts import account_of
from powfast.challenge import Issuer, decode, solve, token_from_text
from powfast.errors import StoreUnavailable
from powfast.gate import Gate
from powfast.http import format_solution
from powfast.observers.base import Observer
from powfast.servers.asgi import PowMiddleware, bill_of
from powfast.stores import MemoryLedger
from powfast.stores.base import Entry
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff

KEY = b"the-signing-key-nobody-may-read!!"
API_KEY = "Bearer sk-an-api-key-nobody-may-read"
ANSWER = "an-answer-nobody-may-read"
QUERY = "a-query-nobody-may-read"
BASE = 1000
PROBATION = EvidenceTariff(base_work=BASE, opening_work=50 * BASE)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class FailingLedger(MemoryLedger):
    failing = False

    def enter(self, *arguments: Any) -> Entry:
        if self.failing:
            raise StoreUnavailable("the store is away")
        return super().enter(*arguments)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer, after a charge of what the path says; `/fails` raises what it was to answer."""
    if scope["path"] == "/fails":
        raise RuntimeError(ANSWER)
    evidence = [float(each) for each in scope["path"].strip("/").split(",")]
    await bill_of(scope).charge(evidence)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": ANSWER.encode()})


class Traffic:
    """One service, and what is sent to it."""

    def __init__(self, observer: Observer, **held_bounds: Any) -> None:
        self.clock, self.rounds = Clock(), 0
        self.ledger = FailingLedger(EvidenceTariff(base_work=BASE), clock=self.clock)
        held = HeldAnswers(clock=self.clock, observer=observer, **held_bounds)
        issuer = Issuer({"2026a": KEY}, clock=self.clock)
        bounds = {"refuse_above": 100 * BASE, "max_queries": 4, "max_unpaid_runs": 256}
        gate = Gate(issuer, self.ledger, held, observer=observer, **bounds)
        self.app = PowMiddleware(application, gate)
        self.secrets = [
            KEY.decode(), KEY.hex(), base64.b64encode(KEY).decode().rstrip("="), API_KEY,
            API_KEY.split()[1], account_of(API_KEY), ANSWER, QUERY,
        ]  # fmt: skip

    async def ask(
        self, path: str, solution: str | None = None, key: str = API_KEY
    ) -> httpx.Response:
        headers = {"authorization": key} | ({"pow-solution": solution} if solution else {})
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(f"{path}?round={self.rounds}", content=QUERY, headers=headers)

    async def pay(self, path: str) -> tuple[httpx.Response, str]:
        token = token_from_text((await self.ask(path)).json()["challenge"])
        solution = format_solution(token, solve(token))
        self.secrets += [solution, *solution.split("."), decode(token).challenge_id.hex()]
        return await self.ask(path, solution), solution

    async def all_kinds(self) -> None:
        """Send every kind of request once, and a few paid ones."""
        for path in ("/1", "/1,1", "/1,1,1"):
            response, solution = await self.pay(path)
            assert response.text == ANSWER
        assert (await self.ask("/1,1,1", solution)).text == ANSWER  # for who has lost it
        assert (await self.ask("/5", "rubbish.AAAA")).status_code == 402
        assert (await self.ask("/6", solution)).status_code == 402
        assert (await self.ask("/7")).status_code == 402
        self.clock.now += 1000  # nobody pays the three that wait
        assert (await self.ask("/2")).status_code == 402
        assert (await self.ask("/1,1,1,1,1")).status_code == 413
        assert (await self.ask("/fails")).status_code == 500
        assert (await self.ask("/1e9,1e9")).status_code == 403
        self.ledger.failing = True
        assert (await self.ask("/8")).status_code == 503
        self.ledger.failing = False
        self.ledger.reset(account_of(API_KEY))
        self.rounds += 1


class Extraction:
    """Fresh accounts that ask what their path says."""

    def __init__(self, observer: Any) -> None:
        self.ledger = MemoryLedger(PROBATION)
        gate = Gate(Issuer({"2026a": KEY}), self.ledger, max_unpaid_runs=256, observer=observer)
        self._app = PowMiddleware(application, gate, newcomers=lambda caller: "web")

    async def ask(self, evidence: float, name: str) -> None:
        headers = {"authorization": name}
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get(f"/{evidence}", headers=headers)).status_code == 402

    async def heat(self) -> None:
        """Make the pool hot, by as many accounts as queries."""
        for number in range(40):
            await self.ask(1e5, f"Bearer {number}")
