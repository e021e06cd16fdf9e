"""How far goes what `docs/threats.md` says does not hold: each is bounded, and by what."""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from fastapi import FastAPI, Response
from flask_service import FlaskService, threaded
from ledgers import Clock
from service import ALICE, ASK, BASE, KEYS, Service, paid, served, token_of
from stores import redis_serving, until

from powfast.accounts import account_of, address
from powfast.challenge import Issuer, decode
from powfast.errors import StoreUnavailable
from powfast.gate import Gate
from powfast.servers.asgi import PowMiddleware, bill_of
from powfast.stores import MemoryLedger, open_ledger
from powfast.stores.base import Limits, Paid, Verdict
from powfast.stores.held import LARGEST_SHARE, OVERHEAD, HeldAnswers
from powfast.tariff import EvidenceTariff

TARIFF = EvidenceTariff(base_work=BASE)
ALICE_S = account_of(ALICE["authorization"])


class FailingOnce(MemoryLedger):
    """Loses one charge."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(TARIFF, clock=clock)
        self.fails = True

    def charge(self, *arguments: Any) -> Any:
        if self.fails:
            self.fails = False
            raise StoreUnavailable("it went away")
        return super().charge(*arguments)


def test_a_request_whose_charge_failed_waits_for_a_challenge_s_life_and_no_other_does() -> None:
    clock = Clock(time.time())
    service = Service(ledger=FailingOnce(clock))
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:

        def ask(x: int) -> httpx.Response:
            return client.post("/v1/predict", json={**ASK, "x": x})

        assert [ask(1).status_code for _ in range(3)] == [503, 409, 409]
        assert ask(2).status_code == 402
        service.gate.issuer = Issuer(KEYS, clock=clock)
        clock.now += service.gate.issuer.ttl
        asked = ask(1)
        assert asked.status_code == 402
        record = service.ledger.account(ALICE_S)
        # what ran once for nothing is owed at the price of the moment, and counts
        assert (record.balance, record.unpaid_runs) == (-5 * BASE, 3)
        answer = client.post("/v1/predict", json={**ASK, "x": 1}, headers=paid(token_of(asked)))
        assert answer.json() == {"answer": 1}


def leave_in_the_middle(url: str, path: str) -> None:
    host, port = httpx.URL(url).host, httpx.URL(url).port
    with socket.create_connection((host, port)) as connection:
        lines = f"GET {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer alice\r\n\r\n"
        connection.sendall(lines.encode())
        assert connection.recv(1000)


def test_who_leaves_a_free_stream_of_flask_owes_nothing() -> None:
    service, ended = FlaskService(), []

    @service.flask.get("/v1/free-stream")
    def stream() -> Any:
        def pieces() -> Iterator[str]:
            try:
                while True:
                    yield "x" * 65_536
            finally:
                ended.append(True)

        return flask.Response(pieces())

    with threaded(service.app) as url:
        leave_in_the_middle(url, "/v1/free-stream")
        until(lambda: ended)
        record = service.ledger.account(ALICE_S)
        assert record is not None
        until(lambda: service.ledger.account(ALICE_S).balance == 0)


@pytest.mark.parametrize("charged", [0, 3])
async def test_a_stream_that_its_server_cancels_costs_what_it_was_charged(charged: int) -> None:
    ledger, begun = MemoryLedger(TARIFF), asyncio.Event()
    ledger.reset(ALICE_S)
    ledger.redeem(ALICE_S, "", b"", b"credit", time.time() + 60, 5 * BASE)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if charged:
            await bill_of(scope).charge([1.0] * charged)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        begun.set()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        pass

    async def receive() -> Any:
        return {"type": "http.request"}

    headers = [(k.encode(), v.encode()) for k, v in ALICE.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    guarded = PowMiddleware(app, Gate(Issuer(KEYS), ledger))
    serving = asyncio.create_task(guarded(scope, receive, send))
    await begun.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    record = ledger.account(ALICE_S)
    assert record is not None
    assert (record.balance, record.unpaid_runs) == ((5 - charged) * BASE, 0)


def test_what_a_worker_does_not_hold_and_has_been_read_is_a_new_request_there() -> None:
    ledger = MemoryLedger(TARIFF)
    one, other = (Service(ledger=ledger) for _ in range(2))
    with served(one.app) as here, served(other.app) as there, httpx.Client() as client:

        def ask(url: str, headers: dict[str, str]) -> httpx.Response:
            named = headers | {"host": "models.example"}
            return client.post(url + "/v1/predict", json=ASK, headers=named)

        solution = paid(token_of(ask(here, ALICE)))
        answers = [ask(url, solution) for url in (here, there, here)]
    assert [answer.status_code for answer in answers] == [200, 402, 200]
    assert answers[2].json() == answers[0].json() == {"answer": 1}
    assert (one.runs, other.runs) == (1, 1)
    record = ledger.account(ALICE_S)
    assert record is not None
    assert (record.state[0], record.balance, record.unpaid_runs) == (4, -2 * BASE, 1)


@pytest.mark.parametrize(
    ("evidence", "statuses", "made"), [([1.0], [200], 2), ([9.0, 9.0], [402, 200], 3)]
)
def test_a_large_answer_that_is_priced_runs_again_to_go_out_and_is_read_once(
    evidence: list[float], statuses: list[int], made: int
) -> None:
    app, runs = FastAPI(), itertools.count()
    held = HeldAnswers(max_bytes=LARGEST_SHARE * (OVERHEAD + 1000))
    gate = Gate(Issuer(KEYS), MemoryLedger(TARIFF), held, max_unpaid_runs=0)

    @app.get("/")
    async def large() -> Response:
        next(runs)
        return Response(b"x" * 2000)

    guarded = PowMiddleware(app, gate, evidence=lambda exchange: evidence)
    with served(guarded) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        answers = [client.get("/")]
        for _ in statuses:
            solution = paid(token_of(answers[-1]))
            answers.append(client.get("/", headers=solution))
        assert [answer.status_code for answer in answers] == [402, *statuses]
        again = [client.get("/", headers=solution).status_code for _ in range(8)]
    assert again == [402] * 8
    assert next(runs) == made  # for its price, for that once more where it rose, and to go out
    record = gate.ledger.account(ALICE_S)
    assert record is not None
    assert record.state[0] == len(evidence)


@pytest.mark.parametrize(("unpaid", "is_raised"), [(256, True), (0, False)])
def test_a_neighbour_who_pays_nothing_raises_no_price_where_nothing_runs_unpaid(
    unpaid: int, is_raised: bool
) -> None:
    service = Service(group=address(proxies=1), gate={"max_unpaid_runs": unpaid})

    def price(url: str, host: int, x: int, evidence: float) -> int:
        who = {"authorization": f"Bearer {host}", "x-forwarded-for": f"203.0.113.{host}"}
        ask = {"x": x, "evidence": [evidence]}
        return decode(token_of(httpx.post(url + "/v1/predict", json=ask, headers=who))).work

    with served(service.app) as url:
        for x in range(10):
            price(url, 1, x, 50.0)
        assert (price(url, 2, 0, 1.0) > 1000 * BASE) == is_raised


class Cutting:
    """Passes bytes on to a local port; drops the next reply, and its connection, when told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cuts = False

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)

        async def passing(
            source: asyncio.StreamReader, target: asyncio.StreamWriter, is_reply: bool
        ) -> None:
            while data := await source.read(65_536):
                if is_reply and self.cuts:
                    self.cuts = False
                    break
                target.write(data)
            target.close()

        await asyncio.gather(passing(reader, back, False), passing(there, writer, True))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()


@pytest.mark.parametrize("comes_with_its_solution", [True, False])
async def test_a_covered_charge_whose_reply_is_lost_is_charged_twice_at_most(
    tmp_path: Path, comes_with_its_solution: bool
) -> None:
    run, expires = b"r" * 16, time.time() + 60
    with redis_serving(tmp_path) as server:
        proxy = Cutting(server.port)
        async with proxy.serving() as port:
            url = f"redis://127.0.0.1:{port}"
            ledger: Any = open_ledger(url, TARIFF, asynchronous=True, timeout=30)
            await ledger.reset("a", "")
            await ledger.redeem("a", "", b"", b"credit", expires, 5 * BASE)
            paid = Paid(b"paid", expires, False) if comes_with_its_solution else None
            if paid:
                await ledger.redeem("a", "", b"1", paid.challenge_id, expires, BASE)
            await ledger.enter("a", "", b"1", run, Limits(8.0, math.inf, 10.0))
            await ledger.charge("b", "", b"1", run, [1.0])  # the server knows the script
            proxy.cuts = True
            charged = await ledger.charge("a", "", b"1", run, [1.0], paid)
            assert not proxy.cuts
            assert charged.due == 0
            record = await ledger.account("a")
            assert record.state[0] - 1 <= 2
            assert record.balance >= (5 - 1 + bool(paid)) * BASE - BASE
            if paid:
                again = await ledger.redeem("a", "", b"1", paid.challenge_id, expires, BASE)
                assert again[:3] == (Verdict.AGAIN, run, 0.0)
            await ledger.close()
