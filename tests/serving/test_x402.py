"""examples/x402 with x402's own client: both read the same 402, and each pays in its own way."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import ROOT
from served import served
from service import ALICE, BASE, KEYS, token_of
from x402 import x402Client
from x402.http.clients.httpx import x402AsyncTransport
from x402.schemas import PaymentRequired, PaymentRequirements
from x402.schemas.v1 import PaymentRequiredV1, PaymentRequirementsV1

from powfast import Gate, Issuer, MemoryLedger
from powfast.challenge import decode
from powfast.clients.httpx import PowAuth
from powfast.servers.asgi import PowMiddleware, bill_of
from powfast.tariff import EvidenceTariff

COMMON: Any = {"scheme": "exact", "asset": "0x0", "pay_to": "0x1", "max_timeout_seconds": 60}
OFFER = PaymentRequired(
    accepts=[PaymentRequirements(network="eip155:84532", amount="1000", **COMMON)]
)
OFFER_V1 = PaymentRequiredV1(
    accepts=[
        PaymentRequirementsV1(
            network="base-sepolia", max_amount_required="1000", resource="/v1/x", **COMMON
        )
    ]
)


class Exact:
    """A payment scheme whose money is a word."""

    scheme = "exact"

    def __init__(self, word: str = "money") -> None:
        self.word = word

    def create_payment_payload(self, requirements: Any) -> dict[str, Any]:
        return {"signature": self.word}


async def settle(scope: Any, header: str) -> bool:
    return json.loads(base64.b64decode(header))["payload"] == {"signature": "money"}


async def api(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    if "powfast.bill" in scope:
        await bill_of(scope).charge([1.0])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    spec = importlib.util.spec_from_file_location("choice", ROOT / "examples/x402/choice.py")
    assert spec is not None and spec.loader is not None
    choice = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(choice)
    gate = Gate(Issuer(KEYS), MemoryLedger(EvidenceTariff(base_work=BASE)))
    offers = OFFER.model_dump(exclude_none=True), OFFER_V1.model_dump(exclude_none=True)
    app = choice.WorkOrMoney(api, PowMiddleware(api, gate), offers[0], settle, offers[1])
    with served(app) as url:
        yield f"{url}/v1/x"


def test_one_402_says_both(url: str) -> None:
    asked = httpx.post(url, headers=ALICE)
    assert asked.status_code == 402
    assert decode(token_of(asked)).work == BASE == asked.json()["work"]
    offer = base64.b64decode(asked.headers["payment-required"])
    assert PaymentRequired.model_validate_json(offer) == OFFER
    assert PaymentRequiredV1.model_validate_json(asked.content) == OFFER_V1
    assert asked.json()["type"] == "urn:powfast:payment-required"


def test_work_is_done_by_who_knows_work(url: str) -> None:
    auth = PowAuth()
    answer = httpx.post(url, headers=ALICE, auth=auth)
    assert (answer.status_code, answer.text) == (200, "answer")
    assert auth.spent >= BASE
    assert "pow-receipt" in answer.headers


async def test_money_is_paid_by_who_knows_money(url: str) -> None:
    wallet = x402Client().set_spend_controls(False).register("eip155:84532", Exact())
    async with httpx.AsyncClient(transport=x402AsyncTransport(wallet)) as client:
        answer = await client.post(url, content=b"x")
    assert (answer.status_code, answer.text) == (200, "answer")
    assert "pow-receipt" not in answer.headers


@pytest.mark.parametrize("header", ["payment-signature", "x-payment"])
async def test_false_money_is_no_money(url: str, header: str) -> None:
    wallet = x402Client().set_spend_controls(False).register("eip155:84532", Exact("sand"))
    async with httpx.AsyncClient(transport=x402AsyncTransport(wallet)) as client:
        assert (await client.post(url)).status_code == 402
    false = base64.b64encode(b'{"payload": {"signature": "sand"}}').decode()
    assert httpx.post(url, headers={header: false}).status_code == 402


async def test_who_has_both_does_the_work_alone(url: str) -> None:
    """A client within the other: the work is done first, and no money asked for."""
    wallet = x402Client().set_spend_controls(False).register("eip155:84532", Exact("sand"))
    transport = x402AsyncTransport(wallet)
    async with httpx.AsyncClient(transport=transport, auth=PowAuth(), headers=ALICE) as client:
        answer = await client.post(url, content=b"both")
    assert (answer.status_code, answer.text) == (200, "answer")
