"""The ledger of a single process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.challenge import SpentChallenges

State = NDArray[np.float64]


class Tariff(Protocol):
    """The part of a tariff that a ledger applies."""

    def work(self, evidence: ArrayLike, state: State | None = None) -> tuple[State, State]:
        """Price queries in order; `None` is a new account."""
        ...

    def publish(self, owed: float, carry: float) -> tuple[int, float]:
        """Round what is owed to the published work, and carry the remainder."""
        ...


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
        self._states: dict[tuple[str, str], State] = {}
        self._carry: dict[str, float] = {}
        self._charged = _Recent(remember, clock)
        self._spent = SpentChallenges()
        self._lock = threading.Lock()

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`; a group's price counts where it is above the account's own.

        Raises
        ------
        InvalidInput
            The evidence is not a vector of nonnegative numbers; nothing is charged then.
        """
        with self._lock:
            known = self._charged.get((account, request_id))
            if known is not None:
                return known
            owed, states = self._priced(account, group, evidence)
            work, carry = self._tariff.publish(owed, self._carry.get(account, 0.0))
            self._states.update(states)
            self._carry[account] = carry
            self._charged.put((account, request_id), work)
            return work

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        return self._spent(challenge_id, expires)

    def state(self, account: str, group: str = "") -> State | None:
        """Return a copy of what is remembered of an account, or of a group (`account` empty)."""
        with self._lock:
            state = self._states.get((account, group))
            return None if state is None else state.copy()

    def _priced(
        self, account: str, group: str, evidence: ArrayLike
    ) -> tuple[float, dict[tuple[str, str], State]]:
        owners = [(account, "")] + ([("", group)] if group else [])
        owed, states = 0.0, {}
        for owner in owners:
            work, states[owner] = self._tariff.work(evidence, self._states.get(owner))
            owed = max(owed, float(work.sum()))
        return owed, states


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
