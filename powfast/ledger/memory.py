"""The ledger of a single process."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable

from numpy.typing import ArrayLike

from powfast.challenge import SpentChallenges
from powfast.ledger.base import (
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
from powfast.ledger.workers import several_workers

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
        self._max_accounts = max_accounts
        self._clock = clock
        # The one that asked last stands last.
        self._pages: OrderedDict[tuple[str, str], Page] = OrderedDict()
        self._charged = _Recent(remember, clock())
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
            whose, now = (account, group), self._clock()
            known = self._charged.price(whose, request_id, now)
            if known is not None:
                return known
            mine = self._page(account, group)
            ours = self._page("", group) if group else None
            work, mine, ours = settle(self._tariff, queries, mine, ours, now)
            self._write(account, group, mine)
            if ours is not None:
                self._write("", group, ours)
            self._charged.note(whose, request_id, work)
            return work

    def opening(self, account: str, group: str) -> int:
        """See `Ledger.opening`."""
        return 0 if (account, group) in self._pages else opening_of(self._tariff)

    def open(self, account: str, group: str) -> None:
        """See `Ledger.open`."""
        with self._lock:
            if (account, group) not in self._pages:
                self._write(account, group, opened(self._tariff, self._clock()))

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        self._notice_fork()
        return expires > self._clock() and self._spent(challenge_id, expires)

    def state(self, account: str, group: str = "") -> State | None:
        """See `Ledger.state`."""
        with self._lock:
            return state_at(self._page(account, group), self._clock(), self._tariff)

    def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        with self._lock:
            self._write(account, group, pardoned(self._tariff, self._clock()))

    def close(self) -> None:
        """Nothing is open."""

    def _page(self, account: str, group: str) -> Page:
        return self._pages.get((account, group), NEW)

    def _write(self, account: str, group: str, page: Page) -> None:
        pages, whose = self._pages, (account, group)
        pages[whose] = page
        pages.move_to_end(whose)
        if len(pages) > self._max_accounts:
            pages.popitem(last=False)

    def _notice_fork(self) -> None:
        if os.getpid() != self._process:
            self._process = os.getpid()
            _warn("this process was forked from the one that made it")


class _Recent:
    """Prices of recent requests, by account and id; two generations, the older one dropped whole.

    Nested, for a request then keeps nothing but its id and its price.
    """

    def __init__(self, remember: float, now: float) -> None:
        self._remember = remember
        self._turned = now
        self._new: defaultdict[tuple[str, str], dict[bytes, int]] = defaultdict(dict)
        self._old: dict[tuple[str, str], dict[bytes, int]] = {}

    def price(self, whose: tuple[str, str], request_id: bytes, now: float) -> int | None:
        elapsed = now - self._turned
        if elapsed >= self._remember:
            self._turn(elapsed)
        for generation in (self._new, self._old):
            prices = generation.get(whose)
            if prices is not None and request_id in prices:
                return prices[request_id]
        return None

    def note(self, whose: tuple[str, str], request_id: bytes, work: int) -> None:
        self._new[whose][request_id] = work

    def _turn(self, elapsed: float) -> None:
        self._old = self._new if elapsed < 2 * self._remember else {}
        self._new = defaultdict(dict)
        self._turned += elapsed


def _warn(reason: str) -> None:
    _log.warning(
        "MemoryLedger serves one process, but %s: each will charge for itself, and admit the same"
        " solution once more. Give them one store: sqlite:///path or redis://host",
        reason,
    )
