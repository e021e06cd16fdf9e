"""A model in several replicas of Ray Serve, which share one Redis: each is a whole gate.

serve run app:model
"""

from __future__ import annotations

import math
import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from ray import serve

from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.servers.settings import Settings


class Batch(BaseModel):
    inputs: list[list[float]]


def guarded() -> FastAPI:
    """Build the application, in each replica: a gate's connections belong to its process."""
    app = FastAPI()
    settings = Settings.load()
    app.add_middleware(PowMiddleware, gate=settings.gate(asynchronous=True), **settings.middleware)

    @app.post("/v1/predict")
    async def predict(batch: Batch, pow: Charge) -> dict[str, object]:
        answers = [sum(each) for each in batch.inputs]  # the model
        if not all(map(math.isfinite, answers)):
            raise HTTPException(422, "inputs are too large, or no numbers")
        await pow.charge([1.0] * len(answers))  # LeakageEstimator.evidence(features, probabilities)
        return {"answers": answers, "replica": os.getpid()}

    return app


@serve.deployment(
    num_replicas=int(os.environ.get("REPLICAS", "2")), ray_actor_options={"num_cpus": 0.1}
)
@serve.ingress(guarded)
class Model:
    """Nothing but its ingress."""


model = Model.bind()
