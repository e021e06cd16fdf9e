"""What the OpenAPI schema of a guarded FastAPI route says is what the route answers."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from service import BASE, KEYS

from powfast.challenge import Issuer
from powfast.gate import Gate
from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import PAYMENT_REQUIRED, Charge
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff


async def predict(x: list[float], pow: Charge) -> list[float]:
    await pow.charge([1.0] * len(x))
    return x


def of_the_route() -> FastAPI:
    app = FastAPI()
    app.post("/v1/predict", responses=PAYMENT_REQUIRED)(predict)
    return app


def of_a_router() -> FastAPI:
    router = APIRouter(prefix="/v1", responses=PAYMENT_REQUIRED)
    router.post("/predict")(predict)
    app = FastAPI()
    app.include_router(router)
    return app


def of_the_application() -> FastAPI:
    app = FastAPI(responses=PAYMENT_REQUIRED)
    app.post("/v1/predict")(predict)
    return app


@pytest.mark.parametrize("make", [of_the_route, of_a_router, of_the_application])
def test_the_schema_describes_the_challenge_that_is_answered(make: Any) -> None:
    app = make()
    gate = Gate(Issuer(KEYS), MemoryLedger(EvidenceTariff(base_work=BASE)))
    app.add_middleware(PowMiddleware, gate=gate, paths=("/v1/",))
    client = TestClient(app)
    answers = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["responses"]
    assert set(answers) == {"200", "402", "422"}
    asked = client.post("/v1/predict", json=[0.5])
    assert str(asked.status_code) == "402"
    said = answers["402"]
    assert set(said["headers"]) <= {name.title().replace("Www", "WWW") for name in asked.headers}
    schema = said["content"][asked.headers["content-type"]]["schema"]
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(asked.json())
    assert set(schema["properties"]) == set(schema["required"]) == set(asked.json())
