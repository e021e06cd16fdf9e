"""Every client against real servers: what it sends, what it refuses, what it leaves alone."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
from conftest import PATIENCE
from service import BASE, KEYS, Seen, Service, served

import powfast.clients.aiohttp
import powfast.clients.httpx
import powfast.clients.httpx2
import powfast.clients.requests
from powfast.challenge import Challenge, Issuer
from powfast.clients.flow import Payer
from powfast.errors import (
    BodyNotReplayable,
    Cancelled,
    Declined,
    InvalidInput,
    TooMuchTime,
    TooMuchWork,
)
from powfast.http import payment_required
from powfast.puzzle import Puzzle, solve_counted
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

ASK = {"x": 1, "evidence": [1.0, 1.0]}
HARD = {"x": 1, "evidence": [1e6] * 8}
KEY = {"authorization": "Bearer alice"}


def httpx_post(library: Any, auth: Any) -> Callable[..., Any]:
    def post(url: str, body: Any, **limits: Any) -> Any:
        with library.Client(auth=auth(**limits), headers=KEY) as client:
            return client.post(url, json=body).json()

    return post


def requests_post(url: str, body: Any, **limits: Any) -> Any:
    with requests.Session() as session:
        session.auth = powfast.clients.requests.PowAuth(**limits)
        return session.post(url, json=body, headers=KEY, timeout=PATIENCE).json()


def httpx_post_async(library: Any, auth: Any) -> Callable[..., Awaitable[Any]]:
    async def post(url: str, body: Any, **limits: Any) -> Any:
        async with library.AsyncClient(auth=auth(**limits), headers=KEY) as client:
            return (await client.post(url, json=body)).json()

    return post


async def aiohttp_post(url: str, body: Any, **limits: Any) -> Any:
    auth = powfast.clients.aiohttp.PowAuth(**limits)
    async with (
        aiohttp.ClientSession(middlewares=(auth,), headers=KEY) as session,
        session.post(url, json=body) as response,
    ):
        return await response.json()


SYNC = {
    "httpx": httpx_post(httpx, powfast.clients.httpx.PowAuth),
    "httpx2": httpx_post(httpx2, powfast.clients.httpx2.PowAuth),
    "requests": requests_post,
}
ASYNC = {
    "httpx": httpx_post_async(httpx, powfast.clients.httpx.PowAuth),
    "httpx2": httpx_post_async(httpx2, powfast.clients.httpx2.PowAuth),
    "aiohttp": aiohttp_post,
}


def blocking(post: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    return lambda *args, **limits: asyncio.run(post(*args, **limits))  # type: ignore[arg-type]


EVERY = [pytest.param(post, id=name) for name, post in SYNC.items()] + [
    pytest.param(blocking(post), id=f"{name}-async") for name, post in ASYNC.items()
]
every_client = pytest.mark.parametrize("post", EVERY)
every_async_client = pytest.mark.parametrize("post", ASYNC.values(), ids=ASYNC)


@every_client
def test_one_challenge_is_paid_on_one_connection_with_the_key_intact(post: Any) -> None:
    service = Service()
    seen = Seen(service.app)
    with served(seen) as url:
        assert post(url + "/v1/predict", ASK) == {"answer": 1}
    assert service.runs == 1
    assert len(set(seen.connections)) == 1
    assert [headers["authorization"] for headers in seen.headers] == ["Bearer alice"] * 2
    assert ["pow-solution" in headers for headers in seen.headers] == [False, True]


@every_client
def test_what_is_not_asked_for_is_not_paid(post: Any) -> None:
    with served(Service().app) as url:
        assert post(url + "/unguarded", ASK) == ASK


@every_client
def test_what_an_answer_costs_beyond_its_floor_is_paid_as_well(post: Any) -> None:
    service = Service(gate={"max_unpaid_runs": 0})  # nobody counts its two queries before it runs
    seen = Seen(service.app)
    with served(seen) as url:
        assert post(url + "/v1/predict", ASK) == {"answer": 1}
        with pytest.raises(TooMuchWork):
            post(url + "/v1/predict", HARD | {"x": 2}, max_work=2 * BASE)
    assert service.runs == 2
    sent = ["pow-solution" in headers for headers in seen.headers]
    assert sent == [False, True, True, False, True]


@every_client
def test_nobody_is_paid_more_than_twice_a_call(post: Any) -> None:
    issuer, asked = Issuer(KEYS), []

    async def greedy(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asked.append(scope["headers"])
        answer = payment_required(issuer.issue(work=BASE, request=b"%d" % len(asked)), "more")
        headers = [*answer.headers, (b"pow-receipt", b"work=1000")]
        await send({"type": "http.response.start", "status": 402, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    with served(greedy) as url:
        assert post(url + "/v1/predict", ASK)["type"] == "urn:powfast:payment-required"
    assert len(asked) == 3


@every_client
def test_a_challenge_after_a_refused_solution_is_handed_to_the_caller(post: Any) -> None:
    service = Service(ttl=0.001)  # every solution comes too late
    seen = Seen(service.app)
    with served(seen) as url:
        assert post(url + "/v1/predict", ASK)["type"] == "urn:powfast:payment-required"
    assert len(seen.headers) == 2


@every_client
def test_its_owner_limits_what_it_pays(post: Any) -> None:
    asked: list[Challenge] = []

    def decline(challenge: Challenge) -> bool:
        asked.append(challenge)
        return False

    with served(Service().app) as url:
        with pytest.raises(TooMuchWork, match=str(2 * BASE)):
            post(url + "/v1/predict", ASK, max_work=2 * BASE - 1)
        with pytest.raises(TooMuchWork, match=f"0 are spent and {2 * BASE - 1} are left"):
            post(url + "/v1/predict", ASK, max_total_work=2 * BASE - 1)
        with pytest.raises(Declined, match=str(2 * BASE)):
            post(url + "/v1/predict", ASK, policy=decline)
        began = time.monotonic()
        with pytest.raises(TooMuchTime, match=r"0\.2 s"):
            post(url + "/v1/predict", HARD, max_work=2**62, max_seconds=0.2)
        assert 0.2 <= time.monotonic() - began < PATIENCE
        paid = post(url + "/v1/predict", ASK, policy=lambda _: True, max_seconds=PATIENCE)
    assert [challenge.work for challenge in asked] == [2 * BASE]
    assert paid == {"answer": 1}


def requests_session() -> requests.Session:
    session = requests.Session()
    session.auth = powfast.clients.requests.PowAuth()
    session.headers.update(KEY)
    return session


@pytest.mark.parametrize(
    "client_of",
    [
        lambda: httpx.Client(auth=powfast.clients.httpx.PowAuth(), headers=KEY),
        lambda: httpx2.Client(auth=powfast.clients.httpx2.PowAuth(), headers=KEY),
        requests_session,
    ],
    ids=SYNC,
)
def test_threads_share_one_client(client_of: Callable[[], Any]) -> None:
    service = Service()
    with served(service.app) as url, client_of() as client, ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(client.post, url + "/v1/predict", json={**ASK, "x": i}) for i in range(24)
        ]
        answers = [response.result().json() for response in asked]
    assert answers == [{"answer": i} for i in range(24)]
    assert service.runs == 24


async def test_requests_in_flight_share_one_aiohttp_session() -> None:
    service = Service()
    auth = powfast.clients.aiohttp.PowAuth()
    with served(service.app) as url:
        async with aiohttp.ClientSession(middlewares=(auth,), headers=KEY) as session:

            async def ask(i: int) -> Any:
                async with session.post(url + "/v1/predict", json={**ASK, "x": i}) as response:
                    return await response.json()

            answers = await asyncio.gather(*map(ask, range(24)))
    assert answers == [{"answer": i} for i in range(24)]
    assert service.runs == 24


@every_async_client
async def test_cancelling_the_request_cancels_the_solving(post: Any) -> None:
    solving = threading.Event()
    with served(Service().app) as url:
        asking = asyncio.create_task(
            post(
                url + "/v1/predict",
                HARD,
                max_work=2**62,
                progress=lambda done, work: solving.set(),
            )
        )
        while not solving.is_set():
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        end = time.monotonic() + PATIENCE
        while solving.is_set():  # what was under way may report once more
            assert time.monotonic() < end, "it is still being solved"
            solving.clear()
            await asyncio.sleep(0.6)


async def longest_gap(stop: asyncio.Event) -> float:
    """Seconds of the longest stall of a loop that wants to wake every millisecond."""
    longest, last = 0.0, time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


@every_async_client
async def test_solving_does_not_stall_the_loop(post: Any) -> None:
    began = time.perf_counter()
    _, evaluations = solve_counted(Puzzle(bytes(32), 2**22, 64))
    half_a_second = 0.5 * evaluations / (time.perf_counter() - began)
    stalls = []
    ledger = MemoryLedger(EvidenceTariff(base_work=half_a_second))
    with served(Service(ledger=ledger).app) as url:
        for x in range(20):  # the machine may be busy with something else
            stop = asyncio.Event()
            watching = asyncio.create_task(longest_gap(stop))
            assert await post(url + "/v1/predict", {"x": x, "evidence": [1.0]}) == {"answer": x}
            stop.set()
            stalls.append(await watching)
            if stalls[-1] < 0.1:
                return
    pytest.fail(f"the loop stood still for {stalls} s")


def pieces() -> Iterator[bytes]:
    yield b'{"x": 3, '
    yield b'"evidence": [1]}'


async def async_pieces() -> AsyncIterator[bytes]:
    for piece in pieces():
        yield piece


JSON = {**KEY, "content-type": "application/json"}


def test_requests_sends_a_file_again_from_where_it_began() -> None:
    service = Service()
    body = io.BytesIO(b"skipped" + b"".join(pieces()))
    body.seek(7)
    with served(service.app) as url, requests.Session() as session:
        session.auth = powfast.clients.requests.PowAuth()
        assert session.post(url + "/v1/predict", data=body, headers=JSON).json() == {"answer": 3}
    assert service.runs == 1


def test_requests_refuses_a_body_it_cannot_send_again() -> None:
    never = pytest.fail
    with served(Service().app) as url, requests.Session() as session:
        session.auth = powfast.clients.requests.PowAuth(policy=lambda _: never("was to be paid"))
        assert session.post(url + "/unguarded", data=pieces(), headers=JSON).json()["x"] == 3
        with pytest.raises(BodyNotReplayable, match="file"):
            session.post(url + "/v1/predict", data=pieces(), headers=JSON)


def test_requests_repeats_with_the_cookies_of_the_challenge() -> None:
    service = Service()
    seen = Seen(service.app)

    async def sticky(scope: Any, receive: Any, send: Any) -> None:
        async def with_cookie(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"set-cookie", b"node=7")]
            await send(message)

        await seen(scope, receive, with_cookie)

    with served(sticky) as url, requests.Session() as session:
        session.auth = powfast.clients.requests.PowAuth()
        response = session.post(url + "/v1/predict", json=ASK)
        assert response.json() == {"answer": 1}
        assert [past.status_code for past in response.history] == [402]
        assert response.headers["pow-receipt"].split(";")[0] == f"work={2 * BASE}"
    assert [headers.get("cookie") for headers in seen.headers] == [None, "node=7"]


async def test_aiohttp_sends_a_file_again_and_refuses_a_generated_body() -> None:
    service = Service()
    body = io.BytesIO(b"skipped" + b"".join(pieces()))
    body.seek(7)
    auth = powfast.clients.aiohttp.PowAuth()
    with served(service.app) as url:
        async with aiohttp.ClientSession(middlewares=(auth,), headers=JSON) as session:
            async with session.post(url + "/v1/predict", data=body) as response:
                assert await response.json() == {"answer": 3}
            async with session.post(url + "/unguarded", data=async_pieces()) as response:
                assert (await response.json())["x"] == 3
            with pytest.raises(BodyNotReplayable, match="file"):
                await session.post(url + "/v1/predict", data=async_pieces())
    assert service.runs == 2  # the refused one has run, and waits for a payment that never comes


async def test_httpx_sends_a_generated_body_again() -> None:
    auth = powfast.clients.httpx.PowAuth()
    with served(Service().app) as url:
        async with httpx.AsyncClient(base_url=url, auth=auth, headers=JSON) as client:
            response = await client.post("/v1/predict", content=async_pieces())
    assert response.json() == {"answer": 3}


@pytest.mark.parametrize("library", ["httpx", "httpx2", "requests", "aiohttp", "anyio"])
def test_a_missing_library_names_the_extra(library: str) -> None:
    module = "off_loop" if library == "anyio" else library
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "import powfast.clients.flow\n"
        f"try: import powfast.clients.{module}\n"
        "except powfast.errors.MissingExtra as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"needs {library}" in said.stdout or f"need {library}" in said.stdout, said.stderr
    assert "pip install 'powfast[client]'" in said.stdout


@pytest.mark.parametrize("limit", ["max_seconds", "max_total_work"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_limits_are_positive(limit: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=limit):
        Payer(**{limit: value})  # type: ignore[arg-type]


# -- what a payer spends in its life

WORK = 1000


def token(work: int = WORK) -> bytes:
    return Issuer(KEYS).issue(work=work)


def test_a_payer_says_what_is_spent_and_what_is_left() -> None:
    payer = Payer(max_total_work=2500)
    for _ in range(2):
        payer.pay(token())
    payer.progress = lambda done, work: pytest.fail("it was to be refused")
    with pytest.raises(TooMuchWork, match=r"1000 .* 2500, 2000 are spent and 500 are left"):
        payer.pay(token())
    payer.progress = None
    payer.pay(token(500))
    with pytest.raises(TooMuchWork, match="2500 are spent and 0 are left"):
        payer.pay(token(1))


def test_what_is_refused_is_not_spent() -> None:
    payer = Payer(policy=lambda challenge: challenge.work < 2**40, max_total_work=2**34)
    cancelled = threading.Event()
    cancelled.set()
    assert Payer().max_total_work is None
    for work, error, said in [
        (2**40, Declined, "policy"),
        (2**32 + 1, TooMuchWork, str(2**32)),  # what a laptop solves in a minute
        (2**32, Cancelled, "after 0"),
    ]:
        with pytest.raises(error, match=said):
            payer.pay(token(work), cancelled)
        assert payer.spent == 0


def test_of_what_is_given_up_the_evaluations_are_spent() -> None:
    seen = []
    cancel = threading.Event()

    def progress(done: int, work: int) -> None:
        seen.append(done)
        cancel.set()

    payer = Payer(max_work=2**62, progress=progress, threads=1)
    with pytest.raises(Cancelled):
        payer.pay(token(2**62), cancel)
    assert 0 < payer.spent == seen[-1] < 2**40


def test_threads_share_a_budget() -> None:
    payer = Payer(max_total_work=10 * WORK, threads=1)

    def paid(_: int) -> bool:
        try:
            payer.pay(token())
        except TooMuchWork:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(paid, range(64))) == 10
    assert payer.spent == 10 * WORK
