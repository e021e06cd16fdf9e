"""Where one amount equals another, and where two rules meet: what mutation of `account.c` found."""

from __future__ import annotations

import pytest
from ledgers import (
    BASE,
    LIMITS,
    NOW,
    OPENING,
    RUN,
    TARIFF,
    Caller,
    Clock,
    NewLedger,
    every_kind,  # noqa: F401
    one_server,  # noqa: F401
)

from powfast.stores.base import Entry, Paid, Verdict

SECOND, THIRD = b"2" * 16, b"3" * 16
TWO, DEAR = [1.0] * 2, [50.0] * 3
PRICE = float(TARIFF.work(DEAR, [1.0] + [0.0] * 7)[0].sum())  # for an account that was reset
PAID = Paid(b"paid", NOW + 120.0, unread=True)


def test_a_price_that_is_just_answered_is_answered(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    assert caller.enter(limits=LIMITS._replace(refuse_above=BASE)).verdict == Verdict.RUN


def test_credit_that_just_covers_is_enough(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    assert caller.charge(TWO)[:2] == (2 * BASE, 2 * BASE)
    caller.redeem(2 * BASE, digest=b"")
    assert (caller.record.balance, caller.record.unpaid_runs) == (0, 0)
    assert caller.enter(run=SECOND) == Entry(Verdict.COVERED, 0.0, RUN)


def test_a_sample_of_what_is_covered_costs_its_price_less_what_was_paid(
    new_ledger: NewLedger,
) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    caller.charge(TWO)
    caller.redeem(3 * BASE, digest=b"")
    assert caller.enter(run=SECOND).verdict == Verdict.COVERED
    charged = caller.charge(DEAR, run=SECOND)
    assert charged.due == pytest.approx(charged.price - 3 * BASE)
    assert caller.record.balance == pytest.approx(-charged.due)


def test_who_reads_what_is_covered_leaves_what_else_is_unpaid(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    caller.charge(TWO)
    caller.redeem(2 * BASE, digest=b"")
    caller.enter(run=SECOND)
    caller.enter(b"2", THIRD)
    assert caller.charge(TWO, run=SECOND).due == 0
    assert caller.record.unpaid_runs == 1


def test_a_debt_is_asked_for_less_what_the_request_has_paid_before(new_ledger: NewLedger) -> None:
    caller, limits = Caller(new_ledger()).opened(), LIMITS._replace(unpaid_runs=1.0)
    caller.enter(b"unpaid", limits=limits)
    caller.redeem(BASE / 4, digest=b"1")
    assert caller.enter(limits=limits) == Entry(Verdict.DEBT, 2 * BASE - BASE / 4, b"")


def test_what_is_paid_ahead_pays_once_beside_what_runs_again(new_ledger: NewLedger) -> None:
    """It goes to a debt, and no sample of the paid request is covered by it as well."""
    caller = Caller(new_ledger()).opened()
    caller.enter()
    assert caller.redeem(caller.charge(DEAR).due, PAID.challenge_id).verdict == Verdict.PAID
    caller.enter(b"unpaid")
    caller.charge([1.0] * 8, b"unpaid")
    caller.redeem(BASE, b"ahead")
    before = caller.record.balance
    assert caller.enter(run=SECOND, again=PAID).verdict == Verdict.RUN
    assert caller.record.balance == before + BASE < 0
    charged = caller.charge([60.0], run=SECOND, paid=PAID)
    assert charged.due == charged.price - PRICE


def test_an_opening_that_is_drawn_pays_for_nothing_else(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger())
    caller.redeem(OPENING + BASE)
    refused = caller.enter(limits=LIMITS._replace(refuse_above=1.0))
    assert (refused.verdict, caller.record.opened) == (Verdict.TOO_HIGH, True)
    assert caller.enter().verdict == Verdict.RUN
    assert caller.charge(TWO).due == BASE


def test_a_copy_that_is_refused_takes_nothing_from_a_run_that_takes_long(
    new_ledger: NewLedger,
) -> None:
    clock = Clock()
    caller = Caller(new_ledger(clock=clock)).opened()
    caller.enter(b"unpaid")
    caller.charge([1.0] * 8, b"unpaid")
    caller.redeem(BASE)
    assert caller.enter().verdict == Verdict.RUN
    clock.now += LIMITS.busy
    refused = caller.enter(run=SECOND, limits=LIMITS._replace(unpaid_runs=0.0))
    assert refused.verdict == Verdict.DEBT
    assert caller.charge([1.0]).due == 0


def test_a_paid_request_that_ran_again_is_read_once(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    assert caller.redeem(caller.charge(DEAR).due, PAID.challenge_id).verdict == Verdict.PAID
    assert caller.enter(run=SECOND, again=PAID).verdict == Verdict.RUN
    assert caller.charge(DEAR, run=SECOND, paid=PAID).due == 0
    assert caller.enter(run=THIRD, again=PAID).verdict == Verdict.SPENT
