"""What the ledger in a file keeps, what it forgets, and how an operator looks after it."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest
from ledgers import BASE, TARIFF, Caller, Clock, recipe

from powfast.errors import StoreUnavailable
from powfast.sketch import Advance
from powfast.stores import SQLiteLedger
from powfast.stores.base import CLOCK_SKEW, Verdict

COUNTS = "SELECT (SELECT count(*) FROM request), (SELECT count(*) FROM spent)"


def test_what_is_charged_outlives_the_process(tmp_path: Path) -> None:
    def opened() -> closing[SQLiteLedger]:
        return closing(SQLiteLedger(tmp_path / "ledger.db", TARIFF, clock=Clock()))

    with opened() as ledger:
        caller = Caller(ledger, "a", "g").opened(credit=9 * BASE)
        caller.enter()
        due = caller.charge([9.0] * 9).due
    with opened() as ledger:
        caller = Caller(ledger, "a", "g")
        assert caller.enter().work == due
        assert caller.redeem(1, b"credit").verdict == Verdict.SPENT
        assert caller.record.state[0] == 1 + ledger.account("", "g").state[0] == 10


def test_spent_challenges_and_requests_of_a_file_take_bounded_room(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "ledger.db"
    counts = "SELECT (SELECT count(*) FROM request), (SELECT count(*) FROM spent)"
    with closing(SQLiteLedger(file, TARIFF, clock=clock, remember=120.0)) as ledger:
        caller, remembered = Caller(ledger).opened(), []
        for n in range(600):
            clock.now += 1.0
            caller.redeem(BASE, b"%d" % n, expires=clock.now + 120.0)
            caller.report([1.0], name=b"%d" % n)
            with closing(sqlite3.connect(file)) as database:
                remembered.append(database.execute(counts).fetchone())
    # one a second, each for its 120 s, spent ones the clocks' 60 s, and what is left of a bucket
    requests, spent = map(max, zip(*remembered, strict=True))
    assert requests <= 120 + 2 * 10
    assert spent <= 120 + CLOCK_SKEW + 2 * 10


def test_nobody_waits_for_a_night_s_sweep(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "ledger.db"
    with closing(SQLiteLedger(file, TARIFF, clock=clock, remember=600.0)) as ledger:
        caller = Caller(ledger).opened()
        for bucket in range(20):  # of 10 s
            clock.now += 10.0
            for n in range(3):
                caller.report([1.0], name=bytes([bucket, n]))
                caller.redeem(1, bytes([bucket, n]), b"", expires=clock.now + 540.0)
        clock.now += 86_400.0
        left = []
        with closing(sqlite3.connect(file)) as database:
            for _ in range(22):
                assert caller.is_known
                left.append(database.execute(COUNTS).fetchone())
    assert left == [(3 * max(0, 19 - n),) * 2 for n in range(22)]


def test_an_operator_drops_idle_accounts_of_a_file(tmp_path: Path) -> None:
    clock = Clock(time.time() - 400 * 86_400)
    with closing(SQLiteLedger(tmp_path / "ledger.db", TARIFF, clock=clock)) as ledger:
        idle, busy = Caller(ledger, "idle").opened(), Caller(ledger, "busy").opened()
        clock.now = time.time()
        busy.charge([1.0])
        (statement,) = re.findall(r'"(DELETE .*?)"', recipe("sqlite3"))
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as database:
            database.execute(statement)
        assert [idle.is_known, busy.is_known] == [False, True]


def doubles_with(at: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda record: record[: 8 * at] + value + record[8 * at + 8 :]


NAN, MINUS_ONE = bytes.fromhex("000000000000f87f"), bytes.fromhex("000000000000f0bf")
DAMAGES: dict[str, Callable[[bytes], Any]] = {
    "not a number": doubles_with(1, NAN),
    "nothing": lambda _: b"",
    "one byte": lambda _: b"x",
    "short": lambda record: record[:-1],
    "long": lambda record: record + b"x",
    "ones": lambda record: b"\xff" * len(record),
    "text": lambda _: "text",
    "a number": lambda _: 7,
}
OF_AN_ACCOUNT = DAMAGES | {
    "negative wealth": doubles_with(3, MINUS_ONE),
    "negative queries": doubles_with(0, MINUS_ONE),
    "half a query": doubles_with(0, bytes.fromhex("000000000000f83f")),
    "no balance": doubles_with(8, NAN),
    "negative runs": doubles_with(9, MINUS_ONE),
    "half opened": doubles_with(10, MINUS_ONE),
    "no charge": doubles_with(11, NAN),
    "no beginning": doubles_with(12, NAN),
}


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        *(("account", damage) for damage in OF_AN_ACCOUNT),
        *((table, damage) for table in ("request", "spent") for damage in DAMAGES),
    ],
)
def test_a_damaged_record_is_an_unavailable_store(tmp_path: Path, table: str, damage: str) -> None:
    file = tmp_path / "ledger.db"
    with closing(SQLiteLedger(file, TARIFF, clock=Clock())) as ledger:
        caller = Caller(ledger, "a", "g").opened()
        caller.enter()
        caller.redeem(caller.charge([9.0]).due)
        caller.enter()
        caller.charge([9.0])
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            (record, *_) = database.execute(f"SELECT record FROM {table}").fetchone()
            damaged = OF_AN_ACCOUNT[damage](record)
            database.execute(f"UPDATE {table} SET record = ?", (damaged,))
            before = "\n".join(database.iterdump())
            steps: list[Callable[[], Any]] = [
                caller.enter,
                lambda: caller.charge([9.0]),
                lambda: caller.redeem(1, b"another"),
            ]
            for step in [lambda: caller.redeem(1)] if table == "spent" else steps:
                with pytest.raises(StoreUnavailable, match="damaged"):
                    step()
            assert "\n".join(database.iterdump()) == before


def test_a_file_that_another_process_opens_as_well_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE another (id)")
        other.execute("BEGIN IMMEDIATE")  # SQLite switches to WAL now or not at all
        with pytest.raises(StoreUnavailable, match="locked"):
            SQLiteLedger(file, TARIFF, timeout=0.1)
        reader = Timer(0.3, other.execute, ["COMMIT"])
        reader.start()
        SQLiteLedger(file, TARIFF, timeout=60).close()
        reader.join()


def test_a_record_of_account_evidence_has_the_size_that_the_docs_state(tmp_path: Path) -> None:
    def size(numbers: int) -> int:
        file = tmp_path / f"{numbers}.db"
        tariff = replace(TARIFF, account_evidence=numbers > 0)
        given = [1.0], np.ones(numbers), np.zeros(numbers), bytes(7) + b"v"
        advance = Advance(*given) if numbers else None
        with closing(SQLiteLedger(file, tariff)) as ledger:
            ledger.charge("alice", "", bytes(32), bytes(16), [1.0], advance=advance)
        with closing(sqlite3.connect(file)) as database:
            (found,) = database.execute("SELECT length(record) FROM account").fetchone()
        return int(found)

    assert [size(numbers) - size(0) for numbers in (1, 65, 192)] == [96, 608, 1624]
