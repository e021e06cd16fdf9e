"""A real node on uvicorn over a real Redis that fails in the middle of traffic, in every mode."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from processes import settings, started
from stores import RedisServer, free_port, redis_serving, until

from powfast.challenge import decode, solve
from powfast.clients.httpx import PowAuth
from powfast.http import RECEIPT_HEADER, challenge_in, format_solution
from powfast.ledger import open_ledger
from powfast.tariff import EvidenceTariff

TIMEOUT, SLACK = 0.3, 1.0
# What a request may ask of the store, one after the other: its place, its charge, and the release
# of the place; or the claim and the answer.
OPERATIONS = 3
BASE = 1000

SERVICE = """
import os
import signal
from pathlib import Path

from fastapi import FastAPI

from powfast.asgi import PowMiddleware
from powfast.fastapi import Charge
from powfast.settings import Settings

app = FastAPI()
app.add_middleware(
    PowMiddleware, gate=Settings.load().gate(asynchronous=True), paths=("/v1/",)
)


@app.get("/healthz")
async def healthy() -> str:
    return "ok"


@app.post("/v1/predict")
async def predict(body: dict, pow: Charge) -> int:
    await pow.charge([1.0])
    if body.get("die") and Path("die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return body["x"]
"""


@contextmanager
def node(folder: Path, store: str, mode: str) -> Iterator[str]:
    (folder / "service.py").write_text(SERVICE)
    port = free_port()
    environ = settings(folder, store, BASE, on_store_error=mode, store_timeout=str(TIMEOUT))
    command = [sys.executable, "-m", "uvicorn", "service:app", "--log-level", "error"]
    with started([*command, "--port", str(port)], port, environ=environ, folder=folder) as url:
        yield url


class Traffic:
    """Clients that ask and pay, without end; keeps what came back, and how long it took."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.seen: list[tuple[str, int, bool, float]] = []
        """Path, status, whether it was paid for, seconds."""

    def __enter__(self) -> Traffic:
        self._pool = ThreadPoolExecutor(4)
        self._clients = [self._pool.submit(self._ask, i) for i in range(3)]
        self._clients.append(self._pool.submit(self._look))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()

    def until(self, holds: Callable[[Counter[int]], bool]) -> None:
        """Wait until the statuses from now on are such."""
        start = len(self.seen)
        until(lambda: holds(Counter(status for path, status, *_ in self.seen[start:] if path)))

    def _ask(self, number: int) -> None:
        header = {"authorization": f"Bearer {number}"}
        with httpx.Client(base_url=self._url, headers=header, timeout=30.0) as client:
            client.auth = Timed(self)
            for i in range(10**9):
                client.post("/v1/predict", json={"x": i})
                if self._stop.wait(0.01):
                    return

    def _look(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30.0) as client:
            while not self._stop.wait(0.02):
                started_at = time.monotonic()
                status = client.get("/healthz").status_code
                self.note("", status, False, time.monotonic() - started_at)

    def note(self, path: str, status: int, paid: bool, seconds: float) -> None:
        with self._lock:
            self.seen.append((path, status, paid, seconds))


class Timed(PowAuth):
    """Pays, and notes every exchange by itself."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    def sync_auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        flow = super().sync_auth_flow(request)
        exchange = next(flow)
        while True:
            started_at = time.monotonic()
            response = yield exchange
            seconds = time.monotonic() - started_at
            paid = RECEIPT_HEADER in response.headers
            self._traffic.note(request.url.path, response.status_code, paid, seconds)
            try:
                exchange = flow.send(response)
            except StopIteration:
                return


def killed(
    server: RedisServer, traffic: Traffic, when_gone: Callable[[Counter[int]], bool]
) -> None:
    server.kill()
    traffic.until(when_gone)
    server.start()


def paused(
    server: RedisServer, traffic: Traffic, when_gone: Callable[[Counter[int]], bool]
) -> None:
    server.pause()
    traffic.until(when_gone)
    server.resume()


@pytest.mark.parametrize("fault", [killed, paused])
@pytest.mark.parametrize("mode", ["closed", "local", "open"])
def test_traffic_through_a_fault(mode: str, fault: Callable[..., None], tmp_path: Path) -> None:
    gone: dict[str, Callable[[Counter[int]], bool]] = {
        "closed": lambda seen: seen[503] >= 6,
        "local": lambda seen: seen[402] >= 3 and seen[200] >= 3,
        "open": lambda seen: seen[200] >= 6,
    }
    with (
        redis_serving(tmp_path) as server,
        node(tmp_path, server.url, mode) as url,
        Traffic(url) as traffic,
    ):
        traffic.until(lambda seen: seen[200] >= 3)
        before = len(traffic.seen)
        fault(server, traffic, gone[mode])
        during = len(traffic.seen)
        traffic.until(lambda seen: seen[200] >= 6 and seen[402] >= 3)
    asked = [seen for seen in traffic.seen if seen[0]]
    health = [seen for seen in traffic.seen if not seen[0]]
    assert {status for _, status, _, _ in asked} <= {200, 402, 503}
    unpaid = [status for _, status, paid, _ in asked if status == 200 and not paid]
    assert bool(unpaid) == (mode == "open")
    assert (mode == "closed") == any(status == 503 for _, status, _, _ in asked)
    assert {status for _, status, _, _ in health} == {200}
    assert max(seconds for *_, seconds in health) < SLACK
    assert max(seconds for *_, seconds in asked) < OPERATIONS * TIMEOUT + SLACK
    assert before < during < len(traffic.seen)


def test_a_node_killed_between_charge_and_answer(tmp_path: Path) -> None:
    ask = {"json": {"x": 7, "die": True}, "headers": {"authorization": "Bearer alice"}}
    with redis_serving(tmp_path) as server:
        (tmp_path / "die").touch()
        with node(tmp_path, server.url, "closed") as url, pytest.raises(httpx.TransportError):
            httpx.post(url + "/v1/predict", **ask)
        (tmp_path / "die").unlink()
        with node(tmp_path, server.url, "closed") as url:
            challenged = httpx.post(url + "/v1/predict", **ask)
            token = challenge_in(challenged.status_code, challenged.headers["www-authenticate"])
            assert token is not None
            account = decode(token).account
            ledger = open_ledger(server.url, EvidenceTariff(BASE))
            assert ledger.state(account)[0] == 1  # type: ignore[index]  # charged once
            ledger.close()
            ask["headers"]["pow-solution"] = format_solution(token, solve(token))
            answers = [httpx.post(url + "/v1/predict", **ask) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 402]
    assert answers[0].json() == 7
