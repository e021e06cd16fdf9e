"""A model behind Flask and gunicorn; what guards it is configured by `POWFAST_*`.

gunicorn -c gunicorn.conf.py app:app
"""

from __future__ import annotations

import os

import flask

from powfast.servers.settings import Settings
from powfast.servers.wsgi import PowMiddleware, bill_of

app = flask.Flask(__name__)


@app.get("/healthz")
def healthy() -> str:
    return "ok"


@app.post("/v1/predict")
def predict() -> dict[str, object]:
    inputs = flask.request.get_json()["inputs"]
    answers = [sum(each) for each in inputs]  # the model
    evidence = [1.0] * len(inputs)  # LeakageEstimator.evidence(features, probabilities)
    bill_of(flask.request.environ).charge(evidence)
    return {"answers": answers, "worker": os.getpid()}


settings = Settings.load()
app.wsgi_app = PowMiddleware(app.wsgi_app, settings.gate(), **settings.wsgi_middleware)
