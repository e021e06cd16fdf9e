"""The ledger of a single process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from numpy.typing import ArrayLike

from powfast.challenge import SpentChallenges
from powfast.ledger.base import Page, State, Tariff, settle


class MemoryLedger:
    """Accounts, groups and spent challenges in the memory of one process; thread-safe.

    Two processes that each hold a `MemoryLedger` charge independently of one another.

    Parameters
    ----------
    tariff
        Prices the queries.
    remember : float
        Seconds for which a request is known to have been charged; at least a challenge's lifetime.
    clock
        Seconds; only differences matter.
    """

    def __init__(
        self,
        tariff: Tariff,
        *,
        remember: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tariff = tariff
        self._pages: dict[tuple[str, str], Page] = {}
        self._charged = _Recent(remember, clock)
        self._spent = SpentChallenges()
        self._lock = threading.Lock()

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        mine, ours = (account, ""), ("", group)
        with self._lock:
            known = self._charged.get((account, request_id))
            if known is not None:
                return known
            group_page = self._pages.get(ours, Page()) if group else None
            work, page, group_page = settle(
                self._tariff, evidence, self._pages.get(mine, Page()), group_page
            )
            self._pages[mine] = page
            if group_page is not None:
                self._pages[ours] = group_page
            self._charged.put((account, request_id), work)
            return work

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        return self._spent(challenge_id, expires)

    def state(self, account: str, group: str = "") -> State | None:
        """Return a copy of what is remembered of an account, or of a group (`account` empty)."""
        with self._lock:
            state = self._pages.get((account, group), Page()).state
            return None if state is None else state.copy()


class _Recent:
    """Prices of recent requests; two generations, so that forgetting costs nothing."""

    def __init__(self, remember: float, clock: Callable[[], float]) -> None:
        self._remember = remember
        self._clock = clock
        self._turned = clock()
        self._new: dict[tuple[str, bytes], int] = {}
        self._old: dict[tuple[str, bytes], int] = {}

    def get(self, key: tuple[str, bytes]) -> int | None:
        self._turn()
        return self._new.get(key, self._old.get(key))

    def put(self, key: tuple[str, bytes], work: int) -> None:
        self._new[key] = work

    def _turn(self) -> None:
        elapsed = self._clock() - self._turned
        if elapsed >= self._remember:
            self._old = self._new if elapsed < 2 * self._remember else {}
            self._new = {}
            self._turned += elapsed
