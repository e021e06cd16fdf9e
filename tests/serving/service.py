"""A FastAPI service whose "model" counts its runs, and what watches who calls one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from served import served as served

from powfast.challenge import Issuer, solve
from powfast.gate import Gate
from powfast.http import challenge_in, format_solution
from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.stores import MemoryLedger
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff

KEYS = {"2026a": bytes(range(32))}
BASE = 1000
UNPAID: dict[str, Any] = {"max_unpaid_runs": 256}
"""What most tests are about: answers that wait for their payment."""
ALICE = {"authorization": "Bearer alice"}
ASK = {"x": 1, "evidence": [1.0, 1.0]}


def token_of(response: httpx.Response) -> bytes:
    token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
    assert token is not None, response.text
    return token


def paid(token: bytes) -> dict[str, str]:
    return {**ALICE, "pow-solution": format_solution(token, solve(token))}


class Service:
    """One gate and one application over it."""

    def __init__(
        self,
        *,
        ttl: float = 120.0,
        held: HeldAnswers | None = None,
        ledger: Any = None,
        gate: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.runs = 0
        self.may_go = threading.Event()
        self.ledger = ledger or MemoryLedger(EvidenceTariff(base_work=BASE))
        self.gate = Gate(Issuer(KEYS, ttl=ttl), self.ledger, held, **(UNPAID | (gate or {})))
        self.app = FastAPI()
        self.app.add_middleware(PowMiddleware, gate=self.gate, paths=("/v1/",), **options)

        @self.app.post("/v1/predict")
        async def predict(body: dict[str, Any], pow: Charge) -> dict[str, Any]:
            self.runs += 1
            await pow.charge(body["evidence"])
            return {"answer": body["x"]}

        @self.app.post("/v1/beforehand")
        async def beforehand(body: dict[str, Any], pow: Charge) -> dict[str, Any]:
            await pow.require(body["evidence"])
            self.runs += 1
            return {"answer": body["x"]}

        @self.app.post("/v1/slow")
        async def slow(pow: Charge) -> str:
            self.runs += 1
            await asyncio.to_thread(self.may_go.wait)
            await pow.charge([1.0])
            return "answer"

        @self.app.post("/v1/login")
        async def login(pow: Charge) -> PlainTextResponse:
            self.runs += 1
            await pow.charge([1.0])
            return PlainTextResponse("answer", headers={"set-cookie": "session=1"})

        @self.app.post("/v1/twice")
        async def twice(pow: Charge) -> str:
            await pow.charge([1.0])
            try:
                await pow.charge([1.0])
            except RuntimeError as error:
                return str(error)
            return "charged twice"

        @self.app.post("/v1/fails")
        async def fails(pow: Charge) -> PlainTextResponse:
            await pow.charge([1.0])
            return PlainTextResponse("broken", 503)

        @self.app.get("/v1/free")
        async def free() -> str:
            return "free"

        @self.app.get("/v1/stream")
        async def stream() -> StreamingResponse:
            return StreamingResponse(iter(["a", "b"]), media_type="text/plain")

        @self.app.post("/v1/tell")
        async def tell(body: dict[str, Any], pow: Charge) -> StreamingResponse:
            self.runs += 1
            answered: list[float] = []
            first, last = body["evidence"]

            async def pieces() -> AsyncIterator[str]:
                answered.append(first)
                yield "first\n"
                await asyncio.to_thread(self.may_go.wait)
                if body.get("fails"):
                    raise ValueError("broken")
                for _ in range(body.get("pieces", 0)):
                    yield "more\n"
                    await asyncio.sleep(0.02)
                answered.append(last)
                yield "last\n"

            pow.charge_at_end(lambda: answered)
            return StreamingResponse(pieces(), media_type="text/plain")

        @self.app.post("/v1/both")
        async def both(pow: Charge) -> str:
            await pow.charge([1.0])
            try:
                pow.charge_at_end(lambda: [1.0])
            except RuntimeError as error:
                return str(error)
            return "charged twice"

        @self.app.post("/unguarded")
        async def unguarded(body: dict[str, Any]) -> dict[str, Any]:
            return body


class Seen:
    """The connections and headers of the requests that reach an application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.connections: list[tuple[str, int]] = []
        self.headers: list[dict[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.connections.append(scope["client"])
        self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        await self._app(scope, receive, send)
