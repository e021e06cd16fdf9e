"""What once worked against real servers, and does so no more: one test for each.

Others stand elsewhere: guessing a credential by its account, and spelling one anew, in
`test_users.py`; clients that pay repeatedly, or elsewhere, in `test_client_redirects.py`; the
gateway's count of queries in `test_gateway.py`; flags of the compiler in
`tests/c/test_hardening.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from conftest import needs
from fastapi import FastAPI, Request, Response
from flask_service import FlaskService, threaded
from ledgers import Clock
from service import ALICE, BASE, KEYS, UNPAID, Service, served, token_of
from stores import RedisServer, until

from powfast.accounts import address, bearer, header
from powfast.challenge import Issuer, decode, solve
from powfast.gate import Gate
from powfast.http import format_solution
from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.servers.wsgi import bill_of
from powfast.stores import MemoryLedger, open_ledger
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff

websockets = needs("websockets.sync.client")

OPENING = 20 * BASE


def solution_of(response: httpx.Response) -> dict[str, str]:
    token = token_of(response)
    return {"pow-solution": format_solution(token, solve(token))}


def guarding(
    app: FastAPI, *, ledger: Any = None, held: Any = None, gate: Any = None, **options: Any
) -> Any:
    ledger = ledger or MemoryLedger(EvidenceTariff(base_work=BASE))
    return PowMiddleware(
        app, Gate(Issuer(KEYS), ledger, held, **(UNPAID | (gate or {}))), **options
    )


# 1


def test_an_opening_settles_nothing() -> None:
    ledger = MemoryLedger(EvidenceTariff(base_work=BASE, opening_work=OPENING, probation=False))
    dear = [{"x": n, "evidence": [1e9] * 60} for n in range(3)]
    service = Service(ledger=ledger)
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        openings = [client.post("/v1/predict", json=body) for body in dear]
        cheap = client.post("/v1/predict", json={"x": 0, "evidence": [1.0]})
        assert {decode(token_of(asked)).work for asked in (*openings, cheap)} == {22 * BASE}
        opened = client.post(
            "/v1/predict", json={"x": 0, "evidence": [1.0]}, headers=solution_of(cheap)
        )
        assert opened.status_code == 200
        for body, asked in zip(dear, openings, strict=True):
            answer = client.post("/v1/predict", json=body, headers=solution_of(asked))
            assert answer.status_code == 402
            assert decode(token_of(answer)).work > 1e15
        record = ledger.account(decode(token_of(cheap)).account)
    assert record is not None
    assert record.state[0] == 181
    assert record.balance < -1e15


# 2


def by_cookie() -> FastAPI:
    """Somebody's application that knows its users by their cookies."""
    app = FastAPI()

    @app.get("/mine")
    async def mine(request: Request, response: Response, pow: Charge) -> str:
        await pow.charge([1.0, 1.0])
        user = request.cookies.get("session", "nobody")
        response.set_cookie("last", user)
        return f"what only {user} may read"

    @app.get("/plain")
    async def plain(request: Request, pow: Charge) -> str:
        await pow.charge([1.0, 1.0])
        return f"what only {request.cookies.get('session', 'nobody')} may read"

    return app


@pytest.mark.parametrize("path", ["/mine", "/plain"])
@pytest.mark.parametrize("account", [address(), bearer, header("x-tenant")])
@pytest.mark.parametrize("credentials", [{}, {"cookie": "session=bob"}])
def test_a_held_answer_goes_to_nobody_else(
    path: str, account: Any, credentials: dict[str, str]
) -> None:
    with (
        served(guarding(by_cookie(), account=account)) as url,
        httpx.Client(base_url=url, headers={"x-tenant": "both"}) as client,
    ):
        assert client.get(path, headers={"cookie": "session=alice"}).status_code == 402
        asked = client.get(path, headers=credentials)
        answer = client.get(path, headers=credentials | solution_of(asked))
        assert answer.status_code == 200
        assert "alice" not in answer.text + str(answer.headers)


# 3


def test_twelve_boundaries_are_twelve_requests() -> None:
    service = FlaskService()

    @service.flask.post("/v1/form")
    def form() -> str:
        evidence = float(flask.request.form["evidence"])
        bill_of(flask.request.environ).charge([evidence])
        return f"what {evidence} shows"

    parts = "".join(
        f'--b{n}\r\nContent-Disposition: form-data; name="evidence"\r\n\r\n'
        f"{50.0 if n else 1.0}\r\n--b{n}--\r\n"
        for n in range(12)
    )
    types = [{"content-type": f"multipart/form-data; boundary=b{n}"} for n in range(12)]
    with threaded(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = client.post("/v1/form", content=parts, headers=types[0])
        solution = solution_of(asked)
        answer = client.post("/v1/form", content=parts, headers=types[0] | solution)
        assert answer.text == "what 1.0 shows"
        for other in types[1:]:
            answer = client.post("/v1/form", content=parts, headers=other | solution)
            assert (answer.status_code, "wrong-request" in answer.text) == (402, True)
            assert "shows" not in answer.text


# 4


@pytest.mark.parametrize("who", [ALICE, {}])
def test_every_sample_has_its_price(who: dict[str, str]) -> None:
    ledger, app, samples = (
        MemoryLedger(EvidenceTariff(base_work=BASE)),
        FastAPI(),
        itertools.count(),
    )

    @app.get("/")
    async def sample(pow: Charge) -> int:
        number = next(samples)
        await pow.charge([1.0 + number % 7])
        return number

    read, queries = set(), 0
    with served(guarding(app, ledger=ledger)) as url, httpx.Client(base_url=url) as client:
        asked = client.get("/", headers=who)
        solution = solution_of(asked)
        for _ in range(30):
            answer = client.get("/", headers=who | solution)
            if answer.status_code == 200:
                read.add(answer.text)
        assert len(read) == 1
        record = ledger.account(decode(token_of(asked)).account)
        assert record is not None
        queries = int(record.state[0])
    assert queries == next(samples), "every run is in the ledger"


# 5


def test_identical_requests_at_once_run_the_model_once() -> None:
    app, runs, may_end = FastAPI(), itertools.count(), asyncio.Event()

    @app.get("/")
    async def slow(pow: Charge) -> str:
        next(runs)
        await may_end.wait()
        await pow.charge([1.0])
        return "answer"

    async def attack(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=url, headers=ALICE, limits=limits) as client:
            asking = [asyncio.create_task(client.get("/")) for _ in range(200)]
            while sum(task.done() for task in asking) < 199:
                await asyncio.sleep(0.01)
            loop.call_soon_threadsafe(may_end.set)
            return await asyncio.gather(*asking)

    guarded = guarding(app)

    async def noticing(scope: Any, receive: Any, send: Any) -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        await guarded(scope, receive, send)

    loop: Any = None
    with served(noticing) as url:
        answers = asyncio.run(attack(url))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(402), statuses.count(409)) == (1, 199)
    assert {a.headers["retry-after"] for a in answers if a.status_code == 409} == {"1"}
    assert next(runs) == 1


def test_nothing_runs_for_an_account_above_the_price_that_is_answered() -> None:
    service = Service(gate={"refuse_above": BASE - 1})
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        for number in range(50):
            ask = {"x": number, "evidence": [1.0]}
            assert client.post("/v1/predict", json=ask).status_code == 403
    assert service.runs == 0


def test_hanging_up_uses_up_what_may_be_unpaid() -> None:
    app, runs = FastAPI(), itertools.count()
    ended = itertools.count()

    @app.get("/{number}")
    async def slow(number: int, request: Request, pow: Charge) -> str:
        next(runs)
        while not await request.is_disconnected():
            await asyncio.sleep(0.005)
        next(ended)
        return "to nobody"

    def reached() -> int:
        return int(repr(runs)[6:-1])

    with served(guarding(app, gate={"max_unpaid_runs": 4})) as url:
        host, port = httpx.URL(url).host, httpx.URL(url).port
        for number in range(4):
            with socket.create_connection((host, port)) as connection:
                lines = f"GET /{number} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer alice\r\n\r\n"
                connection.sendall(lines.encode())
                until(lambda number=number: reached() == number + 1)
        until(lambda: int(repr(ended)[6:-1]) == 4)
        for number in range(10):
            answer = httpx.get(f"{url}/{number}", headers=ALICE)
            assert decode(token_of(answer)).work >= 5 * BASE, "the debt, and the next run"
    assert reached() == 4


# 6


def test_64_accounts_lock_nobody_out() -> None:
    held = HeldAnswers(max_bytes=64 * 8192)
    service = Service(
        held=held,
        ledger=MemoryLedger(EvidenceTariff(base_work=BASE, opening_work=OPENING, probation=False)),
    )
    several = {"x": 1, "evidence": [1.0] * 8}
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        for number in range(64):
            who = {"authorization": f"Bearer {number}"}
            asked = client.post("/v1/predict", json=several, headers=who)
            for x in range(4):
                ask = several | {"x": x}
                client.post(
                    "/v1/predict", json=ask, headers=who | (solution_of(asked) if x == 1 else {})
                )
        for number in range(64):
            for x in range(4):
                who = {"authorization": f"Bearer {number}"}
                client.post("/v1/predict", json=several | {"x": x}, headers=who)
        opening = client.post("/v1/predict", json=several, headers=ALICE)
        owing = client.post("/v1/predict", json=several, headers=ALICE | solution_of(opening))
        runs = service.runs
        answer = client.post("/v1/predict", json=several, headers=ALICE | solution_of(owing))
        assert (answer.status_code, service.runs) == (200, runs), "it was held for her"


# 10


def test_neighbours_weigh_less_day_by_day() -> None:
    clock = Clock()
    service = Service(
        ledger=MemoryLedger(EvidenceTariff(base_work=BASE), clock=clock),
        group=address(proxies=1),
    )

    def asked(url: str, host: int, evidence: float) -> int:
        who = {"authorization": f"Bearer {host}", "x-forwarded-for": f"203.0.113.{host}"}
        ask = {"x": clock.now, "evidence": [evidence]}
        return decode(token_of(httpx.post(url + "/v1/predict", json=ask, headers=who))).work

    with served(service.app) as url:
        for _ in range(10):
            clock.now += 1
            asked(url, 1, 50.0)
        assert asked(url, 2, 1.0) > 1e9
        clock.now += 60 * 86_400
        assert asked(url, 3, 1.0) == BASE


# 11


def test_a_million_queries_are_refused_before_any_store_is_asked() -> None:
    class Watched(MemoryLedger):
        charges = 0

        def charge(self, *arguments: Any) -> Any:
            self.charges += 1
            return super().charge(*arguments)

    ledger, app = Watched(EvidenceTariff(base_work=BASE)), FastAPI()

    @app.get("/{queries}")
    async def batch(queries: int, pow: Charge) -> str:
        await pow.charge([1.0] * queries)
        return "answer"

    with served(guarding(app, ledger=ledger)) as url:
        answer = httpx.get(f"{url}/1000000", headers=ALICE)
        assert (answer.status_code, ledger.charges) == (413, 0)
        assert "10000" in answer.json()["detail"]
        assert httpx.get(f"{url}/64", headers=ALICE).status_code == 402


# 12


def test_who_is_told_that_a_store_is_away_learns_nothing_of_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)  # which nobody starts
    ledger = open_ledger(server.url, EvidenceTariff(base_work=BASE), asynchronous=True)
    with served(Service(ledger=ledger).app) as url:
        answer = httpx.post(url + "/v1/predict", json={"x": 1, "evidence": [1.0]}, headers=ALICE)
    assert answer.status_code == 503
    said = (answer.text + str(answer.headers)).lower()
    assert not any(word in said for word in ("redis", "127.0.0.1", "localhost", str(server.port)))


def test_a_slow_body_ends_its_connection() -> None:
    with served(Service(body_timeout=0.2).app) as url:
        host, port = httpx.URL(url).host, httpx.URL(url).port
        with socket.create_connection((host, port)) as connection:
            connection.settimeout(60)
            head = b"POST /v1/predict HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n"
            connection.sendall(head + b"x" * 1000)
            said = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"body-too-slow" in said


@pytest.mark.parametrize("path", ["/v1/socket", "//v1/socket"])
def test_a_websocket_on_a_guarded_path_is_refused(path: str) -> None:
    service = Service()

    @service.app.websocket("/v1/socket")
    async def talk(socket: Any) -> None:
        service.runs += 1
        await socket.accept()

    with (
        served(service.app) as url,
        pytest.raises(Exception, match="403"),
        websockets.connect("ws" + url[4:] + path),
    ):
        pass
    assert service.runs == 0
