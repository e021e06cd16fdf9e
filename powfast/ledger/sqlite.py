"""The ledger of one host: many processes share one SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from powfast.ledger.base import Page, State, Tariff, settle

_SCHEMA = """
CREATE TABLE IF NOT EXISTS page (
    account TEXT, account_group TEXT, state BLOB NOT NULL, carry REAL NOT NULL,
    PRIMARY KEY (account, account_group)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charged (
    account TEXT, request_id BLOB, work TEXT NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (account, request_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charged_expires ON charged (expires);
CREATE TABLE IF NOT EXISTS spent (challenge_id BLOB PRIMARY KEY, expires REAL NOT NULL)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spent_expires ON spent (expires);
"""
_DOUBLE = np.dtype("<f8")


class SQLiteLedger:
    """Accounts, groups and spent challenges in a file; for threads and processes of one host.

    Parameters
    ----------
    path
        The file; made where there is none.
    tariff
        Prices the queries.
    remember : float
        Seconds for which a request is known to have been charged; at least a challenge's lifetime.
    timeout : float
        Seconds to wait for another process before `sqlite3.OperationalError`.
    clock
        Seconds since the epoch, shared by all processes.
    """

    def __init__(
        self,
        path: str | Path,
        tariff: Tariff,
        *,
        remember: float = 3600.0,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tariff = tariff
        self._remember = remember
        self._clock = clock
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        now = self._clock()
        with self._transaction() as database:
            database.execute("DELETE FROM charged WHERE expires <= ?", (now,))
            known = database.execute(
                "SELECT work FROM charged WHERE account = ? AND request_id = ?",
                (account, request_id),
            ).fetchone()
            if known is not None:
                return int(known[0])
            group_page = self._page("", group) if group else None
            work, page, group_page = settle(
                self._tariff, evidence, self._page(account, ""), group_page
            )
            if work == 0:
                return 0
            self._write(account, "", page)
            if group_page is not None:
                self._write("", group, group_page)
            database.execute(
                "INSERT INTO charged VALUES (?, ?, ?, ?)",
                (account, request_id, str(work), now + self._remember),
            )
            return work

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        now = self._clock()
        with self._transaction() as database:
            database.execute("DELETE FROM spent WHERE expires <= ?", (now,))
            if expires <= now:
                return False
            done = database.execute(
                "INSERT OR IGNORE INTO spent VALUES (?, ?)", (challenge_id, expires)
            )
            return done.rowcount == 1

    def state(self, account: str, group: str = "") -> State | None:
        """Return what is remembered of an account, or of a group (`account` empty)."""
        with self._lock:
            return self._page(account, group).state

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the file's one write lock, so that reading and writing are one step."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _page(self, account: str, group: str) -> Page:
        row = self._database.execute(
            "SELECT state, carry FROM page WHERE account = ? AND account_group = ?",
            (account, group),
        ).fetchone()
        return Page() if row is None else Page(np.frombuffer(row[0], _DOUBLE).copy(), row[1])

    def _write(self, account: str, group: str, page: Page) -> None:
        state = np.asarray(page.state, _DOUBLE).tobytes()
        self._database.execute(
            "INSERT OR REPLACE INTO page VALUES (?, ?, ?, ?)", (account, group, state, page.carry)
        )
