"""The model, and the same model served twice: bare, and behind the gate."""

from __future__ import annotations

import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from powfast.accounts import Caller, bearer
from powfast.challenge import Issuer
from powfast.demo.data import Images, Split, redrawn
from powfast.demo.extractors import Probabilities
from powfast.gate import Gate
from powfast.leakage import LeakageEstimator
from powfast.servers.asgi import App, PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

_NETWORKS = 24


class Victim:
    """A committee of small neural networks, and the estimator that watches its answers."""

    def __init__(self, training: Split, reference: Split, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        images = np.vstack([training.images, redrawn(training.images, rng)])
        labels = np.tile(training.labels, 2)
        network = MLPClassifier((64,), max_iter=60, learning_rate_init=0.003)
        self._model = BaggingClassifier(network, n_estimators=_NETWORKS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(images, labels)
        self.estimator: LeakageEstimator = LeakageEstimator(seed=seed).fit(images, labels)
        honest = np.vstack([redrawn(reference.images, rng) for _ in range(8)])
        self.estimator.calibrate(honest, self.probabilities(honest))

    def probabilities(self, images: Images) -> Probabilities:
        """Return the (n, 10) probabilities that the model answers."""
        return np.asarray(self._model.predict_proba(images), dtype=np.float64)

    def evidence(self, images: Images) -> Images:
        """Return the (n,) evidence of images, for whoever simulates accounts."""
        return self.estimator.evidence(images, self.probabilities(images))


Grey = Annotated[float, Field(ge=0.0, le=1.0)]


class Batch(BaseModel):
    """The images of one request."""

    images: list[Annotated[list[Grey], Field(min_length=64, max_length=64)]]


def application(victim: Victim, tariff: EvidenceTariff) -> FastAPI:
    """Make the service with a gate that remembers while it runs."""
    # the demo looks at thousands of prices without paying them: no real server lets its callers
    gate = Gate(new_issuer(), MemoryLedger(tariff), max_unpaid_runs=100_000)
    return guarded(victim, gate)


def new_issuer() -> Issuer:
    """Make an issuer with a key of its own."""
    return Issuer({"demo": secrets.token_bytes(32)}, ttl=600.0)


def guarded(victim: Victim, gate: Gate, account: Callable[[Caller], str] = bearer) -> FastAPI:
    """Make the service: `/bare/predict`, and `/v1/predict` behind the gate."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(PowMiddleware, gate=gate, account=account, paths=("/v1/",))

    @app.post("/bare/predict")
    async def bare(batch: Batch) -> list[list[float]]:
        answer: list[list[float]] = victim.probabilities(np.array(batch.images)).tolist()
        return answer

    @app.post("/v1/predict")
    async def predict(batch: Batch, pow: Charge) -> list[list[float]]:
        images = np.array(batch.images)
        probabilities = victim.probabilities(images)
        evidence = victim.estimator.evidence(images, probabilities)
        await pow.charge(evidence)
        answer: list[list[float]] = probabilities.tolist()
        return answer

    return app


@contextmanager
def served(app: App) -> Iterator[str]:
    """Serve on a free port of the loopback interface; give the address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the demo's server did not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
