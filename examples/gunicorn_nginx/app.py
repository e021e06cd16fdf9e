"""A model behind Flask and gunicorn; what guards it is configured by `POWFAST_*`.

gunicorn -c gunicorn.conf.py app:app
"""

from __future__ import annotations

import math
import os
from typing import Any

import flask

from powfast.servers.settings import Settings
from powfast.servers.wsgi import PowMiddleware, bill_of

app = flask.Flask(__name__)


@app.get("/healthz")
def healthy() -> str:
    return "ok"


@app.post("/v1/predict")
def predict() -> dict[str, object]:
    inputs = inputs_of(flask.request.get_json(silent=True))
    answers = [sum(each) for each in inputs]  # the model
    evidence = [1.0] * len(inputs)  # LeakageEstimator.evidence(features, probabilities)
    bill_of(flask.request.environ).charge(evidence)
    return {"answers": answers, "worker": os.getpid()}


def inputs_of(body: Any) -> list[list[float]]:
    """Return the queries of a request, or answer 422."""
    try:
        inputs = [[float(number) for number in each] for each in body["inputs"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        flask.abort(422, "the body is JSON: inputs, a list of lists of numbers")
    if not all(math.isfinite(sum(each)) for each in inputs):
        flask.abort(422, "inputs are too large, or no numbers")
    return inputs


settings = Settings.load()
app.wsgi_app = PowMiddleware(app.wsgi_app, settings.gate(), **settings.wsgi_middleware)
