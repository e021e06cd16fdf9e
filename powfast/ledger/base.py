"""The two operations that every store offers, both atomic, and the arithmetic of a charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

State = NDArray[np.float64]


class Ledger(Protocol):
    """A store that answers at once or blocks."""

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """Charge the queries of one request and return the work it has to pay: 0 for no query.

        A group's price counts where it is above the account's own. The same `request_id` of the
        same account is charged once; asking again returns the same work. Whoever asks is charged,
        whether or not it then solves.

        Raises
        ------
        InvalidInput
            The evidence is not a vector of nonnegative numbers; nothing is charged then.
        """
        ...

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """Spend a challenge: true exactly once, remembered until `expires` (seconds)."""
        ...


class AsyncLedger(Protocol):
    """The same store behind an event loop."""

    async def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        ...

    async def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        ...


class Tariff(Protocol):
    """The part of a tariff that a ledger applies."""

    def work(self, evidence: ArrayLike, state: State | None = None) -> tuple[State, State]:
        """Price queries in order; `None` is a new account."""
        ...

    def publish(self, owed: float, carry: float) -> tuple[int, float]:
        """Round what is owed to the published work, and carry the remainder."""
        ...


@dataclass(frozen=True)
class Page:
    """What is remembered of an account, or of a group (which carries nothing)."""

    state: State | None = None
    carry: float = 0.0


def settle(
    tariff: Tariff, evidence: ArrayLike, account: Page, group: Page | None
) -> tuple[int, Page, Page | None]:
    """Return the published work of a request, 0 for no query, and the pages after it."""
    if np.size(evidence) == 0:
        return 0, account, group
    prices, state = tariff.work(evidence, account.state)
    owed = _total(prices)
    if group is not None:
        prices, group_state = tariff.work(evidence, group.state)
        owed = max(owed, _total(prices))
        group = Page(group_state)
    work, carry = tariff.publish(owed, account.carry)
    return work, Page(state, carry), group


def _total(prices: State) -> float:
    """Add in order, as a script in a store does: every ledger agrees to the last bit."""
    return float(np.cumsum(prices)[-1])
