"""The victim behind the real gate, in process: everything but the model is powfast's."""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, inf
from statistics import median
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import numpy as np

from benchmarks.extraction.data import Floats, Images, scaled
from benchmarks.extraction.victims import Victim
from powfast.accounts import account_of
from powfast.challenge import Issuer
from powfast.clients.flow import Payer
from powfast.gate import Gate
from powfast.http import Exchange
from powfast.profile import hash_rate
from powfast.servers.wsgi import PowMiddleware, bill_of
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

BATCH = 64

_ROUNDS = 60


@dataclass(frozen=True)
class Reply:
    """A response: status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def work(self) -> int:
        """What a challenge asks for, in expected SHA-256 evaluations."""
        work: int = json.loads(self.body)["work"]
        return work

    @property
    def probabilities(self) -> Floats:
        """What the model answered, (n, 10)."""
        return np.array(json.loads(self.body))


class Service:
    """One victim, bare at /bare and guarded at /v1.

    Parameters
    ----------
    victim : Victim
    tariff : EvidenceTariff
    """

    def __init__(self, victim: Victim, tariff: EvidenceTariff) -> None:
        self._victim = victim
        self.ledger = MemoryLedger(tariff)
        issuer = Issuer({"lab": secrets.token_bytes(32)})
        gate = Gate(issuer, self.ledger, max_unpaid_runs=2**20)  # prices are seen, not paid
        self._app = PowMiddleware(self._endpoint, gate, queries=self._count, paths=("/v1",))
        self._shape: tuple[int, ...] = (-1,)

    def open(self, account: str = "user") -> None:
        """Pay an account's opening ahead, to see the prices of its requests alone."""
        name, opening = account_of(f"Bearer {account}"), ceil(self.ledger.tariff.opening_work)
        self.ledger.redeem(name, "", b"", secrets.token_bytes(16), inf, opening)

    def bare(self, images: Images) -> Reply:
        """Ask without a gate."""
        return self._call("/bare", images, "", None)

    def ask(self, images: Images, account: str = "user", solution: str | None = None) -> Reply:
        """Ask through the gate: a challenge, or the answer where the solution is right."""
        return self._call("/v1", images, account, solution)

    def paid(self, images: Images, account: str = "user", threads: int | None = None) -> Reply:
        """Ask, solve and ask again as often as something is due."""
        reply = self.ask(images, account)
        while reply.status == 402:
            reply = self.ask(images, account, Payer(threads=threads).answer(reply))
        assert reply.status == 200, reply
        return reply

    def _count(self, exchange: Exchange) -> int:
        return len(np.frombuffer(exchange.request, np.uint8).reshape(self._shape))

    def _endpoint(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        pixels = np.frombuffer(body, np.uint8).reshape(self._shape)
        features, probabilities = self._victim.ask(scaled(pixels))
        if environ["PATH_INFO"] == "/v1":
            bill_of(environ).charge(self._victim.estimator.evidence(features, probabilities))
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(probabilities.tolist()).encode()]

    def _call(self, path: str, images: Images, account: str, solution: str | None) -> Reply:
        self._shape = (-1, *images.shape[1:])
        body = np.uint8(np.rint(images * 255)).tobytes()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "HTTP_AUTHORIZATION": f"Bearer {account}",
        }
        if solution is not None:
            environ["HTTP_POW_SOLUTION"] = solution
        head: list[Any] = []

        def start(
            status: str, headers: list[tuple[str, str]], *_: object
        ) -> Callable[[bytes], object]:
            head[:] = status, headers
            return lambda piece: None

        answer = b"".join(self._app(environ, start))
        status, headers = head
        return Reply(int(status[:3]), {name.lower(): value for name, value in headers}, answer)


def solved(service: Service, images: Images, account: str) -> float:
    """Ask about images through the gate, solving all; return the time over the bare one."""
    bare = guarded = 0.0
    for batch in np.split(images, range(BATCH, len(images), BATCH)):
        started = time.perf_counter()
        service.bare(batch)
        between = time.perf_counter()
        service.paid(batch, account)
        bare += between - started
        guarded += time.perf_counter() - between
    return guarded / bare


@dataclass(frozen=True)
class Times:
    """What prices in work are worth in time here.

    Attributes
    ----------
    service : seconds a query of the bare call, in batches of 64
    guarded : the same through the gate, estimator and both exchanges included, solving aside
    hash_rate : SHA-256 evaluations a second of the client
    """

    service: float
    guarded: float
    hash_rate: float

    @property
    def handling(self) -> float:
        """What the gate adds to a call, in service times."""
        return self.guarded / self.service - 1.0


def measure(victim: Victim, images: Images) -> Times:
    """Time bare and guarded calls by turns, in processor time, and the solver."""
    service = Service(victim, EvidenceTariff(base_work=1.0, max_work=1.0))
    batches = images[: len(images) // BATCH * BATCH].reshape(-1, BATCH, *images.shape[1:])
    bare, guarded = [], []
    for i in range(_ROUNDS):
        batch = batches[i % len(batches)]
        started = time.process_time()
        service.bare(batch)
        between = time.process_time()
        service.paid(batch, account=f"{i}", threads=1)
        bare.append(between - started)
        guarded.append(time.process_time() - between)
    return Times(median(bare) / BATCH, median(guarded) / BATCH, hash_rate(seconds=1.0))
