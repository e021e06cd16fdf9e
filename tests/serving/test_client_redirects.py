"""One call pays one challenge, to whoever asked for it, whatever servers answer."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
from conftest import PATIENCE
from origins import WORK, Origin, two_origins
from requests.adapters import HTTPAdapter, Retry

import powfast.clients.aiohttp
import powfast.clients.httpx
import powfast.clients.httpx2
import powfast.clients.requests
from powfast.challenge import Challenge


@pytest.fixture
def origins() -> Iterator[tuple[Origin, Origin]]:
    with two_origins() as both:
        yield both


# -- one call of every library, that follows redirects


def httpx_call(library: Any, auth: Any) -> Callable[..., int]:
    def call(method: str, url: str, **limits: Any) -> int:
        client = library.Client(auth=auth(**limits), follow_redirects=True, timeout=PATIENCE)
        with client:
            return int(client.request(method, url, content=body(method)).status_code)

    return call


def httpx_call_async(library: Any, auth: Any) -> Callable[..., int]:
    async def call(method: str, url: str, **limits: Any) -> int:
        client = library.AsyncClient(auth=auth(**limits), follow_redirects=True, timeout=PATIENCE)
        async with client:
            return int((await client.request(method, url, content=body(method))).status_code)

    return lambda *args, **limits: asyncio.run(call(*args, **limits))


def requests_call(method: str, url: str, **limits: Any) -> int:
    with requests.Session() as session:
        session.auth = powfast.clients.requests.PowAuth(**limits)
        return session.request(method, url, data=body(method), timeout=PATIENCE).status_code


def aiohttp_call(method: str, url: str, **limits: Any) -> int:
    async def call() -> int:
        auth = powfast.clients.aiohttp.PowAuth(**limits)
        async with (
            aiohttp.ClientSession(middlewares=(auth,)) as session,
            session.request(method, url, data=body(method)) as response,
        ):
            return response.status

    return asyncio.run(call())


def body(method: str) -> bytes | None:
    return b"body" if method == "POST" else None


CALLS = {
    "httpx": httpx_call(httpx, powfast.clients.httpx.PowAuth),
    "httpx2": httpx_call(httpx2, powfast.clients.httpx2.PowAuth),
    "requests": requests_call,
    "httpx-async": httpx_call_async(httpx, powfast.clients.httpx.PowAuth),
    "httpx2-async": httpx_call_async(httpx2, powfast.clients.httpx2.PowAuth),
    "aiohttp": aiohttp_call,
}
every_client = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
every_redirect = pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
both_methods = pytest.mark.parametrize("method", ["GET", "POST"])


@every_client
@every_redirect
@both_methods
@pytest.mark.parametrize(
    ("path", "last", "paid"),
    [  # what the caller gets, and how many solutions each origin
        ("/pay-go/S/other", 402, (1, 0)),
        ("/pay-go/S/ring", 402, (1, 0)),
        ("/pay-go/S/same", 402, (1, 0)),
        ("/go/S/other", 402, (0, 1)),
        ("/go/S/ring", 402, (0, 1)),
        ("/go/S/fair", 200, (1, 0)),
    ],
)
def test_one_call_pays_once_through_redirects(
    call: Any, origins: Any, method: str, status: int, path: str, last: int, paid: Any
) -> None:
    asked: list[Challenge] = []
    url = origins[0].url + path.replace("S", str(status))
    assert call(method, url, policy=lambda challenge: asked.append(challenge) is None) == last
    assert len(asked) == 1
    assert tuple(len(origin.solutions()) for origin in origins) == paid


@every_client
@pytest.mark.parametrize(
    ("method", "path", "last"),
    [
        ("GET", "/pay", 402),
        ("POST", "/pay", 402),
        ("GET", "/two", 200),
        ("POST", "/fair", 200),
    ],
)
def test_one_call_pays_once_whatever_is_answered(
    call: Any, origins: Any, method: str, path: str, last: int
) -> None:
    here, _ = origins
    assert call(method, here.url + path) == last
    assert len(here.solutions()) == 1


@every_client
@both_methods
def test_one_call_pays_once_where_the_connection_is_lost(
    call: Any, origins: Any, method: str
) -> None:
    asked: list[Challenge] = []
    with suppress(OSError, httpx.HTTPError, httpx2.HTTPError, aiohttp.ClientError):
        call(method, origins[0].url + "/drop", policy=lambda one: asked.append(one) is None)
    assert len(asked) == 1


# -- what the libraries repeat by themselves, and what their users send again


def test_requests_that_are_retried_by_urllib3_pay_once(origins: Any) -> None:
    here, _ = origins
    retry = Retry(3, status_forcelist=[402], raise_on_status=False)
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.auth = auth = powfast.clients.requests.PowAuth()
        assert session.get(here.url + "/pay", timeout=PATIENCE).status_code == 402
    assert auth.spent == WORK
    assert len(here.seen) == 2 * (1 + 3)
    assert len(set(here.solutions())) == 1


async def test_requests_that_a_middleware_of_aiohttp_repeats_pay_once(origins: Any) -> None:
    here, _ = origins

    async def repeat(request: Any, handler: Any) -> Any:
        for _ in range(2):
            response = await asyncio.create_task(handler(request))
            response.release()
        return await handler(request)

    auth = powfast.clients.aiohttp.PowAuth()
    async with aiohttp.ClientSession(middlewares=(repeat, auth)) as session:
        async with session.get(here.url + "/pay") as response:
            assert response.status == 402
        assert auth.spent == WORK
        for paid in (2, 3):  # another call is paid for
            async with session.get(here.url + "/pay"):
                assert auth.spent == paid * WORK
    assert len(here.solutions()) == 3


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_request_of_httpx_is_sent_again_without_its_solution(library: Any, origins: Any) -> None:
    here, _ = origins
    auth = getattr(powfast.clients, library.__name__).PowAuth()
    with library.Client(auth=auth, follow_redirects=True) as client:
        request = client.build_request("POST", here.url + "/fair", content=b"body")
        responses = [client.send(request) for _ in range(2)]
    sent = [solution is not None for *_, solution in here.seen]
    assert sent == [False, True, False, True]
    assert auth.spent == 2 * WORK
    for response in responses:
        assert response.status_code == 200
        assert (response.request.content, request.content) == (b"body", b"body")


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_headers_of_httpx_show_the_solution_and_a_copy_has_none(library: Any, origins: Any) -> None:
    """Transports of other libraries read headers in ways of their own; hooks change them."""

    def sign(request: Any) -> None:
        request.headers["x-signed"] = str("pow-solution" in request.headers)

    here, _ = origins
    auth = getattr(powfast.clients, library.__name__).PowAuth()
    with library.Client(auth=auth, event_hooks={"request": [sign]}) as client:
        headers = client.get(here.url + "/fair").request.headers
    *_, (_, _, solution) = here.seen
    assert headers["x-signed"] == "True"
    assert headers["PoW-Solution"] == headers.get("pow-solution") == solution
    assert headers.get_list("pow-solution") == [solution]
    for items in (headers.items(), headers.multi_items(), dict(headers).items()):
        assert dict(items)["pow-solution"] == solution
    assert solution in headers.values()
    assert (b"PoW-Solution", solution.encode()) in headers.raw
    assert len(headers) == len(list(headers)) == len(headers.copy()) + 1
    assert "pow-solution" not in library.Headers(headers)


def test_a_prepared_request_is_paid_for_each_time_it_is_sent(origins: Any) -> None:
    here, _ = origins
    with requests.Session() as session:
        session.auth = auth = powfast.clients.requests.PowAuth()
        request = session.prepare_request(requests.Request("POST", here.url + "/fair", data="x"))
        for _ in range(2):
            response = session.send(request, timeout=PATIENCE)
            assert response.status_code == 200
    assert auth.spent == 2 * WORK
    assert [solution is not None for *_, solution in here.seen] == [False, True, False, True]
    assert pickle.loads(pickle.dumps(response)).status_code == 200
