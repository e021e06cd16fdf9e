"""The operator's view: what each account asked, what it was charged and what it paid."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from powfast.sketch import Advance
from powfast.stores import MemoryLedger
from powfast.stores.base import Charged, Paid, Redeemed, Verdict
from powfast.tariff import EvidenceTariff

_SHOWN = 8  # accounts, the caller's own first and then the latest
_REMEMBERED = 1000
_HISTORY = 120  # prices of one account


@dataclass
class Entry:
    """What the operator sees of one account."""

    queries: int = 0
    wealth: float = 0.0
    price: float = 1.0
    asked: float = 0.0
    redeemed: int = 0
    prices: deque[float] = field(default_factory=partial(deque, maxlen=_HISTORY))


class WatchedLedger(MemoryLedger):
    """A ledger that keeps, account by account, what it charged and what was paid."""

    def __init__(self, tariff: EvidenceTariff) -> None:
        self._entries: dict[str, Entry] = {}
        super().__init__(tariff)

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
        whose, advances = (account, group, digest, run), (advance, group_advance)
        charged = super().charge(*whose, evidence, paid, newcomers, *advances)
        record, entry = self.account(account, group), self._entry(account)
        if record is not None and record.state[0] > entry.queries:  # else it was charged before
            entry.queries, entry.wealth = int(record.state[0]), float(record.state[1:8].mean())
            entry.price = self.tariff.price(record.state)
            entry.prices.append(entry.price)
            entry.asked += charged.price
        return charged

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
        redeemed = super().redeem(account, group, digest, challenge_id, expires, work)
        if redeemed.verdict not in (Verdict.SPENT, Verdict.AGAIN):
            self._entry(account).redeemed += work
        return redeemed

    def entries(self) -> dict[str, Entry]:
        """Return every account that is remembered, the latest first."""
        return dict(reversed(self._entries.items()))

    def _entry(self, account: str) -> Entry:
        entry = self._entries.pop(account, Entry())
        self._entries[account] = entry
        if len(self._entries) > _REMEMBERED:
            del self._entries[next(iter(self._entries))]
        return entry


def view(entries: dict[str, Entry], key: str) -> dict[str, Any]:
    """Return the latest accounts and the sums over all, and which belong to a key."""
    mine = {name: entry for name, entry in entries.items() if name.endswith(key)}
    shown = [*mine.items(), *(pair for pair in entries.items() if pair[0] not in mine)]
    return {
        "accounts": [
            {
                "name": name,
                "mine": name in mine,
                "queries": entry.queries,
                "wealth": entry.wealth,
                "price": entry.price,
                "redeemed": entry.redeemed,
                "prices": list(entry.prices) if name in mine else [],
            }
            for name, entry in shown[:_SHOWN]
        ],
        "totals": {
            "accounts": len(entries),
            "queries": sum(entry.queries for entry in entries.values()),
            "asked": sum(entry.asked for entry in entries.values()),
            "redeemed": sum(entry.redeemed for entry in entries.values()),
        },
    }
