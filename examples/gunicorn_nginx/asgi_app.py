"""The same behind FastAPI and gunicorn's uvicorn workers.

gunicorn -c gunicorn.conf.py -k uvicorn.workers.UvicornWorker asgi_app:app
"""

from __future__ import annotations

import math
import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.servers.settings import Settings

app = FastAPI()
settings = Settings.load()
app.add_middleware(PowMiddleware, gate=settings.gate(asynchronous=True), **settings.middleware)


class Batch(BaseModel):
    inputs: list[list[float]]


@app.get("/healthz")
async def healthy() -> str:
    return "ok"


@app.post("/v1/predict")
async def predict(batch: Batch, pow: Charge) -> dict[str, object]:
    answers = [sum(each) for each in batch.inputs]  # the model
    if not all(map(math.isfinite, answers)):
        raise HTTPException(422, "inputs are too large, or no numbers")
    await pow.charge([1.0] * len(answers))  # LeakageEstimator.evidence(features, probabilities)
    return {"answers": answers, "worker": os.getpid()}
