"""Sketches of accounts and groups: in one step with the charge, in every kind of store."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledgers import (
    LIMITS,
    PROBATION,
    TARIFF,
    Clock,
    NewLedger,
    every_kind,  # noqa: F401
    one_server,  # noqa: F401
)
from sketch_oracle import sketch_bytes

from powfast.errors import InvalidInput, StoreUnavailable
from powfast.sketch import MOST_NUMBERS, Advance
from powfast.stores import MemoryLedger, RedisLedger, SQLiteLedger
from powfast.stores.base import Charged, Entry, Paid

SKETCHED = replace(TARIFF, account_evidence=True)
ONE, OTHER = b"one of 8", b"another8"


def added(queries: int = 1, version: bytes = ONE, fixed: float = 0.0, own: float = 1.0) -> Advance:
    sums = [float(queries), 0.25, -3.0]
    return Advance([own] * queries, sums, [fixed, fixed, fixed], version)


def enter(ledger: Any, group: str = "", again: Paid | None = None, run: bytes = b"") -> Entry:
    entry: Entry = ledger.enter("a", group, os.urandom(8), run or os.urandom(16), LIMITS, again)
    return entry


def charge(
    ledger: Any,
    advance: Advance | None,
    theirs: Advance | None = None,
    evidence: list[float] | None = None,
    group: str = "",
) -> Charged:
    queries = [1.0] * len(advance.evidence) if evidence is None and advance else evidence
    given = "a", group, os.urandom(8), os.urandom(16), queries, None, "", advance, theirs
    charged: Charged = ledger.charge(*given)
    return charged


def test_enter_says_what_requests_have_added_up_to(new_ledger: NewLedger) -> None:
    ledger = new_ledger(SKETCHED)
    ledger.reset("a", "g")
    assert enter(ledger, "g")[3:] == (None, None)
    charge(ledger, added(2, fixed=2.0), added(2), group="g")
    charge(ledger, added(3, fixed=1.0), None, group="g")
    _, _, _, mine, ours = enter(ledger, "g")
    assert (mine.sums.tolist(), mine.fixed.tolist()) == ([5.0, 0.5, -6.0], [2.0, 2.0, 2.0])
    assert (ours.sums.tolist(), ours.fixed.tolist()) == ([2.0, 0.25, -3.0], [0.0, 0.0, 0.0])
    assert mine.version == ours.version == ONE


def test_what_runs_again_gets_them_and_what_is_refused_does_not(new_ledger: NewLedger) -> None:
    ledger = new_ledger(SKETCHED)
    ledger.reset("a")
    charge(ledger, added())  # which leaves a debt
    run, digest = os.urandom(16), b"1"
    ledger.enter("a", "", digest, run, LIMITS)
    due = ledger.charge("a", "", digest, run, [1.0], None, "", added()).due
    assert ledger.enter("a", "", digest, os.urandom(16), LIMITS)[3:] == (None, None)  # OWED
    challenge = os.urandom(16)
    ledger.redeem("a", "", digest, challenge, 4e9, math.ceil(due))
    again = ledger.enter("a", "", digest, os.urandom(16), LIMITS, Paid(challenge, 4e9, True))
    assert again.sketch.sums[0] == 2.0


def test_a_run_that_is_paid_adds_nothing_a_second_time(new_ledger: NewLedger) -> None:
    ledger = new_ledger(SKETCHED)
    ledger.reset("a")
    run = os.urandom(16)
    ledger.enter("a", "", b"1", run, LIMITS)
    due = ledger.charge("a", "", b"1", run, [1.0], None, "", added()).due
    before = ledger.account("a")
    assert ledger.charge("a", "", b"1", run, [1.0], None, "", added(own=9.0)).due == due  # resent
    ledger.redeem("a", "", b"1", b"c" * 16, 4e9, math.ceil(due))
    rerun = os.urandom(16)
    ledger.enter("a", "", b"1", rerun, LIMITS, Paid(b"c" * 16, 4e9, True))
    ledger.charge("a", "", b"1", rerun, [1.0], None, "", added(own=9.0))
    after = ledger.account("a")
    assert sketch_bytes(after.sketch) == sketch_bytes(before.sketch)
    assert (after.state == before.state).all()


def test_another_estimator_begins_anew_with_no_more_than_there_was(new_ledger: NewLedger) -> None:
    ledger = new_ledger(SKETCHED)
    ledger.reset("a")
    for own in (0.1, 0.1, 0.1):
        charge(ledger, added(4, own=own, fixed=3.0))
    lost = ledger.account("a").state
    left = lost[9:16].mean() + lost[16] / (lost[8] + 1)
    charge(ledger, added(1, OTHER))
    record = ledger.account("a")
    assert record.sketch.version == OTHER
    assert record.sketch.sums.tolist() == [1.0, 0.25, -3.0]
    assert record.sketch.fixed.tolist() == [0.0, 0.0, 0.0]
    assert record.state[8] == 1.0
    assert record.state[16] == pytest.approx(left) and left < 0.5
    assert record.state[0] == 14.0  # what its queries say of themselves goes on


def test_an_accused_account_is_relieved_by_another_estimator(new_ledger: NewLedger) -> None:
    ledger = new_ledger(SKETCHED)
    ledger.reset("a")
    assert charge(ledger, added(6, own=30.0)).price > 1000 * SKETCHED.base_work
    assert charge(ledger, added(1, OTHER)).price == SKETCHED.base_work
    assert ledger.account("a").state[16] == 1.0


def test_a_group_pays_for_what_its_accounts_add_up_to(new_ledger: NewLedger) -> None:
    ledger = new_ledger(SKETCHED)
    ledger.reset("a", "g")
    dear = charge(ledger, added(3), added(3, own=30.0), group="g")
    ledger.reset("a", "h")
    assert dear.price > charge(ledger, added(3), added(3), group="h").price
    assert ledger.account("", "g").sketch.sums[0] == 3.0


def test_newcomers_go_by_their_queries_alone(new_ledger: NewLedger) -> None:
    ledger = new_ledger(replace(PROBATION, account_evidence=True))
    charge(ledger, added(4, own=30.0))
    pool = ledger.newcomers()
    assert pool.state[0] == 4.0 and pool.state[1:].max() < 0.01
    assert pool.sketch is None


def test_reset_and_forgetting_drop_them(new_ledger: NewLedger) -> None:
    ledger = new_ledger(SKETCHED)
    charge(ledger, added(3, own=30.0))
    ledger.reset("a")
    record = ledger.account("a")
    assert record.sketch is None and len(record.state) == 8
    assert enter(ledger).sketch is None


def test_half_lives_take_from_both(new_ledger: NewLedger) -> None:
    clock = Clock()
    ledger = new_ledger(replace(SKETCHED, half_life=10.0), clock=clock)
    charge(ledger, added(3, own=30.0, fixed=3.0))
    before = ledger.account("a")
    clock.now += 10.0
    after = ledger.account("a")
    np.testing.assert_allclose(after.state[9:16], before.state[9:16] / 2, rtol=1e-15)
    assert after.state[16] == before.state[16]
    assert sketch_bytes(after.sketch) == sketch_bytes(before.sketch)


# -- hostile or mistaken


GOOD: dict[str, Any] = {
    "evidence": [1.0], "sums": [1.0, 2.0], "fixed": [0.0, 0.0], "version": ONE,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"evidence": [-1.0]},
        {"evidence": [math.nan]},
        {"evidence": [[1.0]]},
        {"sums": [1.0]},
        {"sums": [1.0, math.nan]},
        {"sums": [1.0, math.inf]},
        {"sums": [1.0, -math.inf]},
        {"sums": [1.0, 2.0**61]},
        {"sums": [-1.0, 0.0]},
        {"sums": [], "fixed": []},
        {"sums": [1.0] * (MOST_NUMBERS + 1), "fixed": [0.0] * (MOST_NUMBERS + 1)},
        {"fixed": [0.0, math.nan]},
        {"fixed": [-1.0, 0.0]},
        {"sums": ["1", "2"]},
        {"version": b"seven b"},
        {"version": b"nine byte"},
        {"version": bytes(8)},
        {"version": "one of 8"},
        {"version": None},
    ],
    ids=str,
)
def test_what_is_no_advance_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Advance(**(GOOD | change))
    Advance(**GOOD)


@pytest.mark.parametrize(
    ("evidence", "mine", "theirs", "group"),
    [
        ([1.0, 1.0], added(1), None, ""),
        ([1.0], added(2), None, ""),
        ([], added(1), None, ""),
        ([1.0], added(1), added(1), ""),
        ([1.0], added(1), added(2), "g"),
    ],
)
def test_a_charge_that_does_not_fit_changes_nothing(
    new_ledger: NewLedger,
    evidence: list[float],
    mine: Advance,
    theirs: Advance | None,
    group: str,
) -> None:
    ledger = new_ledger(SKETCHED)
    charge(ledger, added(2), group=group)
    before = ledger.account("a", group)
    with pytest.raises(InvalidInput):
        charge(ledger, mine, theirs, evidence, group)
    after = ledger.account("a", group)
    assert sketch_bytes(after.sketch) == sketch_bytes(before.sketch)
    assert (after.state == before.state).all() and after.balance == before.balance


def test_a_tariff_without_account_evidence_takes_none(new_ledger: NewLedger) -> None:
    ledger = new_ledger(TARIFF)
    with pytest.raises(InvalidInput, match="account_evidence"):
        charge(ledger, added(1))
    assert ledger.account("a") is None
    assert enter(ledger)[3:] == (None, None)


def test_the_longest_sketch_is_kept(new_ledger: NewLedger) -> None:
    ledger = new_ledger(SKETCHED)
    numbers = np.arange(1.0, 1.0 + MOST_NUMBERS)
    advance = Advance([1.0], numbers, numbers, ONE)
    for _ in range(2):
        charge(ledger, advance)
    record = ledger.account("a")
    assert (record.sketch.sums == 2 * numbers).all() and (record.sketch.fixed == numbers).all()


# -- nodes, restarts, tariffs that change, damaged records


@pytest.fixture(params=["sqlite", "redis"])
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Opens one store, any number of times, by a tariff."""
    if request.param == "sqlite":
        yield lambda tariff=SKETCHED: SQLiteLedger(tmp_path / "l.db", tariff, timeout=30.0)
    else:
        with request.getfixturevalue("server").client() as client:
            prefix = f"{request.node.name}:"
            yield lambda tariff=SKETCHED: RedisLedger(client, tariff, prefix=prefix)


def test_nothing_is_lost_where_two_nodes_charge_at_once(nodes: Any) -> None:
    ledgers = [nodes(), nodes()]
    with ThreadPoolExecutor(4) as pool:
        work = partial(charge, advance=added(2, fixed=1.0), theirs=added(2), group="g")
        for _ in pool.map(work, ledgers * 50):
            pass
    for who in (("a", "g"), ("", "g")):
        record = ledgers[0].account(*who)
        assert record.sketch.sums.tolist() == [200.0, 25.0, -300.0]
        assert record.state[0] == record.state[8] == 200.0


def test_threads_of_one_process_lose_nothing() -> None:
    ledger = MemoryLedger(SKETCHED)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(partial(charge, advance=added(2)), [ledger] * 200):
            pass
    assert ledger.account("a").sketch.sums[0] == 400.0


def test_a_restart_and_a_tariff_without_them(nodes: Any) -> None:
    charge(nodes(), added(3, own=30.0))
    known = nodes().account("a")
    assert known.sketch.sums[0] == 3.0
    off = nodes(TARIFF)
    assert len(off.account("a").state) == 8  # it prices by the queries alone
    assert off.tariff.price(off.account("a").state) == 1.0
    off.charge("a", "", b"1", os.urandom(16), [1.0])
    assert nodes().account("a").sketch is None


def stored(ledger: SQLiteLedger | RedisLedger) -> bytes:
    """The record of the one account."""
    if isinstance(ledger, SQLiteLedger):
        record: bytes = ledger._database.execute("SELECT record FROM account").fetchone()[0]
    else:
        record = ledger._client.get(ledger._record("a", ""))
    return record


def store(ledger: SQLiteLedger | RedisLedger, record: bytes) -> None:
    if isinstance(ledger, SQLiteLedger):
        ledger._database.execute("UPDATE account SET record = ?", (record,))
    else:
        ledger._client.set(ledger._record("a", ""), record)


SKETCH = 88 + 2 * 3 * 4  # bytes of one with three numbers
DAMAGE = {  # which double of a sketch, and what it must not be
    "queries": (0, 0.5),
    "wealth": (3, -1.0),
    "capital": (8, 1.5),
    "count": (9, 2.0),
    "a sum": (12, math.nan),
}


@pytest.mark.parametrize("damage", ["cut", "longer", *DAMAGE])
def test_a_damaged_sketch_is_an_unavailable_store(nodes: Any, damage: str) -> None:
    ledger = nodes()
    ledger.reset("a")
    charge(ledger, added(3))
    numbers = np.frombuffer(stored(ledger), "<f8").copy()
    if damage in DAMAGE:
        place, value = DAMAGE[damage]
        numbers[place - SKETCH // 8] = value
    damaged = {"cut": numbers[:-1], "longer": np.r_[numbers, 0.0, 0.0]}.get(damage, numbers)
    store(ledger, damaged.tobytes())
    for operation in (
        lambda: charge(ledger, added(1)),
        lambda: ledger.account("a"),
        lambda: enter(ledger),
    ):
        assert stored(ledger) == damaged.tobytes()
        with pytest.raises(StoreUnavailable):
            operation()
