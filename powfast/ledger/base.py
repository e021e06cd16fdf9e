"""The two operations that every store offers, both atomic."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike


class Ledger(Protocol):
    """A store that answers at once or blocks."""

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """Charge the queries of one request and return the work it has to pay.

        The same `request_id` of the same account is charged once; asking again returns the same
        work. Whoever asks is charged, whether or not it then solves.
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
