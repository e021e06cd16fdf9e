"""The walks of a request through the accounting: who runs, what is charged, what pays for it."""

from __future__ import annotations

import math

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
from stores import RedisServer

from powfast.accounts import SharedName
from powfast.stores import RedisLedger
from powfast.stores.base import (
    RERUNS,
    Charged,
    Entry,
    Outcome,
    Paid,
    Verdict,
    tag_of,
)
from powfast.tariff import EvidenceTariff

SECOND, THIRD = b"2" * 16, b"3" * 16
DEAR = [50.0] * 3
PRICE = float(TARIFF.work(DEAR, [1.0] + [0.0] * 7)[0].sum())  # for an account that was reset
RUNS = Entry(Verdict.RUN, 0.0, RUN)


def test_a_new_account_is_asked_for_its_opening_and_the_price_first(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger())
    asked = Entry(Verdict.OPENING, OPENING + BASE, b"")
    assert [caller.enter(), caller.enter(b"2", SECOND)] == [asked] * 2
    assert not caller.is_known
    assert caller.redeem(asked.work - 1)[:3] == (Verdict.CREDITED, b"", 0.0)
    assert caller.enter() == RUNS
    assert (caller.record.balance, caller.record.opened) == (-1, True)
    assert caller.record.unpaid_runs == 1  # it is one evaluation short


def test_an_opening_that_is_not_paid_whole_opens_nothing(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger())
    caller.redeem(OPENING - 1)
    assert caller.enter() == Entry(Verdict.OPENING, BASE + 1, b"")
    assert caller.enter(b"2") == Entry(Verdict.OPENING, OPENING + BASE, b"")
    assert not caller.record.opened
    caller.redeem(BASE + 1, b"rest")
    assert caller.enter() == RUNS
    assert (caller.record.balance, caller.record.unpaid_runs) == (0, 0)


def test_credit_pays_for_a_request_as_it_comes(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened(credit=5 * BASE)
    assert caller.enter() == RUNS
    assert caller.record.balance == 4 * BASE
    assert caller.charge([1.0, 1.0]) == Charged(0.0, 2 * BASE, 3 * BASE)
    assert (caller.record.balance, caller.record.unpaid_runs) == (3 * BASE, 0)
    assert caller.record.state[0] == 3  # an account that is reset has one query behind it


def test_credit_that_covered_a_run_stays_its_own(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened(credit=BASE)
    caller.enter(b"1")
    caller.enter(b"2")
    assert caller.charge([3.0] * 3, b"2").due > BASE
    charged = caller.charge([0.0], b"1")
    assert charged.due == charged.price - BASE


def test_what_is_due_is_paid_for_in_parts(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened(credit=BASE)
    caller.enter()
    due = PRICE - BASE
    assert caller.charge(DEAR) == Charged(due, PRICE, -due)
    assert caller.enter(run=SECOND) == Entry(Verdict.OWED, due, b"")
    assert caller.redeem(BASE)[:3] == (Verdict.OWED, b"", due - BASE)
    assert caller.redeem(BASE).verdict == Verdict.SPENT
    assert caller.redeem(due, b"rest")[:3] == (Verdict.PAID, RUN, 0.0)
    assert caller.redeem(due, b"rest")[:3] == (Verdict.AGAIN, RUN, 0.0)
    assert 0 <= caller.record.balance <= BASE + 1
    assert caller.record.unpaid_runs == 0


def test_a_request_is_paid_by_its_own_work_whatever_else_is_owed(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    for digest in (b"1", b"2"):
        caller.enter(digest)
        due = caller.charge(DEAR, digest).due
    assert caller.record.balance < -due
    assert caller.redeem(due, digest=b"2").verdict == Verdict.PAID
    assert caller.record.unpaid_runs == 1
    assert caller.enter(b"1").verdict == Verdict.OWED


def test_an_opening_s_work_settles_no_dear_request(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    due = caller.charge([50.0] * 20).due
    assert due > 100 * OPENING
    assert caller.redeem(OPENING)[:3] == (Verdict.OWED, b"", due - OPENING)


def test_credit_covers_a_charged_request(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    due = caller.charge(DEAR).due
    caller.redeem(due, digest=b"")
    left = math.ceil(due) - due
    assert caller.enter(run=SECOND) == Entry(Verdict.COVERED, left, RUN)
    assert caller.enter(run=THIRD).verdict == Verdict.BUSY
    caller.leave(Outcome.ANSWERED, run=SECOND)
    assert caller.record.balance == left
    assert caller.enter(run=THIRD).verdict == Verdict.RUN  # a new request


def test_what_is_covered_runs_again_for_its_evidence_alone(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    for digest in (b"1", b"2"):
        caller.enter(digest)
        caller.charge(DEAR, digest)
    caller.redeem(-caller.record.balance, digest=b"")
    caller.enter(b"1", SECOND)
    before = caller.record
    assert caller.charge(DEAR, b"1", SECOND) == Charged(0.0, PRICE, before.balance)
    assert caller.record.balance == before.balance
    assert caller.record.state[0] == before.state[0]
    caller.enter(b"2", SECOND)
    assert caller.charge([60.0], b"2", SECOND).price > PRICE  # another sample: charged anew
    assert caller.record.state[0] == before.state[0] + 1


def test_a_paid_request_whose_answer_is_gone_runs_again_a_few_times(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    caller.redeem(caller.charge(DEAR).due, b"paid")
    again = Paid(b"paid", NOW + 120.0, True)
    for _ in range(RERUNS):
        assert caller.enter(run=SECOND, again=again) == Entry(Verdict.RUN, 0.0, SECOND)
        assert caller.enter(run=THIRD, again=again).verdict == Verdict.BUSY
        assert caller.charge(DEAR, run=SECOND).due == 0
    assert caller.enter(run=THIRD, again=again).verdict == Verdict.SPENT
    assert caller.record.state[0] == 1 + len(DEAR)


@pytest.mark.parametrize("challenge", [b"credit", b"unknown"])
def test_only_what_paid_for_a_request_lets_it_run_again(
    new_ledger: NewLedger, challenge: bytes
) -> None:
    caller = Caller(new_ledger()).opened(credit=BASE)
    again = Paid(challenge, NOW + 120.0, True)
    assert caller.enter(again=again) == Entry(Verdict.SPENT, 0.0, b"")


def test_copies_wait_until_the_answer_can_be_there(new_ledger: NewLedger) -> None:
    clock = Clock()
    caller = Caller(new_ledger(clock=clock)).opened(credit=5 * BASE)
    caller.enter()
    clock.now += 4.0
    assert caller.enter(run=SECOND) == Entry(Verdict.BUSY, LIMITS.busy - 4.0, b"")
    assert caller.enter(b"2", SECOND).verdict == Verdict.RUN
    clock.now += 6.0
    assert caller.enter(run=THIRD).verdict == Verdict.RUN  # the first is lost, its price stays
    assert caller.record.balance == 2 * BASE


def test_unpaid_runs_are_bounded_and_then_the_whole_debt_is_owed(new_ledger: NewLedger) -> None:
    caller, limits = Caller(new_ledger()).opened(), LIMITS._replace(unpaid_runs=3.0)
    for n in range(3):
        assert caller.enter(b"%d" % n, limits=limits).verdict == Verdict.RUN
    refused = Entry(Verdict.DEBT, 4 * BASE, b"")
    assert caller.enter(b"3", limits=limits) == refused
    for n in range(3):
        caller.leave(Outcome.UNPAID, b"%d" % n)  # hanging up gives no run back
    assert caller.enter(b"3", limits=limits) == refused
    caller.redeem(refused.work, digest=b"3")
    assert caller.enter(b"3", limits=limits).verdict == Verdict.RUN
    assert caller.charge([1.0], b"3").due == 0
    assert caller.record.balance == 0
    assert caller.enter(b"4", limits=limits).verdict == Verdict.RUN
    assert caller.record.unpaid_runs == 1


def test_nothing_runs_above_the_price_that_is_refused(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened(credit=10 * BASE)
    before = caller.record.balance
    refused = caller.enter(limits=LIMITS._replace(refuse_above=BASE - 1))
    assert refused == Entry(Verdict.TOO_HIGH, BASE, b"")
    assert caller.record.balance == before


def test_an_opening_is_drawn_though_the_price_is_refused(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger())
    caller.redeem(OPENING + BASE)
    assert caller.enter(limits=LIMITS._replace(refuse_above=1.0)).verdict == Verdict.TOO_HIGH
    assert caller.record.opened
    assert caller.enter() == RUNS  # the rest of its work waited for it
    assert (caller.record.balance, caller.record.unpaid_runs) == (0, 0)


@pytest.mark.parametrize(
    ("is_charged", "outcome", "balance", "unpaid"),
    [
        (False, Outcome.ANSWERED, -BASE, 1),
        (False, Outcome.FREE, 0.0, 0),
        (False, Outcome.UNPAID, -BASE, 1),
        (True, Outcome.ANSWERED, -PRICE, 1),
        (True, Outcome.FREE, 0.0, 0),
        (True, Outcome.UNPAID, -BASE, 1),  # refused: the price of the moment stays
    ],
)
def test_how_a_run_ends_says_what_of_it_stays(
    new_ledger: NewLedger, is_charged: bool, outcome: Outcome, balance: float, unpaid: float
) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    if is_charged:
        caller.charge(DEAR)
    caller.leave(outcome, run=SECOND)  # of another run: nothing
    caller.leave(outcome)
    assert caller.record.balance == pytest.approx(balance)
    assert caller.record.unpaid_runs == unpaid
    assert caller.enter(run=SECOND).verdict == Verdict.RUN


def test_a_run_without_queries_costs_nothing(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    assert caller.charge([]) == Charged(0.0, 0.0, 0.0)
    assert (caller.record.balance, caller.record.unpaid_runs) == (0, 0)
    assert Caller(caller.ledger, "b").charge([]) == Charged(0.0, 0.0, 0.0)
    assert not Caller(caller.ledger, "b").is_known


def test_another_run_s_charge_leaves_the_one_that_runs_alone(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened(credit=5 * BASE)
    caller.enter()
    assert caller.charge([1.0], run=SECOND) == Charged(0.0, BASE, 3 * BASE)
    assert caller.enter(run=THIRD).verdict == Verdict.BUSY
    assert caller.charge([1.0]) == Charged(0.0, BASE, 3 * BASE)
    assert caller.record.balance == 3 * BASE


def test_a_gateway_s_report_is_charged_once_and_asked_for_first(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    for _ in range(2):
        caller.report(DEAR, paid=BASE)
    assert caller.record.balance == pytest.approx(BASE - PRICE)
    assert caller.record.unpaid_runs == math.inf
    assert caller.enter().verdict == Verdict.DEBT
    caller.redeem(caller.enter().work)
    assert caller.enter().verdict == Verdict.RUN
    caller.report(DEAR, paid=1e300, name=b"another")
    assert caller.record.state[0] == 1 + 2 * len(DEAR)


def test_a_solution_pays_for_its_request_where_the_balance_covers_the_rest(
    new_ledger: NewLedger,
) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    caller.redeem(caller.charge(DEAR).due, b"prepaid", b"")
    assert caller.redeem(1)[:3] == (Verdict.PAID, RUN, 0.0)


def test_credit_is_capped_and_never_lowered(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    for work, balance in ((900, 900), (900, 1000), (5000, 5000), (1, 5000), (5000, 5000)):
        caller.redeem(work * BASE, b"%d %d" % (work, caller.record.balance), b"")
        assert caller.record.balance == balance * BASE


def test_names_that_pay_nothing_leave_nothing(new_ledger: NewLedger) -> None:
    ledger = new_ledger(EvidenceTariff(BASE))
    refused = LIMITS._replace(refuse_above=1.0)
    caller = Caller(ledger, "no opening", "g")
    assert caller.enter(limits=refused).verdict == Verdict.TOO_HIGH
    assert caller.enter(limits=LIMITS._replace(unpaid_runs=0.0)).verdict == Verdict.DEBT
    assert caller.enter(again=Paid(b"x", NOW + 1.0, False)).verdict == Verdict.SPENT
    assert caller.redeem(BASE, expires=NOW).verdict == Verdict.SPENT
    caller.leave(Outcome.FREE)
    caller.charge([])
    assert not caller.is_known
    assert ledger.account("", "g") is None


def test_names_that_pay_nothing_leave_no_key(server: RedisServer) -> None:
    with server.client() as client:
        ledger = RedisLedger(
            client, EvidenceTariff(BASE, OPENING, probation=False), prefix="nothing:"
        )
        caller = Caller(ledger, "a", "g")
        assert caller.enter().verdict == Verdict.OPENING
        test_names_that_pay_nothing_leave_nothing(
            lambda tariff: RedisLedger(client, tariff, prefix="nothing:", clock=Clock())
        )
        assert client.keys("nothing:*") == []


@pytest.mark.parametrize(
    ("name", "half_life", "wealth", "unpaid"),
    [
        ("one key", None, 1.0, 1.0),
        ("one key", 86_400.0, 0.25, 1.0),
        (SharedName("198.51.100.0/24"), None, 0.25, 0.25),
        (SharedName("198.51.100.0/24"), 2 * 86_400.0, 0.5, 0.5),
    ],
)
def test_wealth_halves_and_unpaid_runs_that_are_shared(
    new_ledger: NewLedger, name: str, half_life: float | None, wealth: float, unpaid: float
) -> None:
    clock = Clock()
    ledger = new_ledger(EvidenceTariff(BASE, OPENING, half_life=half_life), clock=clock)
    caller = Caller(ledger, name).opened()
    caller.enter()
    caller.charge(DEAR)
    before = caller.record
    clock.now += 2 * 86_400.0
    assert caller.record.state[1:] == pytest.approx(wealth * before.state[1:])
    assert caller.record.balance == before.balance
    assert caller.record.unpaid_runs == unpaid


def test_what_a_report_left_to_a_network_is_asked_of_nobody(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger(), SharedName("198.51.100.0/24")).opened()
    caller.report(DEAR)
    assert caller.record.balance == -PRICE
    assert caller.record.unpaid_runs == 0
    assert caller.enter().verdict == Verdict.RUN
    assert caller.charge([1.0]).price > BASE  # the wealth of all has risen


def test_a_reported_debt_is_asked_for_before_what_was_charged(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    caller.enter()
    due = caller.charge([1.0]).due
    caller.report(DEAR, paid=BASE)
    debt = -caller.record.balance
    assert debt > due
    assert caller.enter(run=SECOND) == Entry(Verdict.OWED, debt, b"")
    assert caller.redeem(due, b"cheap").verdict == Verdict.OWED
    assert caller.redeem(debt, b"whole").verdict == Verdict.PAID


def test_an_account_that_is_reset_owes_nothing(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger(), "a", "g").opened()
    caller.report(DEAR)
    for name in ("a", "b", ""):
        one = Caller(caller.ledger, name, "g").opened()
        assert one.record.state.tolist() == [1.0] + [0.0] * 7
    assert (caller.record.balance, caller.record.unpaid_runs) == (0, 0)
    assert caller.enter() == RUNS
    other = Caller(caller.ledger, "a", "other")
    assert other.enter().verdict == Verdict.OPENING  # an account is of its group


def test_the_higher_price_of_account_and_group_is_asked_and_charged(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    Caller(ledger, "a", "g").opened().report(DEAR)
    caller = Caller(ledger, "b", "g").opened()
    caller.enter()
    floor = -caller.record.balance
    assert floor == pytest.approx(BASE * ledger.account("", "g").state[1:].mean())
    assert caller.charge([1.0]).price > floor > 100 * BASE


def test_a_tag_is_the_hash_of_little_endian_doubles() -> None:
    # printf 000000000000f03f0000000000004940 | xxd -r -p | sha256sum
    assert tag_of([1.0, 50.0]).hex() == "1a20fb087cd866c5"
