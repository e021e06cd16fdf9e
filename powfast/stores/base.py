"""The operations that every store offers, each atomic, and the arithmetic of a charge."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.tariff.checks import nonnegative
from powfast.tariff.state import packed, unpacked

State = NDArray[np.float64]

# Seconds for which a spent challenge is remembered beyond its end: so far may the clocks of two
# gateways differ, or one of them be set back, before a challenge could be redeemed twice.
CLOCK_SKEW = 60.0


class Ledger(Protocol):
    """A store that answers at once or blocks; an account is told apart within its group."""

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """Charge the queries of one request and return the work it has to pay: 0 for no query.

        A group's price counts where it is above the account's own. The same `request_id` of the
        same account is charged once; asking again returns the same work. Whoever asks is charged,
        whether or not it then solves.

        Raises
        ------
        InvalidInput
            The evidence is not a vector of nonnegative numbers; nothing is charged then.
        StoreUnavailable
            The store did not answer in time or could not write; whether it charged is not known,
            and asking again tells.
        """
        ...

    def opening(self, account: str, group: str) -> int:
        """Return the work that a new account owes before anything runs for it; 0 for others.

        An account that is charged without having been opened owes it with that charge.

        Raises
        ------
        StoreUnavailable
            The store did not answer in time.
        """
        ...

    def open(self, account: str, group: str) -> None:
        """Take note that a new account has paid its opening; an account that is there stays.

        Raises
        ------
        StoreUnavailable
            As `charge`; asking `opening` tells.
        """
        ...

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """Spend a challenge: true exactly once, remembered beyond `expires` (seconds).

        Raises
        ------
        StoreUnavailable
            As `charge`; the challenge may be spent.
        """
        ...

    def state(self, account: str, group: str = "") -> State | None:
        """Return an account's state as a charge would find it now; a group's without account.

        Raises
        ------
        StoreUnavailable
        """
        ...

    def reset(self, account: str, group: str = "") -> None:
        """Let an account stand as one that has paid its opening and done nothing unusual.

        Raises
        ------
        StoreUnavailable
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class AsyncLedger(Protocol):
    """The same store behind an event loop."""

    async def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        ...

    async def opening(self, account: str, group: str) -> int:
        """See `Ledger.opening`."""
        ...

    async def open(self, account: str, group: str) -> None:
        """See `Ledger.open`."""
        ...

    async def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        ...

    async def state(self, account: str, group: str = "") -> State | None:
        """See `Ledger.state`."""
        ...

    async def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        ...

    async def close(self) -> None:
        """See `Ledger.close`."""
        ...


class Tariff(Protocol):
    """The part of a tariff that a ledger applies."""

    def owed(self, evidence: list[float], state: bytes | None, idle: float) -> tuple[float, bytes]:
        """Price a request of at least one query after `idle` seconds; `None` is a new account."""
        ...

    def decayed(self, state: ArrayLike, seconds: float) -> State:
        """Return what is left of a state after some time without a query."""
        ...

    @property
    def opening_work(self) -> float:
        """What a new account pays once."""
        ...

    @property
    def pardoned(self) -> State:
        """State of an account that has paid its opening and done nothing unusual."""
        ...

    def publish(self, owed: float, carry: float) -> tuple[int, float]:
        """Round what is owed to the published work, and carry the remainder."""
        ...


Page = tuple[bytes | None, float, float]
"""Packed state, carry and time of the latest charge of an account, or of a group.

The carry is owed with the next charge; below 0 it is credit, for an opening paid beforehand. A
group carries nothing. A plain tuple: the garbage collector lets go of it, and need not walk a
million.
"""

NEW: Page = (None, 0.0, 0.0)
"""The page of who was never charged."""


def state_at(page: Page, now: float, tariff: Tariff) -> State | None:
    """Return the state that a charge at `now` finds."""
    state, _, charged = page
    return None if state is None else tariff.decayed(unpacked(state), _idle(charged, now))


def _idle(charged: float, now: float) -> float:
    # a clock that goes backwards counts as no time
    return now - charged if now > charged else 0.0


def opening_of(tariff: Tariff) -> int:
    """Return the opening as work of a challenge; 0 where the tariff has none."""
    return math.ceil(tariff.opening_work)


def pardoned(tariff: Tariff, now: float) -> Page:
    """Return the page of an account that has paid its opening and done nothing unusual."""
    return packed(tariff.pardoned), 0.0, now


def opened(tariff: Tariff, now: float) -> Page:
    """Return the page of an account that has paid its opening and asked nothing yet."""
    return packed(np.zeros_like(tariff.pardoned)), -tariff.opening_work, now


class Queries(list[float]):
    """The evidence of a request's queries, once it is checked."""


def queries_of(evidence: ArrayLike) -> Queries:
    """Check the evidence of a request's queries, once, before any store is asked."""
    return evidence if type(evidence) is Queries else Queries(nonnegative(evidence, "evidence"))


def settle(
    tariff: Tariff, queries: list[float], account: Page, group: Page | None, now: float
) -> tuple[int, Page, Page | None]:
    """Return the published work of a request of at least one query, and the pages after it."""
    state, carry, charged = account
    owed, state = tariff.owed(queries, state, _idle(charged, now))
    if group is not None:
        shared, _, charged_group = group
        ours, shared = tariff.owed(queries, shared, _idle(charged_group, now))
        owed = max(owed, ours)
        group = shared, 0.0, max(now, charged_group)
    if carry < 0.0:
        owed, carry = max(owed + carry, 1.0), 0.0
    work, carry = tariff.publish(owed, carry)
    return work, (state, carry, now if now > charged else charged), group
