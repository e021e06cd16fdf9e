"""What every ledger promises, whatever stores it: prices, atomicity, what is remembered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_oracle import Oracle, bits
from ledgers import (
    BASE,
    LIMITS,
    NOW,
    OPENING,
    TARIFF,
    Caller,
    Clock,
    NewLedger,
    every_kind,  # noqa: F401
    one_server,  # noqa: F401
)
from stores import RedisServer

from powfast.accounts import SharedName
from powfast.errors import InvalidInput
from powfast.stores import MemoryLedger, RedisLedger, SQLiteLedger
from powfast.stores.base import CLOCK_SKEW, Verdict
from powfast.tariff import EvidenceTariff, Iclr2022Tariff

EVIDENCE = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=30)

settings.load_profile("stores")


@given(EVIDENCE, st.data())
def test_splitting_a_batch_changes_no_price(
    new_ledger: NewLedger, evidence: list[float], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(evidence)))
    whole, parts = Caller(new_ledger()), Caller(new_ledger())
    price = whole.charge(evidence).price
    halves = [
        parts.charge(half, b"%d" % n).price for n, half in enumerate(np.split(evidence, [cut]))
    ]
    assert sum(halves) == pytest.approx(price)
    assert np.array_equal(whole.record.state, parts.record.state)
    assert -whole.record.balance == price == pytest.approx(-parts.record.balance)


@given(EVIDENCE, st.integers(0, 29), st.floats(0.0, 100.0))
def test_more_evidence_never_lowers_a_price(evidence: list[float], at: int, more: float) -> None:
    at %= len(evidence)
    raised = [e + more * (i == at) for i, e in enumerate(evidence)]
    assert (TARIFF.work(raised)[0] >= TARIFF.work(evidence)[0]).all()


@given(EVIDENCE, EVIDENCE)
def test_nobody_else_changes_my_price(
    new_ledger: NewLedger, mine: list[float], theirs: list[float]
) -> None:
    alone, beside = Caller(new_ledger()), Caller(new_ledger())
    Caller(beside.ledger, "they").charge(theirs)
    assert beside.charge(mine) == alone.charge(mine)


@pytest.mark.parametrize(
    "tariff",
    [
        TARIFF,
        EvidenceTariff(BASE, OPENING, half_life=3600.0),
        EvidenceTariff(BASE, OPENING, volume=((3, 1.7), (70, 2.5), (100, 4.0))),
        EvidenceTariff(777.0, max_work=1e7, step=0.5, half_life=7.0, volume=((1, 1.1), (9, 3.0))),
    ],
    ids=["plain", "half-life", "volume", "everything"],
)
@pytest.mark.parametrize("kind", [str, SharedName])
def test_prices_and_records_are_the_naive_ones_to_the_last_bit(
    new_ledger: NewLedger, tariff: EvidenceTariff, kind: type[str]
) -> None:
    rng, clock, group = np.random.default_rng(7), Clock(), kind("g")
    callers = [Caller(made(tariff, clock=clock), kind("a"), group) for made in (new_ledger, Oracle)]
    sizes_and_waits = [(1, 0), (3, 1e-3), (64, 2000.1), (9, -500), (200, 600), (9, 3e4), (4, 1e9)]
    for batch, (size, wait) in enumerate(sizes_and_waits):
        clock.now += wait
        evidence = rng.exponential(1.5, size)
        evidence[rng.integers(size)] = rng.choice([30.0, np.inf if size == 9 else 0.0])
        entered, expected = (caller.enter(b"%d" % batch) for caller in callers)
        assert entered == expected
        charged, expected = (caller.charge(evidence, b"%d" % batch) for caller in callers)
        assert charged == expected
        for name in ("a", ""):
            found, expected = (caller.ledger.account(kind(name), group) for caller in callers)
            assert bits(found)[0] == bits(expected)[0]
            assert found.balance == expected.balance or not name


def test_wealth_halves_while_nothing_is_asked(new_ledger: NewLedger) -> None:
    clock = Clock()
    caller = Caller(new_ledger(EvidenceTariff(BASE, half_life=60.0), clock=clock))
    caller.charge([20.0] * 5)
    before = caller.record.state
    clock.now += 120.0
    assert caller.record.state == pytest.approx([5, *before[1:] / 4])
    clock.now -= 1000.0  # a clock that goes backwards counts as no time
    assert np.array_equal(caller.record.state, before)
    caller.charge([1.0], b"2")
    after = caller.record.state
    clock.now += 1000.0  # and what it goes forward again is not counted twice
    assert caller.record.state == pytest.approx([6, *after[1:] / 4])


def test_a_group_is_charged_for_all_its_accounts(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for n in range(20):
        last = Caller(ledger, f"account {n}", "prefix").charge([20.0]).price
    assert last > 100 * Caller(new_ledger(), "one").charge([20.0]).price
    assert ledger.account("", "prefix").state[0] == 20


@pytest.mark.parametrize("evidence", [[float("nan")], [-1.0], [[1.0]], ["x"], None])
def test_malformed_evidence_raises_and_writes_nothing(
    new_ledger: NewLedger, evidence: list[float]
) -> None:
    caller = Caller(new_ledger(), "a", "g")
    for operation in (caller.charge, caller.report):
        with pytest.raises(InvalidInput):
            operation(evidence)
    assert not caller.is_known
    assert caller.ledger.account("", "g") is None


def test_concurrent_queries_cost_what_serial_ones_do(new_ledger: NewLedger) -> None:
    ledger, serial = new_ledger(), Caller(Oracle(TARIFF, clock=Clock())).opened()
    caller = Caller(ledger).opened()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda n: caller.charge([1.5], b"%d" % n), range(200)))
    for n in range(200):
        serial.charge([1.5], b"%d" % n)
    assert bits(caller.record) == bits(serial.record)


def test_of_many_copies_at_once_one_runs(new_ledger: NewLedger) -> None:
    caller, barrier = Caller(new_ledger()).opened(credit=9 * BASE), threading.Barrier(32)

    def enter(n: int) -> Verdict:
        barrier.wait()
        return caller.enter(run=bytes([n]) * 16).verdict

    with ThreadPoolExecutor(32) as pool:
        verdicts = sorted(pool.map(enter, range(32)))
    assert verdicts == [Verdict.RUN] + [Verdict.BUSY] * 31
    assert caller.record.balance == 8 * BASE


def test_no_more_run_at_once_than_may_be_unpaid(new_ledger: NewLedger) -> None:
    caller = Caller(new_ledger()).opened()
    with ThreadPoolExecutor(32) as pool:
        entries = list(pool.map(lambda n: caller.enter(b"%d" % n), range(64)))
    assert sum(entry.verdict == Verdict.RUN for entry in entries) == LIMITS.unpaid_runs
    assert caller.record.balance == -LIMITS.unpaid_runs * BASE


def test_a_challenge_is_redeemed_once_by_64_threads(new_ledger: NewLedger) -> None:
    caller, barrier = Caller(new_ledger()).opened(), threading.Barrier(64)

    def redeem(_: int) -> Verdict:
        barrier.wait()
        return caller.redeem(BASE, digest=b"").verdict

    with ThreadPoolExecutor(64) as pool:
        verdicts = sorted(pool.map(redeem, range(64)))
    assert verdicts == [Verdict.SPENT] * 63 + [Verdict.CREDITED]
    assert caller.record.balance == BASE


def test_a_request_is_remembered_for_its_time(new_ledger: NewLedger) -> None:
    clock = Clock()
    caller = Caller(new_ledger(remember=60.0, clock=clock)).opened()
    caller.enter()
    caller.charge([9.0])
    for clock.now in (NOW + 59.0, NOW + 118.0):  # whoever asks is reminded of it again
        assert caller.enter().verdict == Verdict.OWED


def test_a_request_that_is_forgotten_leaves_its_debt(
    new_ledger: NewLedger, server: RedisServer
) -> None:
    clock = Clock()
    caller = Caller(new_ledger(remember=60.0, clock=clock)).opened()
    caller.enter()
    price = caller.charge([9.0]).price
    other = Caller(caller.ledger, "b").opened()
    other.report([1.0])
    clock.now += 1000.0
    with server.client() as client:  # Redis forgets by a clock of its own
        for key in client.scan_iter("*:request:*"):
            if client.pttl(key) <= 60_000:
                client.delete(key)
    assert caller.enter().verdict == Verdict.RUN
    assert caller.record.balance < -price
    other.report([1.0])
    assert other.record.state[0] == 3


def test_an_expired_challenge_cannot_be_redeemed(new_ledger: NewLedger) -> None:
    clock = Clock()
    caller = Caller(new_ledger(clock=clock)).opened()
    assert caller.redeem(1, b"old", b"", expires=NOW).verdict == Verdict.SPENT
    assert caller.redeem(1, b"new", b"", expires=NOW + 60.0).verdict == Verdict.CREDITED
    clock.now += 60.0
    assert caller.redeem(1, b"another", b"", expires=NOW + 60.0).verdict == Verdict.SPENT
    assert caller.record.balance == 1


def test_a_challenge_stays_spent_where_clocks_differ(new_ledger: NewLedger) -> None:
    clock, expires = Clock(), NOW + 60.0
    caller = Caller(new_ledger(clock=clock)).opened()
    caller.redeem(1, digest=b"", expires=expires)
    for clock.now in (expires + CLOCK_SKEW - 0.1, expires - 1.0):
        assert caller.redeem(1, digest=b"", expires=expires).verdict == Verdict.SPENT
        another = f"another at {clock.now}".encode()
        assert caller.redeem(1, another, b"", expires=clock.now + 1.0).verdict == Verdict.CREDITED


def test_a_clock_set_back_further_doubles_a_redemption_at_most(new_ledger: NewLedger) -> None:
    clock, expires = Clock(), NOW + 60.0
    caller = Caller(new_ledger(clock=clock)).opened()
    caller.redeem(1, digest=b"", expires=expires)
    clock.now = expires + 3600.0  # wrong all the while, or the challenge is long over
    assert caller.redeem(1, digest=b"", expires=expires).verdict == Verdict.SPENT
    assert caller.redeem(1, b"another", b"", expires=clock.now + 60.0).verdict == Verdict.CREDITED
    clock.now = expires - 1.0
    for _ in range(3):
        caller.redeem(1, digest=b"", expires=expires)
    assert caller.record.balance <= 3


@pytest.mark.parametrize("tariff", [Iclr2022Tariff(1.0, 1.0), None])
@pytest.mark.parametrize("make", [MemoryLedger, SQLiteLedger, RedisLedger])
def test_ledgers_price_no_other_tariff(make: type, tariff: object) -> None:
    with pytest.raises(InvalidInput, match="price the evidence tariff"):
        make(*([] if make is MemoryLedger else [None]), tariff)
