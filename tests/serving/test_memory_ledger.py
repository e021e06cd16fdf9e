"""What the ledger of one process keeps, and what it forgets, beside plain dictionaries."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

TARIFF = EvidenceTariff(base_work=1000.0, opening_work=50_000.0)


class Clock:
    """Stands still unless it is set."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_memory_forgets_who_asked_least_recently() -> None:
    ledger = MemoryLedger(TARIFF, max_accounts=3)
    for i, account in enumerate(("a", "b", "c", "a", "d")):
        ledger.charge(account, "", bytes([i]), [1.0])
    assert [ledger.state(account) is None for account in "abcd"] == [False, True, False, False]


def test_memory_tells_thousands_of_accounts_apart() -> None:
    rng, most = np.random.default_rng(7), 500
    ledger, recent = MemoryLedger(TARIFF, max_accounts=most), OrderedDict[str, int]()
    for request in range(20_000):
        account = f"account {int(rng.normal(1000.0, 250.0))}"
        ledger.charge(account, "", b"%d" % request, [1.0])
        recent[account] = recent.get(account, 0) + 1
        recent.move_to_end(account)
        if len(recent) > most:
            recent.popitem(last=False)
    for account in (f"account {number}" for number in range(2000)):
        state = ledger.state(account)
        assert (0 if state is None else state[0]) == recent.get(account, 0)


def test_memory_remembers_thousands_of_requests_for_their_time() -> None:
    clock, each, count = Clock(), 10_000, 45_000
    ledger = MemoryLedger(TARIFF, remember=60.0, clock=clock)
    begin, works = clock.now, list[int]()
    for request in range(count):
        clock.now = begin + 60.0 * request / each
        works.append(ledger.charge("a", "", b"%d" % request, [1.0 + request % 100]))
    before = ledger.state("a")
    for request in range(count - each + 1, count):
        assert ledger.charge("a", "", b"%d" % request, [0.0]) == works[request]
    assert np.array_equal(ledger.state("a"), before)  # type: ignore[arg-type]
    forgotten = range(count - 2 * each)
    for request in forgotten:
        ledger.charge("a", "", b"%d" % request, [0.0])
    assert ledger.state("a")[0] == count + len(forgotten)  # type: ignore[index]
