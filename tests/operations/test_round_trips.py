"""How often a request asks its store: counted by a real Redis, command by command."""

from __future__ import annotations

import contextlib
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

from powfast.challenge import Issuer, solve, token_from_text
from powfast.errors import PowfastError
from powfast.gate import Gate
from powfast.http import Answer, format_solution
from powfast.servers.asgi import PowMiddleware, charge_of
from powfast.stores import open_held, open_ledger
from powfast.tariff import EvidenceTariff

TARIFF = EvidenceTariff(base_work=1000)


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
    await charge_of(scope).charge([1.0, 1.0])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


class Asking:
    """One client of one node, and how often the node asks Redis for each of its requests."""

    def __init__(self, port: int, held: str) -> None:
        url = f"redis://127.0.0.1:{port}"
        self._redis = redis.Redis(port=port)
        ledger = open_ledger(url, TARIFF, asynchronous=True, timeout=60)
        places = open_held(url if held == "redis" else held, asynchronous=True, timeout=60)
        gate = Gate(Issuer({"a": bytes(32)}), ledger, places)
        self._transport = httpx.ASGITransport(PowMiddleware(application, gate))
        self._close = [ledger.close, getattr(places, "close", None)]

    async def __call__(self, x: int, solution: str | None = None) -> tuple[httpx.Response, int]:
        headers = {} if solution is None else {"pow-solution": solution}
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
    ("held", "asking", "paying", "refused"), [("memory://", 1, 1, 0), ("redis", 3, 2, 1)]
)
async def test_each_phase_of_a_request_is_one_round_trip(
    port: int, held: str, asking: int, paying: int, refused: int
) -> None:
    """The charge and the claim, and with shared answers: their place, the answer, its release."""
    ask = Asking(port, held)
    await ask(0)  # connects, and loads the scripts
    response, _ = await ask(1)
    token = token_from_text(response.json()["challenge"])
    await ask(1, format_solution(token, solve(token)))
    for x in range(2, 5):
        response, trips = await ask(x)
        assert (response.status_code, trips) == (402, asking)
        response, trips = await ask(x, "rubbish.AAAA")
        assert (response.status_code, trips) == (402, refused)
        token = token_from_text(response.json()["challenge"])
        response, trips = await ask(x, format_solution(token, solve(token)))
        assert (response.text, trips) == ("answer", paying)
    await ask.close()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.lists(st.floats(), min_size=10, max_size=10).map(
            lambda doubles: np.array(doubles, "<f8").tobytes()
        ),
    )
)
def test_a_damaged_page_is_one_typed_error_and_lets_nobody_in(port: int, page: bytes) -> None:
    ledger = open_ledger(f"redis://127.0.0.1:{port}", TARIFF, timeout=60)
    with redis.Redis(port=port) as client:
        client.flushdb()
        ledger.charge("alice", "", b"0", [1.0])
        for key in client.keys("*account:*account:*"):
            client.set(key, page)
        for ask in (
            lambda: ledger.state("alice"),
            lambda: ledger.charge("alice", "", b"1", [1.0, 2.0]),
        ):
            try:
                found = ask()
            except PowfastError:
                continue
            assert not isinstance(found, int) or found > 0
    ledger.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=60))
def test_a_damaged_answer_is_one_typed_error(port: int, packed: bytes) -> None:
    held = open_held(f"redis://127.0.0.1:{port}", timeout=60)
    with redis.Redis(port=port) as client:
        client.flushdb()
        held.reserve("alice", b"digest")
        held.fill("alice", b"digest", 1000, Answer(200, (), b"answer"), 6)
        for key in client.keys("*"):
            if client.type(key) == b"hash":
                for field in client.hkeys(key):
                    client.hset(key, field, packed)
            elif client.type(key) == b"string":
                client.set(key, packed)
        try:
            found = held.release("alice", b"digest")
        except PowfastError:
            return
        assert found is None or isinstance(found, Answer)
    held.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=100))
def test_a_damaged_row_is_one_typed_error(tmp_path: Path, state: bytes) -> None:
    file = tmp_path / "ledger.sqlite"
    ledger = open_ledger(f"sqlite:///{file}", TARIFF, timeout=60)
    ledger.charge("alice", "", b"0", [1.0])
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE page SET state = ?", (state,))
    for ask in (
        lambda: ledger.state("alice"),
        lambda: ledger.charge("alice", "", os.urandom(8), [1.0, 2.0]),
    ):
        try:
            found = ask()
        except PowfastError:
            continue
        assert not isinstance(found, int) or found > 0
    ledger.close()
    file.unlink()
