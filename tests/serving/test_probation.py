"""What newcomers pay in every ledger: base prices in peace, the opening at most otherwise."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ledgers import (
    BASE,
    LIMITS,
    OPENING,
    PROBATION,
    TARIFF,
    Caller,
    Clock,
    NewLedger,
    every_kind,  # noqa: F401
    one_server,  # noqa: F401
)

from powfast.stores import MemoryLedger
from powfast.stores.base import Charged, Entry, Outcome, Paid, Verdict

FLOOR_FIRST = LIMITS._replace(unpaid_runs=0.0)
SECOND = b"second run's byte"[:16]


def heated(ledger: Any, pool: str = "") -> Any:
    """The ledger, once an extractor has asked with fresh accounts: newcomers pay 50 base prices."""
    for n in range(20):
        Caller(ledger, f"extractor {n}", pool=pool).charge([50.0])
    assert PROBATION.newcomers_price(ledger.newcomers(pool).state) == 50
    return ledger


def test_a_first_query_costs_a_base_price(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger(PROBATION))
    assert caller.enter(limits=FLOOR_FIRST) == Entry(Verdict.DEBT, BASE, b"")
    assert not caller.is_known
    caller.redeem(BASE)
    assert caller.enter(limits=FLOOR_FIRST).verdict == Verdict.RUN
    assert caller.charge([1.0]) == Charged(0.0, BASE, 0.0, 1.0)
    assert (caller.record.opened, caller.record.surcharged) == (False, 0)
    assert caller.ledger.newcomers().state[0] == 1


def test_a_newcomer_pays_the_opening_once_while_its_pool_is_hot(new_ledger: NewLedger) -> None:
    caller = Caller(heated(new_ledger(PROBATION)))
    prices = []
    for n in range(4):
        digest = b"%d" % n
        asked = caller.enter(digest, limits=FLOOR_FIRST).work
        caller.redeem(asked, digest, digest)
        assert caller.enter(digest, limits=FLOOR_FIRST).verdict == Verdict.RUN
        assert caller.charge([1.0], digest).due == 0
        prices.append(asked)
    assert prices == [OPENING, 2 * BASE, BASE, BASE]
    assert (caller.record.opened, caller.record.surcharged) == (True, OPENING)


def test_an_account_that_has_paid_leaves_the_pool(new_ledger: NewLedger) -> None:
    ledger = heated(new_ledger(PROBATION))
    before = ledger.newcomers().state
    caller = Caller(ledger).opened()
    assert caller.enter(limits=FLOOR_FIRST).work == BASE
    assert caller.charge([50.0] * 9).price > BASE
    assert (ledger.newcomers().state == before).all()


def test_a_batch_crosses_the_opening_in_its_middle(new_ledger: NewLedger) -> None:
    caller = Caller(heated(new_ledger(PROBATION)))
    assert caller.enter(limits=FLOOR_FIRST, queries=9).work == OPENING + 9 * BASE
    charged = caller.charge([1.0] * 9)
    assert charged.price == OPENING + 9 * BASE
    assert not caller.record.opened  # it owes that
    assert caller.ledger.newcomers().state[0] == 20 + 9
    caller.redeem(charged.due)
    assert caller.record.opened


def test_whoever_pays_half_of_an_opening_owes_the_other_half(new_ledger: NewLedger) -> None:
    ledger = new_ledger(PROBATION)
    caller = Caller(ledger)
    state, numbers = None, itertools.count()
    while PROBATION.newcomers_price(state) < 1 + OPENING / BASE / 2:
        Caller(ledger, f"another {next(numbers)}").charge([3.0])
        state = ledger.newcomers().state
    caller.charge([1.0], b"1")
    paid = caller.record.surcharged
    assert OPENING / 2 <= paid < OPENING
    heated(ledger)
    assert caller.charge([1.0] * 9, b"2").price == pytest.approx(OPENING - paid + 9 * BASE)
    assert caller.record.surcharged == OPENING


def test_requests_at_once_owe_one_opening_together(new_ledger: NewLedger) -> None:
    caller = Caller(heated(new_ledger(PROBATION)))
    limits = LIMITS._replace(unpaid_runs=100.0)

    def ask(n: int) -> None:
        digest = b"%d" % n
        caller.enter(digest, digest.ljust(16), limits)
        if n % 2:
            caller.charge([1.0], digest, digest.ljust(16))
            if n % 4 == 1:
                caller.leave(Outcome.UNPAID, digest, digest.ljust(16))
        else:
            caller.leave(Outcome.UNPAID, digest, digest.ljust(16))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(32)))
    record = caller.record
    assert record.surcharged <= OPENING
    assert -record.balance == pytest.approx(record.surcharged + 32 * BASE)
    caller.charge([1.0] * 60, b"last")
    assert -caller.record.balance == pytest.approx(OPENING + 92 * BASE)


def test_an_opening_counts_once_it_is_paid_and_no_longer_when_given_back(
    new_ledger: NewLedger,
) -> None:
    caller = Caller(heated(new_ledger(PROBATION)))
    caller.enter(queries=9)
    owed = caller.charge([1.0] * 9).price
    caller.redeem(owed - 1, b"nearly all", b"")
    assert caller.enter(run=SECOND).verdict == Verdict.OWED
    assert not caller.record.opened
    caller.redeem(1, b"all", b"")
    assert caller.enter(run=SECOND).verdict == Verdict.COVERED
    assert caller.record.opened
    caller.leave(Outcome.FREE, run=SECOND)  # the answer was lost, and the endpoint fails
    record = caller.record
    assert (record.balance, record.surcharged, record.opened) == (owed, 0, False)


def test_a_run_again_counts_no_surcharge_twice(new_ledger: NewLedger) -> None:
    caller = Caller(heated(new_ledger(PROBATION)))
    caller.enter()
    charged = caller.charge([1.0])
    caller.redeem(charged.due)
    before = caller.record
    assert 0 < before.surcharged < OPENING
    again = Paid(b"c" * 16, caller.ledger.account("a").charged + 120.0, True)
    assert caller.enter(run=SECOND, again=again).verdict == Verdict.RUN
    assert caller.charge([1.1], run=SECOND, paid=again).due == 0
    assert caller.record.surcharged == before.surcharged


def test_pools_know_nothing_of_each_other(new_ledger: NewLedger) -> None:
    ledger = heated(new_ledger(PROBATION), "hot")
    caller = Caller(ledger, pool="cold")
    assert caller.enter(limits=FLOOR_FIRST).work == BASE
    assert ledger.newcomers("cold") is None
    hopping = Caller(ledger, pool="hot")
    assert hopping.enter(limits=FLOOR_FIRST).work == OPENING
    ledger.reset_newcomers("hot")
    assert hopping.enter(limits=FLOOR_FIRST).work == BASE
    assert not ledger.newcomers("hot").state.any()


def test_a_hot_group_is_no_opening(new_ledger: NewLedger) -> None:
    ledger = heated(new_ledger(PROBATION))
    for n in range(9):
        Caller(ledger, f"member {n}", "g").charge([50.0])
    caller = Caller(ledger, "a", "g")
    assert caller.charge([1.0]).price > 10 * OPENING
    assert caller.record.surcharged == 0


def test_a_clock_set_back_changes_no_pool(new_ledger: NewLedger) -> None:
    clock = Clock()
    ledger = heated(new_ledger(PROBATION, clock=clock))
    before = ledger.newcomers()
    for seconds in (-1e6, 1e9):
        clock.now += seconds
        assert (ledger.newcomers().state == before.state).all()
        assert Caller(ledger).enter(limits=FLOOR_FIRST).work == OPENING


def test_reports_of_newcomers_heat_their_pool(new_ledger: NewLedger) -> None:
    ledger = new_ledger(PROBATION)
    for n in range(20):
        Caller(ledger, f"extractor {n}").report([50.0], paid=BASE)
    assert Caller(ledger).enter(limits=FLOOR_FIRST).work == OPENING


def test_without_probation_there_is_no_pool(new_ledger: NewLedger) -> None:
    ledger = new_ledger(TARIFF)
    Caller(ledger).charge([50.0])
    assert ledger.newcomers() is None
    assert Caller(ledger, "b").enter().verdict == Verdict.OPENING


def test_a_memory_ledger_bounds_its_pools() -> None:
    ledger = heated(MemoryLedger(PROBATION), "first")
    for n in range(4096):
        Caller(ledger, f"a {n}", pool=str(n)).charge([1.0])
    assert ledger.newcomers("first") is None
    assert ledger.newcomers("4095") is not None
