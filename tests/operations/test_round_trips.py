"""How often a request asks its store: counted by a real Redis, command by command."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from conftest import PATIENCE, missing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ports import free_port

from powfast.accounts import account_of
from powfast.challenge import Issuer, solve, token_from_text
from powfast.errors import PowfastError
from powfast.gate import Gate
from powfast.http import Answer, challenge_in, format_solution
from powfast.servers.asgi import PowMiddleware, bill_of
from powfast.stores import open_held, open_ledger
from powfast.stores.base import Limits, Outcome, Verdict
from powfast.tariff import EvidenceTariff

TARIFF = EvidenceTariff(base_work=1000)
ALICE = {"authorization": "Bearer alice"}
LIMITS, RUN = Limits(256.0, math.inf, 60.0), bytes(16)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve Redis on a port."""
    program = shutil.which("redis-server")
    if program is None:
        missing("redis-server is not installed")
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert server.poll() is None and time.monotonic() < end
                    time.sleep(0.01)
        yield port
    finally:
        server.kill()
        server.wait()


async def application(scope: Any, receive: Any, send: Any) -> None:
    await bill_of(scope).charge([1.0, 1.0])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


class Asking:
    """One client of one node, and how often the node asks Redis for each of its requests."""

    def __init__(self, port: int, held: str, *, floor_first: bool = True) -> None:
        url = f"redis://127.0.0.1:{port}"
        self._redis = redis.Redis(port=port)
        self.ledger: Any = open_ledger(url, TARIFF, asynchronous=True, timeout=60)
        places = open_held(url if held == "redis" else held, asynchronous=True, timeout=60)
        bounds = {} if floor_first else {"max_unpaid_runs": 256}
        gate = Gate(Issuer({"a": bytes(32)}), self.ledger, places, **bounds)
        self._transport = httpx.ASGITransport(PowMiddleware(application, gate))
        self._close = [self.ledger.close, getattr(places, "close", None)]

    async def __call__(self, x: int, solution: str | None = None) -> tuple[httpx.Response, int]:
        headers = ALICE if solution is None else {**ALICE, "pow-solution": solution}
        before = self._reads()
        async with httpx.AsyncClient(transport=self._transport) as client:
            response = await client.post(f"http://test/{x}", headers=headers)
        return response, self._reads() - before - 1  # the second question is one itself

    async def close(self) -> None:
        for close in filter(None, self._close):
            await close()
        self._redis.close()

    def _reads(self) -> int:
        """How many messages Redis has read from its clients."""
        return int(self._redis.info("stats")["total_reads_processed"])


@pytest.mark.parametrize(
    ("held", "asking", "paying", "refused"), [("memory://", 2, 1, 1), ("redis", 3, 2, 1)]
)
async def test_each_phase_of_a_request_is_one_round_trip(
    port: int, held: str, asking: int, paying: int, refused: int
) -> None:
    """Entry and charge, the redemption; and with shared answers: the answer, and its release."""
    ask = Asking(port, held, floor_first=False)
    await ask(0)  # connects, and loads the scripts
    response, _ = await ask(1)
    token = token_from_text(response.json()["challenge"])
    await ask(1, format_solution(token, solve(token)))
    for x in range(2, 5):
        response, trips = await ask(x)
        assert (response.status_code, trips) == (402, asking)
        response, trips = await ask(x)
        assert (response.status_code, trips) == (402, 1)  # charged before
        response, trips = await ask(x, "rubbish.AAAA")
        assert (response.status_code, trips) == (402, refused)
        token = token_from_text(response.json()["challenge"])
        for _ in range(2):  # and again, for who has lost it
            response, trips = await ask(x, format_solution(token, solve(token)))
            assert (response.text, trips) == ("answer", paying)
    await ask.close()


@pytest.mark.parametrize("held", ["memory://", "redis"])
async def test_an_ordinary_request_is_one_exchange_and_two_round_trips(
    port: int, held: str
) -> None:
    """Entry and charge, of what was paid ahead; a third where a solution comes with it."""
    ask = Asking(port, held)
    await ask(100)  # connects, and loads the scripts
    account = account_of(ALICE["authorization"])
    await ask.ledger.reset(account, "")
    await ask.ledger.redeem(account, "", b"", os.urandom(16), time.time() + 60, 6000)
    left, ahead = 6000, None
    for x in range(101, 104):
        response, trips = await ask(x)
        left -= 2000
        assert (response.text, trips) == ("answer", 2)
        assert response.headers["pow-receipt"] == f"work=0, balance={left}"
        ahead = challenge_in(402, response.headers["pow-challenge"])
    assert ahead is not None
    response, trips = await ask(104, format_solution(ahead, solve(ahead)))
    assert (response.text, trips) == ("answer", 3)
    assert response.headers["pow-receipt"] == "work=32000, balance=30000"
    response, trips = await ask(105)
    assert (response.text, trips, "pow-challenge" in response.headers) == ("answer", 2, False)
    await ask.close()


def damaged(size: int) -> st.SearchStrategy[bytes]:
    """What may stand where a record of so many bytes was: of any size, or any doubles."""
    doubles = st.lists(st.floats(), min_size=size // 8, max_size=size // 8).map(
        lambda values: np.array(values, "<f8").tobytes().ljust(size, b"\1")
    )
    return st.one_of(st.binary(max_size=100), st.binary(min_size=size, max_size=size), doubles)


def assert_nobody_is_let_in(ledger: Any) -> None:
    """Every operation ends in a result that is none for free, or in one typed error."""

    def charge() -> None:
        charged = ledger.charge("alice", "", os.urandom(8), RUN, [1.0, 2.0])
        assert charged.price >= 2 * 1000.0

    def enter() -> None:
        assert ledger.enter("alice", "", b"0", os.urandom(16), LIMITS).verdict in Verdict

    def redeem() -> None:
        ledger.redeem("alice", "", b"0", os.urandom(16), 4e9, 1)

    def leave() -> None:
        ledger.leave("alice", "", b"0", RUN, Outcome.UNPAID)

    for ask in (lambda: ledger.account("alice"), charge, enter, redeem, leave):
        with contextlib.suppress(PowfastError):
            ask()


ANY_CASE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
RECORDS = {"account": 104, "request": 104}  # bytes in SQLite, and about as many in Redis


@pytest.mark.parametrize("kind", RECORDS)
@ANY_CASE
@given(data=st.data())
def test_a_damaged_record_is_one_typed_error_and_lets_nobody_in(
    port: int, kind: str, data: st.DataObject
) -> None:
    record = data.draw(damaged(RECORDS[kind]))
    ledger = open_ledger(f"redis://127.0.0.1:{port}", TARIFF, timeout=60)
    with redis.Redis(port=port) as client:
        client.flushdb()
        ledger.charge("alice", "", b"0", RUN, [1.0])
        found = [key for key in client.keys("*") if (b"request" in key) == (kind == "request")]
        assert found
        for key in found:
            client.set(key, record)
        assert_nobody_is_let_in(ledger)
    ledger.close()


@ANY_CASE
@given(st.binary(max_size=60))
def test_a_damaged_answer_is_one_typed_error(port: int, packed: bytes) -> None:
    held: Any = open_held(f"redis://127.0.0.1:{port}", timeout=60)
    with redis.Redis(port=port) as client:
        client.flushdb()
        held.put("alice", RUN, Answer(200, (), b"answer"))
        for key in client.keys("*"):
            if client.type(key) == b"hash":
                for field in client.hkeys(key):
                    client.hset(key, field, packed)
            elif client.type(key) == b"string":
                client.set(key, packed)
        try:
            found = held.get("alice", RUN)
        except PowfastError:
            return
        assert found is None or isinstance(found, Answer)
    held.close()


@pytest.mark.parametrize("kind", RECORDS)
@ANY_CASE
@given(data=st.data())
def test_a_damaged_row_is_one_typed_error_and_lets_nobody_in(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    record = data.draw(damaged(RECORDS[kind]))
    file = tmp_path / "ledger.sqlite"
    ledger = open_ledger(f"sqlite:///{file}", TARIFF, timeout=60)
    ledger.charge("alice", "", b"0", RUN, [1.0])
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        assert database.execute(f"UPDATE {kind} SET record = ?", (record,)).rowcount == 1
    assert_nobody_is_let_in(ledger)
    ledger.close()
    file.unlink()
