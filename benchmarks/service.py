"""The endpoint that the gate's benchmarks ask: bare, behind a rate limiter, or behind powfast.

python benchmarks/service.py bare|slowapi|memory://|sqlite:///path|redis://... PORT
"""

from __future__ import annotations

import sys
from functools import partial

import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel

from powfast.challenge import Issuer
from powfast.gate import Gate
from powfast.servers.asgi import PowMiddleware
from powfast.stores import open_ledger
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff

KEYS = {"2026a": bytes(range(32))}
TARIFF = EvidenceTariff(base_work=1000)


class Batch(BaseModel):
    images: list[list[float]]


def model(batch: Batch) -> list[float]:
    return [sum(image) for image in batch.images]


def bare() -> FastAPI:
    app = FastAPI()

    @app.post("/v1/predict")
    async def predict(batch: Batch) -> list[float]:
        return model(batch)

    return app


def limited() -> FastAPI:
    from slowapi import Limiter
    from slowapi.util import get_remote_address

    app = FastAPI()
    app.state.limiter = limiter = Limiter(get_remote_address)

    @app.post("/v1/predict")
    @limiter.limit("100000000/minute")
    async def predict(batch: Batch, request: Request) -> list[float]:
        return model(batch)

    return app


def guarded(store: str, *, lifetime: float = 120.0, held_bytes: int = 1 << 40) -> FastAPI:
    """Return the very endpoint of `bare`, whose answers the middleware prices.

    What has a lifetime, challenges, held answers and known requests, has this one.
    """
    app = bare()
    # answers are held in memory: what is measured is the ledger's store
    held = HeldAnswers(lifetime=lifetime, max_bytes=held_bytes)
    ledger = open_ledger(store, TARIFF, asynchronous=True, timeout=5.0, remember=lifetime)
    # and answers that wait for their payment are among the cases
    gate = Gate(Issuer(KEYS, ttl=lifetime), ledger, held, max_unpaid_runs=256)
    app.add_middleware(PowMiddleware, gate=gate, evidence=lambda exchange: [1.0])
    return app


def main() -> None:
    guard, port = sys.argv[1:]
    soak = partial(guarded, "memory://", lifetime=10.0, held_bytes=64 << 20)
    app = {"bare": bare, "slowapi": limited, "soak": soak}.get(guard, lambda: guarded(guard))()
    options = {"loop": "uvloop", "http": "httptools", "log_level": "error", "access_log": False}
    uvicorn.run(app, port=int(port), **options)


if __name__ == "__main__":
    main()
