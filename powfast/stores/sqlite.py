"""The ledger of one host: many processes share one SQLite file."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from numpy.typing import ArrayLike

from powfast.accounts import SharedName
from powfast.errors import StoreUnavailable
from powfast.sketch import Advance
from powfast.stores.base import (
    CLOCK_SKEW,
    AccountRecord,
    Charged,
    Entry,
    Limits,
    Outcome,
    Paid,
    Redeemed,
    Verdict,
    half_life_of,
    queries_of,
    report_digest,
    require_evidence_tariff,
    tag_of,
)
from powfast.stores.packing import packed_advances, record_of, sketch_of
from powfast.tariff import EvidenceTariff

# What expires lies in buckets of so many seconds, which are dropped whole.
_BUCKET = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (
    account TEXT, account_group TEXT, record BLOB NOT NULL, charged REAL NOT NULL,
    PRIMARY KEY (account, account_group)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS newcomers (
    pool TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS request (
    account TEXT, account_group TEXT, digest BLOB, record BLOB NOT NULL, bucket INTEGER NOT NULL,
    PRIMARY KEY (account, account_group, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS request_bucket ON request (bucket);
CREATE TABLE IF NOT EXISTS spent (
    bucket INTEGER, challenge_id BLOB, record BLOB NOT NULL,
    PRIMARY KEY (bucket, challenge_id)) WITHOUT ROWID;
"""

_Key = tuple[str, str]
_Party = tuple[bytes | None, float, bool]
"""A record, its half-life in seconds, and whether several people share it."""


class SQLiteLedger:
    """Accounts, groups and spent challenges in a file; for threads and processes of one host.

    Parameters
    ----------
    path
        The file; made where there is none. Its folder has to be on a local disk.
    tariff : EvidenceTariff
        Prices the queries; every process has to be given the same.
    remember : float
        Seconds for which a request is remembered; at least a challenge's lifetime.
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
        tariff: EvidenceTariff,
        *,
        remember: float = 3600.0,
        timeout: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self.tariff: EvidenceTariff = require_evidence_tariff(tariff)
        self._accounting = tariff.native
        self._remember = remember
        self._timeout = timeout
        self._clock = clock
        self._connect()

    def enter(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        limits: Limits,
        again: Paid | None = None,
        queries: int = 1,
        newcomers: str = "",
    ) -> Entry:
        """See `Ledger.enter`."""
        key = account, group
        with self._transaction() as (_, now):
            party = self._party(*key)
            known = self._known(party, *key, digest)
            number, work, held, mine, request, spent, *sketches = self._accounting.enter(
                party,
                self._party("", group) if group else None,
                self._pool(newcomers),
                known,
                None if again is None else self._spent(again),
                None if again is None else again.unread,
                run,
                limits,
                queries,
                now,
            )
            verdict = Verdict(number)
            runs = verdict in (Verdict.RUN, Verdict.COVERED)
            refused = verdict in (Verdict.OWED, Verdict.TOO_HIGH, Verdict.DEBT)
            if runs or (refused and party[0] is not None):
                self._write(key, mine, now)
                if known is not None or request is not None:
                    self._write_request(*key, digest, request, now)
            if again is not None and spent is not None:
                self._write_spent(again, spent)
            return Entry(verdict, work, held, *map(sketch_of, sketches))

    def charge(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        evidence: ArrayLike,
        paid: Paid | None = None,
        newcomers: str = "",
        advance: Advance | None = None,
        group_advance: Advance | None = None,
    ) -> Charged:
        """See `Ledger.charge`."""
        queries, key = queries_of(evidence), (account, group)
        added = packed_advances(self.tariff, group, len(queries), advance, group_advance)
        with self._transaction() as (_, now):
            party = self._party(*key)
            *charged, mine, ours, pool, request, spent = self._accounting.charge(
                party,
                self._party("", group) if group else None,
                self._pool(newcomers),
                self._known(party, *key, digest),
                None if paid is None else self._spent(paid),
                run,
                tag_of(queries),
                queries,
                *added,
                now,
            )
            if mine is None:
                return Charged(*charged)
            self._write(key, mine, now)
            if ours is not None:
                self._write(("", group), ours, now)
            if pool is not None:
                self._write_pool(newcomers, pool)
            self._write_request(*key, digest, request, now)
            if paid is not None and spent is not None:
                self._write_spent(paid, spent)
            return Charged(*charged)

    def leave(self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome) -> None:
        """See `Ledger.leave`."""
        key = account, group
        with self._transaction() as (_, now):
            party = self._party(*key)
            known = self._known(party, *key, digest)
            left = self._accounting.leave(party, known, run, outcome, now)
            if left is not None:
                self._write(key, left[0], now)
                self._write_request(*key, digest, left[1], now)

    def redeem(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge_id: bytes,
        expires: float,
        work: int,
    ) -> Redeemed:
        """See `Ledger.redeem`."""
        key, challenge = (account, group), Paid(challenge_id, expires, True)
        with self._transaction() as (_, now):
            if now >= expires:
                return Redeemed(Verdict.SPENT, b"", 0.0)
            party, known = self._party(*key), self._spent(challenge)
            if known is not None:
                run = self._accounting.spent_run(known)
                if run is None:
                    return Redeemed(Verdict.SPENT, b"", 0.0)
                balance = self._accounting.read_account(party, now)[1]
                return Redeemed(Verdict.AGAIN, run, 0.0, balance)
            number, run, due, balance, mine, request, spent = self._accounting.redeem(
                party, self._known(party, *key, digest), bool(digest), work, now
            )
            self._write_spent(challenge, spent)
            self._write(key, mine, now)
            if digest:
                self._write_request(*key, digest, request, now)
            return Redeemed(Verdict(number), run, due, balance)

    def report(
        self,
        account: str,
        group: str,
        report: bytes,
        evidence: ArrayLike,
        paid: float,
        newcomers: str = "",
    ) -> None:
        """See `Ledger.report`."""
        queries, key, digest = queries_of(evidence), (account, group), report_digest(report)
        if not queries:
            return
        with self._transaction() as (_, now):
            party = self._party(*key)
            reported = self._accounting.report(
                party,
                self._party("", group) if group else None,
                self._pool(newcomers),
                self._known(party, *key, digest),
                queries,
                paid,
                now,
            )
            if reported is None:
                return
            mine, ours, pool, request = reported
            self._write(key, mine, now)
            if ours is not None:
                self._write(("", group), ours, now)
            if pool is not None:
                self._write_pool(newcomers, pool)
            self._write_request(*key, digest, request, now)

    def account(self, account: str, group: str = "") -> AccountRecord | None:
        """See `Ledger.account`."""
        with self._transaction() as (_, now):
            party = self._party(account, group)
            if party[0] is None:
                return None
            return record_of(*self._accounting.read_account(party, now))

    def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        with self._transaction() as (_, now):
            self._write((account, group), self._accounting.reset_account(now), now)

    def newcomers(self, pool: str = "") -> AccountRecord | None:
        """See `Ledger.newcomers`."""
        with self._transaction() as (_, now):
            party = self._pool(pool)
            if party[0] is None:
                return None
            return record_of(*self._accounting.read_account(party, now))

    def reset_newcomers(self, pool: str = "") -> None:
        """See `Ledger.reset_newcomers`."""
        with self._transaction() as (_, now):
            self._write_pool(pool, self._accounting.reset_newcomers(now))

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
        until = time.monotonic() + self._timeout
        while True:
            try:
                self._database = self._opened()
                return
            except sqlite3.Error as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() >= until:
                    raise StoreUnavailable(f"the ledger in {self._path}: {error}") from error
            time.sleep(0.005)  # SQLite itself does not wait for a file that others open as well

    def _opened(self) -> sqlite3.Connection:
        with ExitStack() as failing:
            database = sqlite3.connect(
                self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            failing.callback(database.close)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_SCHEMA)
            failing.pop_all()
        return database

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
        except ValueError as error:
            raise StoreUnavailable("a record of this account is damaged") from error
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
        current = _bucket(now)
        if current != self._swept and not (
            self._drop_oldest("request", current) + self._drop_oldest("spent", current)
        ):
            self._swept = current

    def _drop_oldest(self, table: str, current: int) -> int:
        """Drop a table's oldest bucket before the current one; return how many rows it had."""
        return self._database.execute(
            f"DELETE FROM {table} WHERE bucket < ? AND bucket = (SELECT min(bucket) FROM {table})",
            (current,),
        ).rowcount

    def _party(self, account: str, group: str) -> _Party:
        """Return the record of an account, or of a group, and how it ages."""
        name = account or group
        record = self._record(
            "SELECT record FROM account WHERE account = ? AND account_group = ?",
            (account, group),
        )
        return record, half_life_of(self.tariff, name), isinstance(name, SharedName)

    def _pool(self, name: str) -> _Party:
        """Return the record of a pool of newcomers, which does not age."""
        query = "SELECT record FROM newcomers WHERE pool = ?"
        return self._record(query, (name,)), 0.0, False

    def _known(self, party: _Party, account: str, group: str, digest: bytes) -> bytes | None:
        """Return a request's record; of an account that is forgotten, none is known either."""
        if party[0] is None:
            return None
        return self._record(
            "SELECT record FROM request WHERE account = ? AND account_group = ? AND digest = ?",
            (account, group, digest),
        )

    def _spent(self, challenge: Paid) -> bytes | None:
        return self._record(
            "SELECT record FROM spent WHERE bucket = ? AND challenge_id = ?",
            (_bucket(challenge.expires + CLOCK_SKEW), challenge.challenge_id),
        )

    def _record(self, query: str, key: tuple[str | bytes | int, ...]) -> bytes | None:
        row: tuple[bytes] | None = self._database.execute(query, key).fetchone()
        return None if row is None else row[0]

    def _write(self, key: _Key, record: bytes, now: float) -> None:
        row = (*map(str, key), record, now)
        self._database.execute("INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?)", row)

    def _write_pool(self, name: str, record: bytes) -> None:
        self._database.execute("INSERT OR REPLACE INTO newcomers VALUES (?, ?)", (name, record))

    def _write_request(
        self, account: str, group: str, digest: bytes, record: bytes | None, now: float
    ) -> None:
        key = str(account), str(group), digest
        if record is None:
            self._database.execute(
                "DELETE FROM request WHERE account = ? AND account_group = ? AND digest = ?", key
            )
        else:
            row = (*key, record, _bucket(now + self._remember))
            self._database.execute("INSERT OR REPLACE INTO request VALUES (?, ?, ?, ?, ?)", row)

    def _write_spent(self, challenge: Paid, record: bytes) -> None:
        row = (_bucket(challenge.expires + CLOCK_SKEW), challenge.challenge_id, record)
        self._database.execute("INSERT OR REPLACE INTO spent VALUES (?, ?, ?)", row)


def _bucket(seconds: float) -> int:
    return int(seconds // _BUCKET)
