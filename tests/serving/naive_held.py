"""What a store of held answers does, by one list that is searched from its beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from powfast.http import Answer
from powfast.stores.held import OVERHEAD


class Row(NamedTuple):
    ends: float
    account: bytes
    run: bytes
    answer: Answer
    size: int
    paid: bool


class NaiveHeld:
    """Asks the list everything each time."""

    def __init__(
        self,
        clock: Callable[[], float],
        lifetime: float,
        space: int,
        expire_at_once: int,
        evict_at_once: int,
    ) -> None:
        self.clock, self.lifetime, self.space = clock, lifetime, space
        self.expire_at_once, self.evict_at_once = expire_at_once, evict_at_once
        self.rows: list[Row] = []
        self.counts = {"abandoned": 0, "evicted": 0}

    @staticmethod
    def bytes_of(rows: list[Row]) -> int:
        return sum(row.size for row in rows)

    def of_account(self, account: bytes) -> list[Row]:
        return [row for row in self.rows if row.account == account]

    def drop_ended(self, rows: list[Row]) -> None:
        for row in rows:
            if row.ends <= self.clock():
                self.rows.remove(row)
                self.counts["abandoned"] += not row.paid

    def find(self, account: bytes, run: bytes) -> Row | None:
        self.drop_ended(sorted(self.rows)[: self.expire_at_once])
        self.drop_ended([row for row in self.of_account(account) if row.run == run])
        found = [row for row in self.of_account(account) if row.run == run]
        return found[0] if found else None

    def has_room(self, account: bytes, size: int) -> bool:
        mine = self.bytes_of(self.of_account(account))
        accounts = {row.account for row in self.rows} | {account}
        if mine > self.space - self.bytes_of(self.rows) and 2 * len(accounts) * mine > self.space:
            return False
        for _ in range(self.evict_at_once):
            if size > self.space - self.bytes_of(self.rows):
                shares = [(self.bytes_of(self.of_account(each)), each) for each in accounts]
                self.rows.remove(min(self.of_account(max(shares)[1])))
                self.counts["evicted"] += 1
        return size <= self.space - self.bytes_of(self.rows)

    def put(self, name: str, run: bytes, answer: Answer) -> bool:
        account = hashlib.sha256(name.encode()).digest()
        known = self.find(account, run)
        if known is not None:
            self.rows.remove(known)
        size = OVERHEAD + len(answer.body) + len(answer.headers)  # whose names have one letter
        if size > self.space / 16 or not self.has_room(account, size):
            return False
        ends = self.clock() + self.lifetime if known is None else known.ends
        paid = known is not None and known.paid
        self.rows.append(Row(ends, account, run, answer, size, paid))
        return True

    def get(self, name: str, run: bytes, until: float | None) -> Answer | None:
        known = self.find(hashlib.sha256(name.encode()).digest(), run)
        if known is None:
            return None
        if until is not None:
            self.rows.remove(known)
            self.rows.append(known._replace(ends=max(known.ends, until), paid=True))
        return known.answer
