"""Ledgers of every kind, and callers who use them, for the tests of what all ledgers promise."""

from __future__ import annotations

import itertools
import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import ROOT
from hypothesis import settings
from stores import OnALoop, RedisServer, loop_in_a_thread, redis_serving

from powfast.stores import (
    AsyncRedisLedger,
    AsyncSQLiteLedger,
    MemoryLedger,
    RedisLedger,
    SQLiteLedger,
)
from powfast.stores.base import (
    AccountRecord,
    Charged,
    Entry,
    Limits,
    Outcome,
    Paid,
    Redeemed,
)
from powfast.tariff import EvidenceTariff

BASE = 1000.0
OPENING = 50 * BASE
PROBATION = EvidenceTariff(base_work=BASE, opening_work=OPENING)
TARIFF = replace(PROBATION, probation=False)
NOW = 1_800_000_000.0
LIMITS = Limits(unpaid_runs=8.0, refuse_above=math.inf, busy=10.0)
MOST_ACCOUNTS = 20
RUN = b"first run's bytes"[:16]
NewLedger = Callable[..., Any]

settings.register_profile("stores", deadline=None, max_examples=15)  # files take their time


class Clock:
    """Stands still unless it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Caller:
    """One account, in the words of a test that says only what it is about."""

    ledger: Any
    name: str = "a"
    group: str = ""
    pool: str = ""

    def enter(
        self,
        digest: bytes = b"1",
        run: bytes = RUN,
        limits: Limits = LIMITS,
        again: Paid | None = None,
        queries: int = 1,
    ) -> Entry:
        given = self.name, self.group, digest, run, limits, again, queries, self.pool
        entry: Entry = self.ledger.enter(*given)
        return entry

    def charge(
        self,
        evidence: Sequence[float],
        digest: bytes = b"1",
        run: bytes = RUN,
        paid: Paid | None = None,
    ) -> Charged:
        given = self.name, self.group, digest, run, evidence, paid, self.pool
        charged: Charged = self.ledger.charge(*given)
        return charged

    def leave(self, outcome: Outcome, digest: bytes = b"1", run: bytes = RUN) -> None:
        self.ledger.leave(self.name, self.group, digest, run, outcome)

    def redeem(
        self,
        work: float,
        challenge: bytes = b"c" * 16,
        digest: bytes = b"1",
        expires: float = NOW + 120.0,
    ) -> Redeemed:
        given = self.name, self.group, digest, challenge, expires, math.ceil(work)
        redeemed: Redeemed = self.ledger.redeem(*given)
        return redeemed

    def report(self, evidence: Sequence[float], paid: float = 0.0, name: bytes = b"r") -> None:
        self.ledger.report(self.name, self.group, name, evidence, paid, self.pool)

    @property
    def record(self) -> AccountRecord:
        record = self.ledger.account(self.name, self.group)
        assert record is not None
        return record  # type: ignore[no-any-return]

    @property
    def is_known(self) -> bool:
        return self.ledger.account(self.name, self.group) is not None

    def opened(self, credit: float = 0.0) -> Caller:
        """Itself, once it has paid its opening, with credit that any request may use."""
        self.ledger.reset(self.name, self.group)
        if credit:
            self.redeem(credit, b"credit", b"")
        return self


def new_small_ledger(new_ledger: NewLedger, tariff: EvidenceTariff, **options: Any) -> Any:
    """Make one whose accounts `forget_accounts` can drop."""
    ledger = new_ledger(tariff, **options)
    if isinstance(ledger, MemoryLedger):
        ledger = MemoryLedger(tariff, max_accounts=MOST_ACCOUNTS, **options)
    return ledger


def forget_accounts(ledger: Any) -> None:
    """Drop all accounts and groups, as an operator may, or a full memory: nothing else goes."""
    for wrapped in ("_store", "_ledger"):  # behind a loop, in a thread
        ledger = vars(ledger).get(wrapped, ledger)
    if isinstance(ledger, MemoryLedger):
        for number in range(MOST_ACCOUNTS):
            ledger.reset(f"another {number}")
    elif isinstance(ledger, SQLiteLedger):
        with closing(sqlite3.connect(ledger._path, isolation_level=None)) as database:
            database.execute("DELETE FROM account")
    else:
        with redis.Redis(port=ledger._client.connection_pool.connection_kwargs["port"]) as client:
            keys = client.keys(f"{ledger._prefix}*")
            kinds = [key.rpartition(b"}:")[2].partition(b":")[0] for key in keys]
            for key, kind in zip(keys, kinds, strict=True):
                if kind in (b"account", b"group"):
                    client.delete(key)


def recipe(command: str) -> str:
    """What docs/stores.md tells an operator to run."""
    (block,) = re.findall(
        rf"```sh\n(.*{command}.*?)```", (ROOT / "docs/stores.md").read_text(), re.S
    )
    return block


@pytest.fixture(name="server", scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_serving(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(
    name="new_ledger",
    scope="module",
    params=["memory", "sqlite", "sqlite on a loop", "redis", "redis on a loop"],
)
def every_kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewLedger]:
    """Makes empty ledgers of one kind, whose clock stands still."""
    number, patience = itertools.count(), 30.0
    folder = tmp_path_factory.mktemp("ledgers")

    def new_file() -> Path:
        return folder / f"{next(number)}.db"

    def new_prefix() -> str:
        return f"{request.module.__name__} {request.param} {next(number)}:"

    def making(make: Callable[..., Any]) -> NewLedger:
        return lambda tariff=TARIFF, **options: make(tariff, **{"clock": Clock()} | options)

    if request.param == "memory":
        yield making(MemoryLedger)
    elif request.param == "sqlite":
        files = []

        def new_in_file(tariff: Any, **options: Any) -> SQLiteLedger:
            files.append(SQLiteLedger(new_file(), tariff, timeout=patience, **options))
            return files[-1]

        yield making(new_in_file)
        for ledger in files:
            ledger.close()
    elif request.param == "sqlite on a loop":
        threads = []
        with loop_in_a_thread() as run:

            def new_in_thread(tariff: Any, **options: Any) -> OnALoop:
                ledger = AsyncSQLiteLedger(new_file(), tariff, timeout=patience, **options)
                threads.append(OnALoop(ledger, run))
                return threads[-1]

            yield making(new_in_thread)
            for ledger in threads:
                ledger.close()
    elif request.param == "redis":
        with request.getfixturevalue("server").client() as client:
            yield making(
                lambda tariff, **options: RedisLedger(
                    client, tariff, prefix=new_prefix(), **options
                )
            )
    else:
        port = request.getfixturevalue("server").port
        with loop_in_a_thread() as run:
            client = redis.asyncio.Redis(port=port, socket_timeout=patience)

            def new_on_loop(tariff: Any, **options: Any) -> OnALoop:
                options |= {"prefix": new_prefix(), "timeout": patience}
                return OnALoop(AsyncRedisLedger(client, tariff, **options), run)

            yield making(new_on_loop)
            run(client.aclose())
