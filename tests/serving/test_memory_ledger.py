"""What the ledger of one process keeps, and what it forgets, beside plain dictionaries."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ledgers import BASE, RUN, TARIFF, Caller, Clock

from powfast.stores import MemoryLedger
from powfast.stores.base import Outcome, Verdict


def test_memory_forgets_who_asked_least_recently() -> None:
    ledger = MemoryLedger(TARIFF, max_accounts=3)
    for i, account in enumerate(("a", "b", "c", "a", "d")):
        ledger.charge(account, "", bytes([i]), RUN, [1.0])
    assert [Caller(ledger, account).is_known for account in "abcd"] == [True, False, True, True]


def test_memory_tells_thousands_of_accounts_apart() -> None:
    rng, most = np.random.default_rng(7), 500
    ledger, recent = MemoryLedger(TARIFF, max_accounts=most), OrderedDict[str, int]()
    for request in range(20_000):
        account = f"account {int(rng.normal(1000.0, 250.0))}"
        ledger.charge(account, "", b"%d" % request, RUN, [1.0])
        recent[account] = recent.get(account, 0) + 1
        recent.move_to_end(account)
        if len(recent) > most:
            recent.popitem(last=False)
    for account in (f"account {number}" for number in range(2000)):
        record = ledger.account(account)
        assert (0 if record is None else record.state[0]) == recent.get(account, 0)


def test_memory_remembers_thousands_of_requests_for_their_time() -> None:
    clock, each, count = Clock(), 10_000, 45_000
    caller = Caller(MemoryLedger(TARIFF, remember=60.0, clock=clock)).opened()
    begin, owed = clock.now, list[float]()
    for request in range(count):
        clock.now = begin + 60.0 * request / each
        charged = caller.charge([1.0 + request % 100], b"%d" % request)
        owed.append(charged.due)
    before = caller.record
    for request in range(count - each + 1, count):
        asked = caller.enter(b"%d" % request)
        assert (asked.verdict, asked.work) == (Verdict.OWED, owed[request])
    assert np.array_equal(caller.record.state, before.state)
    assert caller.record.balance == before.balance
    forgotten = range(count - 3 * each, count - 2 * each)
    for request in forgotten:
        assert caller.enter(b"%d" % request).verdict is Verdict.DEBT  # a request like any new one


def remember_a_spent_challenge(caller: Caller, number: int, now: float) -> None:
    caller.redeem(BASE, number.to_bytes(16, "big"), b"", expires=now + 120.0)


def remember_a_request(caller: Caller, number: int, now: float) -> None:
    caller.charge([1.0], number.to_bytes(32, "big"))


def remember_what_was_prepaid(caller: Caller, number: int, now: float) -> None:
    caller.redeem(BASE, b"%d" % number, number.to_bytes(32, "big"), expires=now + 1.0)


@pytest.mark.parametrize(
    "remember", [remember_a_spent_challenge, remember_a_request, remember_what_was_prepaid]
)
def test_what_memory_remembers_takes_bounded_room(
    remember: Callable[[Caller, int, float], None],
) -> None:
    clock, each = Clock(), 10_000
    caller = Caller(MemoryLedger(TARIFF, remember=180.0, clock=clock)).opened()

    def resident(numbers: range) -> int:
        for number in numbers:
            clock.now += 180.0 / each
            remember(caller, number, clock.now)
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    before = resident(range(5 * each))
    assert resident(range(5 * each, 20 * each)) - before < 4 << 20  # of 15 MiB, were all kept


def test_what_is_settled_takes_no_room() -> None:
    clock = Clock()
    caller = Caller(MemoryLedger(TARIFF, remember=1e9, clock=clock)).opened()

    def resident(numbers: range) -> int:
        for number in numbers:
            digest = number.to_bytes(32, "big")
            caller.enter(digest)
            caller.leave(Outcome.FREE, digest)
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    before = resident(range(10_000))
    assert resident(range(10_000, 150_000)) - before < 4 << 20
