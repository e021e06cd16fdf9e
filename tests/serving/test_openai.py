"""The OpenAI SDK over a client that pays, its key intact."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import openai
import pytest
from fastapi import Request
from service import Seen, Service, served

import powfast.clients.httpx
import powfast.clients.httpx2
from powfast.errors import TooMuchWork
from powfast.servers.fastapi import Charge


def openai_shaped() -> Service:
    service = Service()

    @service.app.post("/v1/chat/completions")
    async def complete(request: Request, pow: Charge) -> dict[str, Any]:
        assert request.headers["authorization"] == "Bearer sk-alice"
        service.runs += 1
        asked = (await request.json())["messages"][-1]["content"]
        await pow.charge([float(len(asked))])
        message = {"role": "assistant", "content": asked.upper()}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }

    return service


HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_openai_pays_with_its_key_intact(library: Any) -> None:
    service = openai_shaped()
    auth = getattr(powfast.clients, library.__name__).PowAuth()
    with served(service.app) as url, library.Client(auth=auth) as http_client:
        client = openai.OpenAI(base_url=url + "/v1", api_key="sk-alice", http_client=http_client)
        completion = client.chat.completions.create(model="m", messages=HELLO)
    assert completion.choices[0].message.content == "HELLO"
    assert service.runs == 1


async def test_openai_pays_asynchronously() -> None:
    service = openai_shaped()
    with served(service.app) as url:
        async with httpx.AsyncClient(auth=powfast.clients.httpx.PowAuth()) as http_client:
            client = openai.AsyncOpenAI(
                base_url=url + "/v1", api_key="sk-alice", http_client=http_client
            )
            completion = await client.chat.completions.create(model="m", messages=HELLO)
    assert completion.choices[0].message.content == "HELLO"
    assert service.runs == 1


def test_openai_says_why_a_challenge_was_not_paid() -> None:
    service = openai_shaped()
    auth = powfast.clients.httpx.PowAuth(max_work=1)
    with served(service.app) as url, httpx.Client(auth=auth) as http_client:
        client = openai.OpenAI(
            base_url=url + "/v1", api_key="sk-alice", http_client=http_client, max_retries=0
        )
        with pytest.raises((TooMuchWork, openai.APIConnectionError)) as failed:
            client.chat.completions.create(model="m", messages=HELLO)
        # some releases of the SDK wrap what its HTTP client raises
        assert TooMuchWork in (type(failed.value), type(failed.value.__cause__))
    assert service.runs == 1


def test_openai_without_a_payer_asks_once() -> None:
    seen = Seen(openai_shaped().app)
    with (
        served(seen) as url,
        openai.OpenAI(base_url=url + "/v1", api_key="sk-alice") as client,
        pytest.raises(openai.APIStatusError, match="402"),
    ):
        client.chat.completions.create(model="m", messages=HELLO)
    assert len(seen.headers) == 1
