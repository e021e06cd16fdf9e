"""`Payer.answer` on the responses of any library."""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from service import Service, served

from powfast.challenge import Issuer
from powfast.clients.flow import Payer
from powfast.errors import Cancelled, InvalidInput, MalformedToken
from powfast.http import parse_solution, payment_required, text_of

ASK = {"x": 1, "evidence": [1.0, 1.0]}
ISSUER = Issuer({"a": bytes(32)})


class Response:
    def __init__(self, status: int, headers: Any) -> None:
        self.status = status
        self.headers = headers


def test_answer_serves_any_other_library() -> None:
    token = ISSUER.issue(work=1000, account="alice")
    header = dict(text_of(payment_required(token, "").headers))["www-authenticate"]
    asking = Response(402, {"WWW-Authenticate": header})
    payer = Payer()
    assert payer.answer(Response(200, {})) is None
    assert payer.answer(Response(401, {"www-authenticate": 'Bearer realm="x"'})) is None
    value = payer.answer(asking)
    assert value is not None
    assert ISSUER.redeem(*parse_solution(value), account="alice").work == 1000
    with pytest.raises(MalformedToken):
        payer.answer(Response(402, {"WWW-Authenticate": 'PoW challenge="AAAA"'}))
    with pytest.raises(Cancelled):
        cancelled = threading.Event()
        cancelled.set()
        payer.answer(asking, cancelled)


@pytest.mark.parametrize("response", [None, "402", {"status": 402}, Response(402, None)])
def test_answer_says_what_a_response_is(response: Any) -> None:
    with pytest.raises(InvalidInput, match="status"):
        Payer().answer(response)


def urllib_open(url: str) -> Any:
    try:
        return urllib.request.urlopen(url)
    except urllib.error.HTTPError as error:
        return error


def http_client_get(url: str) -> Any:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", "/")
    with contextlib.closing(connection), connection.getresponse() as response:
        return response


@pytest.mark.parametrize(
    "get", [httpx.get, httpx2.get, requests.get, urllib_open, http_client_get, urllib3.request]
)
def test_answer_reads_the_responses_of_real_libraries(get: Callable[..., Any]) -> None:
    """The challenge stands in the second of two headers."""
    token = ISSUER.issue(work=1000)
    asking = dict(text_of(payment_required(token, "").headers))["www-authenticate"]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"www-authenticate", b"Bearer"), (b"www-authenticate", asking.encode())]
        await send({"type": "http.response.start", "status": 402, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    with served(app) as url:
        response = get("GET", url) if get is urllib3.request else get(url)
        value = Payer().answer(response)
        response.close()
    assert value is not None
    assert ISSUER.redeem(*parse_solution(value)).work == 1000


async def test_answer_reads_the_responses_of_aiohttp() -> None:
    service = Service()
    with served(service.app) as url:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/v1/predict", json=ASK) as response,
        ):
            assert Payer().answer(response) is not None
