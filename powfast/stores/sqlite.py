"""The ledger of one host: many processes share one SQLite file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from powfast.errors import StoreUnavailable
from powfast.stores.base import (
    CLOCK_SKEW,
    NEW,
    Page,
    State,
    Tariff,
    opened,
    opening_of,
    pardoned,
    queries_of,
    settle,
    state_at,
)

T = TypeVar("T")

_Call = tuple[Callable[[], Any], Future[Any]]

# So many operations share a transaction: others may be waiting for the file.
_MOST_TOGETHER = 64

# What expires lies in buckets of so many seconds, which are dropped whole.
_BUCKET = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS page (
    account TEXT, account_group TEXT, state BLOB NOT NULL, carry REAL NOT NULL,
    charged REAL NOT NULL, PRIMARY KEY (account, account_group)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charged (
    account TEXT, account_group TEXT, request_id BLOB, work TEXT NOT NULL, bucket INTEGER NOT NULL,
    PRIMARY KEY (account, account_group, request_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charged_bucket ON charged (bucket);
CREATE TABLE IF NOT EXISTS spent (
    bucket INTEGER, challenge_id BLOB, PRIMARY KEY (bucket, challenge_id)) WITHOUT ROWID;
"""


class SQLiteLedger:
    """Accounts, groups and spent challenges in a file; for threads and processes of one host.

    Parameters
    ----------
    path
        The file; made where there is none. Its folder has to be on a local disk.
    tariff
        Prices the queries; every process has to be given the same.
    remember : float
        Seconds for which a request is known to have been charged; at least a challenge's lifetime.
    timeout : float
        Seconds to wait for other threads and processes before `StoreUnavailable`.
    clock
        Seconds since the epoch, shared by all processes.

    Raises
    ------
    StoreUnavailable
        The file cannot be opened, or is no ledger.
    """

    def __init__(
        self,
        path: str | Path,
        tariff: Tariff,
        *,
        remember: float = 3600.0,
        timeout: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._tariff = tariff
        self._remember = remember
        self._timeout = timeout
        self._clock = clock
        self._connect()

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        queries, request = queries_of(evidence), (account, group, request_id)
        if not queries:
            return 0
        with self._transaction() as (database, now):
            known = database.execute(
                "SELECT work FROM charged"
                " WHERE account = ? AND account_group = ? AND request_id = ?",
                request,
            ).fetchone()
            if known is not None:
                return int(known[0])
            mine = self._page(account, group)
            ours = self._page("", group) if group else None
            work, mine, ours = settle(self._tariff, queries, mine, ours, now)
            self._write(account, group, mine)
            if ours is not None:
                self._write("", group, ours)
            row = (*request, str(work), int((now + self._remember) // _BUCKET))
            database.execute("INSERT INTO charged VALUES (?, ?, ?, ?, ?)", row)
            return work

    def opening(self, account: str, group: str) -> int:
        """See `Ledger.opening`."""
        work = opening_of(self._tariff)
        if not work:
            return 0
        with self._transaction():
            return work if self._page(account, group) is NEW else 0

    def open(self, account: str, group: str) -> None:
        """See `Ledger.open`."""
        with self._transaction() as (_, now):
            if self._page(account, group) is NEW:
                self._write(account, group, opened(self._tariff, now))

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        with self._transaction() as (database, now):
            if expires <= now:
                return False
            row = (int((expires + CLOCK_SKEW) // _BUCKET), challenge_id)
            return database.execute("INSERT OR IGNORE INTO spent VALUES (?, ?)", row).rowcount == 1

    def state(self, account: str, group: str = "") -> State | None:
        """See `Ledger.state`."""
        with self._transaction() as (_, now):
            return state_at(self._page(account, group), now, self._tariff)

    def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        with self._transaction() as (_, now):
            self._write(account, group, pardoned(self._tariff, now))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of what this thread does meanwhile: all of it happens, or nothing.

        Raises
        ------
        StoreUnavailable
            As each of the operations.
        """
        with self._transaction():
            yield

    def _connect(self) -> None:
        """Open the file for this process: a connection must not be carried over a fork."""
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._swept = 0
        try:
            with ExitStack() as failing:
                database = sqlite3.connect(
                    self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
                )
                failing.callback(database.close)
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                database.executescript(_SCHEMA)
                failing.pop_all()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the ledger in {self._path}: {error}") from error
        self._database = database

    @contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, float]]:
        """Hold the file's one write lock, so that reading and writing are one step; tell the time.

        The lock among threads and the one among processes are waited for within one timeout.
        """
        if self._process != os.getpid():
            self._connect()
        until = time.monotonic() + self._timeout
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreUnavailable("the ledger's file is busy")
        try:
            with self._committed(max(0.0, until - time.monotonic())) as database:
                now = self._clock()
                self._sweep(now)
                yield database, now
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the ledger's file: {error}") from error
        finally:
            self._lock.release()

    @contextmanager
    def _committed(self, timeout: float) -> Iterator[sqlite3.Connection]:
        database = self._database
        if database.in_transaction:  # this thread's, as it has the lock
            yield database
            return
        database.execute(f"PRAGMA busy_timeout = {1000 * timeout:.0f}")
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")

    def _sweep(self, now: float) -> None:
        """Drop the oldest bucket whose time is over: one at a time, lest a request wait for all."""
        current = int(now // _BUCKET)
        if current != self._swept and not (
            self._drop_oldest("charged", current) + self._drop_oldest("spent", current)
        ):
            self._swept = current

    def _drop_oldest(self, table: str, current: int) -> int:
        """Drop a table's oldest bucket before the current one; return how many rows it had."""
        return self._database.execute(
            f"DELETE FROM {table} WHERE bucket < ? AND bucket = (SELECT min(bucket) FROM {table})",
            (current,),
        ).rowcount

    def _page(self, account: str, group: str) -> Page:
        row = self._database.execute(
            "SELECT state, carry, charged FROM page WHERE account = ? AND account_group = ?",
            (account, group),
        ).fetchone()
        if row is None:
            return NEW
        state, carry, charged = row
        if not isinstance(state, bytes) or len(state) % 8:
            raise StoreUnavailable("the page of this account is damaged")
        return state, carry, charged

    def _write(self, account: str, group: str, page: Page) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO page VALUES (?, ?, ?, ?, ?)",
            (account, group, *page),
        )


class AsyncSQLiteLedger:
    """`SQLiteLedger` behind an event loop: the same parameters, the work in a thread of its own.

    What waits for the thread is done in one transaction: most of an operation's time goes into
    beginning and ending one.
    """

    def __init__(
        self,
        path: str | Path,
        tariff: Tariff,
        *,
        remember: float = 3600.0,
        timeout: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = SQLiteLedger(path, tariff, remember=remember, timeout=timeout, clock=clock)
        self._timeout = timeout
        self._thread = ThreadPoolExecutor(1, "powfast-ledger")
        self._waiting: deque[_Call] = deque()
        self._called = False

    async def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        return await self._aside(self._ledger.charge, account, group, request_id, evidence)

    async def opening(self, account: str, group: str) -> int:
        """See `Ledger.opening`."""
        return await self._aside(self._ledger.opening, account, group)

    async def open(self, account: str, group: str) -> None:
        """See `Ledger.open`."""
        await self._aside(self._ledger.open, account, group)

    async def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        return await self._aside(self._ledger.claim, challenge_id, expires)

    async def state(self, account: str, group: str = "") -> State | None:
        """See `Ledger.state`."""
        return await self._aside(self._ledger.state, account, group)

    async def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        await self._aside(self._ledger.reset, account, group)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.wrap_future(self._thread.submit(self._ledger.close))
        self._thread.shutdown(wait=False)

    async def _aside(self, operation: Callable[..., T], *arguments: object) -> T:
        """Wait for the thread, those before this one in its queue included, for one timeout."""
        future: Future[T] = Future()
        self._waiting.append((partial(operation, *arguments), future))
        if not self._called:
            self._called = True
            self._thread.submit(self._work)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise StoreUnavailable("the ledger's file is busy") from None

    def _work(self) -> None:
        """Do what waits, in the thread."""
        self._called = False  # before looking: what comes later calls again
        while self._waiting:
            count = min(len(self._waiting), _MOST_TOGETHER)
            calls = [self._waiting.popleft() for _ in range(count)]
            waited_for = [(call, future) for call, future in calls if not future.cancelled()]
            if waited_for:
                self._do(waited_for)

    def _do(self, calls: list[_Call]) -> None:
        """Do them in one transaction; where one fails, each alone: it fails for nobody else."""
        try:
            with self._ledger.together():
                try:
                    results = [call() for call, _ in calls]
                except Exception as error:
                    raise _OneFailed from error
        except _OneFailed:
            for call, future in calls:
                if future.set_running_or_notify_cancel():
                    _resolve(future, call)
        except StoreUnavailable as error:  # the file was not to be had, or did not commit
            for _, future in calls:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
        else:
            for (_, future), result in zip(calls, results, strict=True):
                if future.set_running_or_notify_cancel():
                    future.set_result(result)


class _OneFailed(Exception):
    """An operation failed: what was done together with it is undone."""


def _resolve(future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
