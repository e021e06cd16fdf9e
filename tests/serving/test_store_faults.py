"""A real node on uvicorn over a real Redis that fails in the middle of traffic, in every mode."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE
from processes import settings, started
from stores import RedisServer, free_port, redis_serving, slow_proxy, until

from powfast.accounts import account_of
from powfast.challenge import decode, solve
from powfast.clients.httpx import PowAuth
from powfast.http import RECEIPT_HEADER, challenge_in, format_solution
from powfast.stores import open_ledger
from powfast.stores.base import RERUNS
from powfast.tariff import EvidenceTariff

TIMEOUT, SLACK = 1.5, 1.0  # two timeouts would be longer than one with its slack
TRIES = 5  # a machine may stand still: what is in time at all is so in one of these
BASE, OPENING = 1000, 15_000  # what both make can be published as it is
HOUR = 3600.0

SERVICE = """
import os
import signal
import time
from pathlib import Path

now, step = time.time, {"ahead": 0.0}
time.time = lambda: now() + step["ahead"]

from fastapi import FastAPI

from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.servers.settings import Settings


def die_before(what):
    die = Path("die")
    if die.exists() and die.read_text() == what:
        os.kill(os.getpid(), signal.SIGKILL)


async def enter_later(*arguments):
    die_before("it enters")
    return await enter(*arguments)


app = FastAPI()
gate = Settings.load().gate(asynchronous=True)
enter, gate.ledger.enter = gate.ledger.enter, enter_later
app.add_middleware(PowMiddleware, gate=gate, paths=("/v1/",))


@app.get("/healthz")
async def healthy() -> str:
    return "ok"


@app.put("/clock")
async def set_clock(ahead: float) -> None:
    step["ahead"] = ahead


@app.post("/v1/predict")
async def predict(body: dict, pow: Charge) -> dict:
    await pow.charge([1.0])
    die_before("the answer")
    return {"x": body["x"], "run": os.urandom(8).hex()}
"""


@contextmanager
def node(folder: Path, store: str, mode: str, timeout: float = 60, **more: str) -> Iterator[str]:
    (folder / "service.py").write_text(SERVICE)
    port = free_port()
    environ = settings(folder, store, on_store_error=mode, store_timeout=str(timeout), **more)
    (folder / "tariff.json").write_text(EvidenceTariff(BASE, OPENING, probation=False).to_json())
    command = [sys.executable, "-m", "uvicorn", "service:app", "--log-level", "error"]
    with started([*command, "--port", str(port)], port, environ=environ, folder=folder) as url:
        yield url


@dataclass
class Site:
    """A node, its store, and the way from one to the other."""

    url: str
    store: RedisServer
    delay: Callable[[float], None]


@pytest.fixture(scope="module", params=["closed", "local", "open"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture(scope="module")
def site(mode: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(mode)
    with (
        redis_serving(folder, "--appendonly", "yes", "--appendfsync", "always") as store,
        slow_proxy(store.port) as (port, delay),
        node(folder, f"redis://127.0.0.1:{port}", mode, TIMEOUT) as url,
    ):
        yield Site(url, store, delay)


class Traffic:
    """Clients that ask and pay, without end; keeps what came back, and how long it took."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.seen: list[tuple[str, float]] = []
        """What came of each request, and its seconds."""
        self.work: list[int] = []
        """The work of each challenge, all of which is done."""
        self.bought: set[str] = set()
        """The runs whose answers came for one and the same solution."""

    def __enter__(self) -> Traffic:
        self._pool = ThreadPoolExecutor(5)
        regular = f"regular-{time.monotonic_ns()}"
        clients = [lambda: self._ask(regular), lambda: self._ask(regular), lambda: self._ask()]
        clients += [self._replay, self._look]
        self._clients = [self._pool.submit(client) for client in clients]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()

    def until(self, **outcomes: int) -> None:
        """Wait until there were so many of each, from now on."""
        start = len(self.seen)
        until(lambda: Counter(outcome for outcome, _ in self.seen[start:]) >= Counter(outcomes))

    def slowest(self, *outcomes: str) -> float:
        return max(seconds for outcome, seconds in self.seen if outcome in outcomes)

    def _client(self, outcome: Callable[[httpx.Response], str]) -> httpx.Client:
        def note(response: httpx.Response, seconds: float) -> None:
            self.seen.append((outcome(response), seconds))
            if self.seen[-1][0] == "challenged":
                self.work.append(work_of(response))

        return httpx.Client(base_url=self._url, timeout=PATIENCE, transport=Timed(note))

    def _ask(self, account: str | None = None) -> None:
        """Ask something new each time; as an account that is new, where none is given."""
        with self._client(outcome_of) as client:
            client.auth = PowAuth()
            while not self._stop.wait(0.01):
                now = time.monotonic_ns()
                header = {"authorization": f"Bearer {account or now}"}
                client.post("/v1/predict", json={"x": now}, headers=header)

    def _replay(self) -> None:
        """Pay once, and then send that solution again and again."""
        header = {"authorization": f"Bearer {time.monotonic_ns()}"}
        ask = {"url": self._url + "/v1/predict", "json": {"x": 1}, "headers": header}
        while not self._stop.wait(0.01):
            response = httpx.post(**ask, timeout=PATIENCE)
            if response.status_code == 200:
                break
            header["pow-solution"] = PowAuth().answer(response) or ""
        with self._client(lambda response: "replay") as client:
            while not self._stop.wait(0.02):
                response = client.post(**ask)
                if RECEIPT_HEADER in response.headers and response.is_success:
                    self.bought.add(response.json()["run"])

    def _look(self) -> None:
        with self._client(lambda response: f"health {response.status_code}") as client:
            while not self._stop.wait(0.02):
                client.get("/healthz")


class Timed(httpx.HTTPTransport):
    def __init__(self, note: Callable[[httpx.Response, float], None]) -> None:
        super().__init__()
        self._note = note

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        started_at = time.monotonic()
        response = super().handle_request(request)
        self._note(response, time.monotonic() - started_at)
        return response


def work_of(response: httpx.Response) -> int:
    token = challenge_in(response.status_code, response.headers["www-authenticate"])
    assert token is not None
    return decode(token).work


def outcome_of(response: httpx.Response) -> str:
    answered = "paid" if RECEIPT_HEADER in response.headers else "unpaid"
    return {200: answered, 402: "challenged", 503: "unavailable"}[response.status_code]


RUNNING = {"challenged": 3, "paid": 3, "replay": 3}
WITHOUT_STORE = {"closed": {"unavailable": 6}, "local": RUNNING, "open": {"unpaid": 6}}
MOST_RUNS = 1 + RERUNS  # of what one solution pays for, as far as one ledger knows
Meanwhile = Callable[[], None]


def killed(site: Site, without_store: Meanwhile, _: Meanwhile) -> None:
    site.store.kill()
    without_store()
    site.store.start()


def restarted_empty(site: Site, _: Meanwhile, running: Meanwhile) -> None:
    site.store.kill()
    site.store.forget()
    site.store.start()
    running()


def paused(site: Site, without_store: Meanwhile, _: Meanwhile) -> None:
    site.store.pause()
    without_store()
    site.store.resume()


def slow(site: Site, without_store: Meanwhile, _: Meanwhile) -> None:
    site.delay(TIMEOUT)  # each way: what is asked is done, and the reply comes too late
    without_store()
    site.delay(0.0)


def full(site: Site, without_store: Meanwhile, _: Meanwhile) -> None:
    with site.store.client() as client:
        client.config_set("maxmemory", 1)
        without_store()
        client.config_set("maxmemory", 0)


def clock_set_forward(site: Site, _: Meanwhile, running: Meanwhile) -> None:
    step_clock(site, HOUR, running)


def clock_set_back(site: Site, _: Meanwhile, running: Meanwhile) -> None:
    step_clock(site, -HOUR, running)


def step_clock(site: Site, ahead: float, running: Meanwhile) -> None:
    for seconds in (ahead, 0.0):
        httpx.put(site.url + "/clock", params={"ahead": seconds}).raise_for_status()
        running()


FAULTS = [killed, restarted_empty, paused, slow, full, clock_set_forward, clock_set_back]


@pytest.mark.parametrize("fault", FAULTS)
def test_traffic_through_a_fault(site: Site, mode: str, fault: Callable[..., None]) -> None:
    waited = []
    while len(waited) < TRIES:
        waited.append(longest_waits(site, mode, fault))
        if waited[-1][0] < SLACK and waited[-1][1] < TIMEOUT + SLACK:
            return
    pytest.fail(f"a look at the node's health, and any answer, took {waited} s")


def longest_waits(site: Site, mode: str, fault: Callable[..., None]) -> tuple[float, float]:
    """Let traffic go through a fault; return the seconds of the slowest look, and of any answer."""
    with Traffic(site.url) as traffic:
        traffic.until(**RUNNING)
        fault(
            site,
            lambda: traffic.until(**WITHOUT_STORE[mode]),
            lambda: traffic.until(**RUNNING),
        )
        traffic.until(**RUNNING)
    outcomes = Counter(outcome for outcome, _ in traffic.seen)
    assert mode == "closed" or not outcomes["unavailable"]
    ledgers = {"closed": 1, "local": 2, "open": math.inf}[mode] + (fault is restarted_empty)
    assert len(traffic.bought) <= ledgers * MOST_RUNS
    assert BASE * (outcomes["paid"] + outcomes["unpaid"]) <= ledgers * sum(traffic.work)
    assert {outcome for outcome in outcomes if outcome.startswith("health")} == {"health 200"}
    return traffic.slowest("health 200"), traffic.slowest(*outcomes)


def asked(url: str, x: int, solution: str = "") -> httpx.Response:
    headers = {"authorization": "Bearer alice", "host": "models.example"}  # whatever its port
    headers |= {"pow-solution": solution} if solution else {}
    return httpx.post(url + "/v1/predict", json={"x": x}, headers=headers, timeout=PATIENCE)


def challenge_and_solution(response: httpx.Response) -> tuple[int, str]:
    """The work of the challenge in a response, and its solution."""
    token = challenge_in(response.status_code, response.headers["www-authenticate"])
    assert token is not None
    return decode(token).work, format_solution(token, solve(token))


def books_of_alice(url: str) -> tuple[int, float] | None:
    """Her queries and her balance."""
    ledger = open_ledger(url, EvidenceTariff(BASE, OPENING, probation=False), timeout=60)
    record: Any = ledger.account(account_of("Bearer alice"))
    ledger.close()
    return None if record is None else (int(record.state[0]), record.balance)


def test_a_node_killed_between_charge_and_answer(tmp_path: Path) -> None:
    die = tmp_path / "die"
    with redis_serving(tmp_path) as server:
        with node(tmp_path, server.url, "closed", max_unpaid_runs="256") as url:
            _, opening = challenge_and_solution(asked(url, 1))
            assert asked(url, 1, opening).json()["x"] == 1
            die.write_text("the answer")
            with pytest.raises(httpx.TransportError):
                asked(url, 2)
        die.unlink()
        assert books_of_alice(server.url) == (2, -BASE)
        with node(tmp_path, server.url, "closed", max_unpaid_runs="256") as url:
            work, solution = challenge_and_solution(asked(url, 2))
            answers = [asked(url, 2, solution) for _ in range(2)]
        assert books_of_alice(server.url) == (2, 0)  # charged once, however often it was asked
    assert work == BASE
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()


def test_a_node_killed_between_redeeming_an_opening_and_what_it_pays_for(tmp_path: Path) -> None:
    die = tmp_path / "die"
    with redis_serving(tmp_path) as server:
        with node(tmp_path, server.url, "closed") as url:
            work, opening = challenge_and_solution(asked(url, 1))
            die.write_text("it enters")
            with pytest.raises(httpx.TransportError):
                asked(url, 1, opening)
        die.unlink()
        with node(tmp_path, server.url, "closed") as url:
            answer = asked(url, 1, opening)
            assert (answer.status_code, answer.json()["x"]) == (200, 1)  # nothing was lost
        assert books_of_alice(server.url) == (1, 0)
    assert work == OPENING + BASE
