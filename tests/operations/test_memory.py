"""A gate that has seen many lifetimes remembers no more than one that has seen a few."""

from __future__ import annotations

import gc
import math
import mmap
from pathlib import Path
from typing import Any

from traffic import Clock

from powfast.accounts import account_of
from powfast.challenge import Issuer
from powfast.gate import Gate
from powfast.http import Answer, format_solution, request_digest
from powfast.servers.asgi import PowMiddleware
from powfast.stores import MemoryLedger
from powfast.stores.base import Limits
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff

LIFETIME, PER_LIFETIME, ACCOUNTS = 10.0, 250, 50


class Server:
    """A middleware in which everything lives ten seconds of a clock that requests advance."""

    def __init__(self) -> None:
        self.clock, self.statuses = Clock(), dict[int, int]()
        self.issuer = Issuer({"a": bytes(32)}, ttl=LIFETIME, clock=self.clock)
        ledger = MemoryLedger(EvidenceTariff(1.0), remember=LIFETIME, clock=self.clock)
        self.held = HeldAnswers(lifetime=LIFETIME, clock=self.clock)
        gate = Gate(self.issuer, ledger, self.held)
        self.app = PowMiddleware(answer, gate, evidence=lambda exchange: [1.0])

    def ask(self, number: int, account: int, solution: str | None = None) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"%d" % number}

        async def send(message: dict[str, Any]) -> None:
            if "status" in message:
                status = message["status"]
                self.statuses[status] = self.statuses.get(status, 0) + 1

        headers = [(b"authorization", b"Bearer %d" % account)]
        if solution is not None:
            headers.append((b"pow-solution", solution.encode()))
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        try:
            self.app(scope, receive, send).send(None)
        except StopIteration:
            return
        raise AssertionError("nothing here waits")

    def kinds(self, number: int) -> None:
        """One request of each kind: new, garbage, flooding, paid."""
        self.clock.now += LIFETIME / PER_LIFETIME
        account = number % ACCOUNTS
        self.ask(number, account)
        self.ask(0, 0, "rubbish.AAAA")
        self.ask(-number, 1)
        digest = request_digest("POST", b"/?", b"%d" % (2 * number), {}.get)
        token = self.issuer.issue(work=1, account=account_of(f"Bearer {account}"), request=digest)
        self.ask(2 * number, account, format_solution(token, (0,)))


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


def test_memory_is_flat() -> None:
    server, objects = Server(), []
    for number in range(1, 25 * PER_LIFETIME + 1):
        server.kinds(number)
        if number % PER_LIFETIME == 0:
            gc.collect()
            objects.append((len(gc.get_objects()), len(server.held)))
    assert set(server.statuses) == {200, 402}
    assert server.statuses[200] >= 25 * PER_LIFETIME
    (early, waiting), (late, still) = objects[4], objects[-1]
    assert abs(still - waiting) <= 2
    assert abs(late - early) < 40  # of some thirty thousand, after twenty lifetimes more


def test_what_is_remembered_of_a_request_is_nothing_that_the_collector_walks() -> None:
    server = Server()

    def walked(numbers: range) -> int:
        for number in numbers:
            server.ask(number, number)
        for _ in range(3):  # a tuple is looked at once its own parts have been
            gc.collect()
        return len(gc.get_objects())

    before = walked(range(500))
    assert walked(range(500, 1000)) < before + 50
    assert server.statuses == {402: 1000}


def test_what_stores_of_one_process_keep_outside_python_is_bounded() -> None:
    clock, each, answer = Clock(), 10_000, Answer(200, ((b"a", b"b"),), bytes(100))
    ledger = MemoryLedger(EvidenceTariff(1000.0), remember=LIFETIME, max_accounts=1000, clock=clock)
    held = HeldAnswers(lifetime=LIFETIME, clock=clock)
    limits = Limits(256.0, math.inf, LIFETIME)

    def resident(numbers: range) -> int:
        for number in numbers:
            clock.now += LIFETIME / each
            whose = f"account {number}", "", number.to_bytes(32, "big")
            run = number.to_bytes(16, "big")
            ledger.enter(*whose, run, limits)
            ledger.charge(*whose, run, [1.0])
            ledger.redeem(*whose, run, clock.now + LIFETIME, 500)
            held.put(whose[0], run, answer)
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    before = resident(range(20 * each))
    assert resident(range(20 * each, 40 * each)) - before < 4 << 20  # of 60 MiB, were all kept
    assert abs(len(held) - each) <= 2
