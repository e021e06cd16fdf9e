"""The ledger of a single process."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from numpy.typing import ArrayLike

from powfast import _native
from powfast.challenge import SpentChallenges
from powfast.errors import require_int
from powfast.kernel import native_kernel
from powfast.stores.base import (
    CLOCK_SKEW,
    NEW,
    State,
    Tariff,
    opened,
    opening_of,
    pardoned,
    queries_of,
    settle,
    state_at,
)
from powfast.stores.workers import several_workers

_log = logging.getLogger(__name__)


class MemoryLedger:
    """Accounts, groups and spent challenges in the memory of one process; thread-safe.

    Processes that each hold a `MemoryLedger` charge independently of one another, and each admits
    the same solution once. Where that can be seen to happen, it is logged as a warning: several
    workers are configured, or the process has been forked since.

    Parameters
    ----------
    tariff
        Prices the queries.
    remember : float
        Seconds for which a request is known to have been charged; at least a challenge's lifetime.
    max_accounts : int
        Accounts and groups to remember. Beyond it the one that asked least recently is forgotten:
        it is a new one when it comes back, and pays the opening again.
    clock
        Seconds since the epoch.

    Raises
    ------
    InvalidInput
        `max_accounts` is no integer, or below 1.
    """

    def __init__(
        self,
        tariff: Tariff,
        *,
        remember: float = 3600.0,
        max_accounts: int = 1_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tariff = tariff
        self._clock = clock
        self._find, self._write = _native.books(
            native_kernel(), require_int("max_accounts", max_accounts, 1, 2**62), remember, clock()
        )
        self._spent = SpentChallenges(clock=lambda: clock() - CLOCK_SKEW)
        self._lock = threading.Lock()
        self._process = os.getpid()
        if several_workers():
            _warn("several workers are configured")

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        self._notice_fork()
        queries = queries_of(evidence)
        if not queries:
            return 0
        with self._lock:
            now = self._clock()
            found = self._find(account, group, request_id, now)
            if isinstance(found, int):
                return found
            ours = (self._find("", group) or NEW) if group else None
            work, mine, ours = settle(self._tariff, queries, found or NEW, ours, now)
            self._write(account, group, mine, request_id, work)
            if ours is not None:
                self._write("", group, ours)
            return work

    def opening(self, account: str, group: str) -> int:
        """See `Ledger.opening`."""
        return opening_of(self._tariff) if self._find(account, group) is None else 0

    def open(self, account: str, group: str) -> None:
        """See `Ledger.open`."""
        with self._lock:
            if self._find(account, group) is None:
                self._write(account, group, opened(self._tariff, self._clock()))

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        self._notice_fork()
        return expires > self._clock() and self._spent(challenge_id, expires)

    def state(self, account: str, group: str = "") -> State | None:
        """See `Ledger.state`."""
        page = self._find(account, group) or NEW
        return state_at(page, self._clock(), self._tariff)

    def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        with self._lock:
            self._write(account, group, pardoned(self._tariff, self._clock()))

    def close(self) -> None:
        """Nothing is open."""

    def _notice_fork(self) -> None:
        if os.getpid() != self._process:
            self._process = os.getpid()
            _warn("this process was forked from the one that made it")


def _warn(reason: str) -> None:
    _log.warning(
        "MemoryLedger serves one process, but %s: each will charge for itself, and admit the same"
        " solution once more. Give them one store: sqlite:///path or redis://host",
        reason,
    )
