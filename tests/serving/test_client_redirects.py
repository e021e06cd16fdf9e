"""One call pays one challenge, to whoever asked for it, whatever servers answer."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
from conftest import PATIENCE
from requests.adapters import HTTPAdapter, Retry

import powfast.clients.aiohttp
import powfast.clients.httpx
import powfast.clients.httpx2
import powfast.clients.requests
from powfast.challenge import Challenge, Issuer, decode
from powfast.http import parse_solution, payment_required

WORK = 50


class Origin:
    """A server that asks for work, redirects, or does both, as its paths say.

    `/pay`         402, again and again
    `/fair`        402, and 200 for a solution
    `/two`         402 with two challenges, and 200 for a solution
    `/drop`        402, and for a solution the connection is closed
    `/go/S/T`      a redirect with status S to target T
    `/pay-go/S/T`  402, and for a solution a redirect

    Targets: `other` is `/pay` of the other origin, `fair` and `same` are `/fair` and `/pay` of
    this one, and `ring` is `/pay-go/S/ring` of the other one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.other: Any = None
        self.url = ""
        self.issuer = Issuer({"2026a": name.encode() * 32})
        self.seen: list[tuple[str, str, str | None]] = []  # method, path, solution

    def challenge(self, path: str) -> str:
        """Return a header's value that asks for work, for this path of this origin."""
        token = self.issuer.issue(work=WORK, group=self.name, request=path.encode())
        return dict(payment_required(token, "pay").headers)[b"www-authenticate"].decode()

    def answer(self, path: str, solution: str | None) -> tuple[int, dict[str, str]] | None:
        kind, *rest = path.strip("/").split("/")
        asks = kind != "go" and (kind == "pay" or solution is None)
        if asks:
            count = 2 if kind == "two" else 1
            asked = ", ".join(self.challenge(path) for _ in range(count))
            return 402, {"www-authenticate": asked, "set-cookie": f"seen={len(self.seen)}"}
        if kind in ("fair", "two"):
            return 200, {"pow-receipt": f"work={WORK}; balance=-1.5e3; note=none"}
        if kind == "drop":
            return None
        status, target = rest
        to = {
            "other": f"{self.other.url}/pay",
            "same": "/pay",
            "fair": "/fair",
            "ring": f"{self.other.url}/pay-go/{status}/ring",
        }
        return int(status), {"location": to[target]}

    @contextmanager
    def served(self) -> Iterator[None]:
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                solution = self.headers.get("pow-solution")
                origin.seen.append((self.command, self.path, solution))
                answer = origin.answer(self.path, solution)
                if answer is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers = answer
                self.send_response(status)
                for name, value in {**headers, "content-length": "2"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield
            server.shutdown()
            thread.join()

    def solutions(self) -> list[Challenge]:
        """Return the challenges that were solved, each for the path that it was sent to."""
        solved = []
        for _, path, header in self.seen:
            if header is not None:
                challenge = decode(parse_solution(header)[0])
                assert (challenge.group, challenge.request) == (self.name, path.encode())
                solved.append(challenge)
        return solved


@pytest.fixture
def origins() -> Iterator[tuple[Origin, Origin]]:
    here, there = Origin("a"), Origin("b")
    here.other, there.other = there, here
    with here.served(), there.served():
        yield here, there


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
