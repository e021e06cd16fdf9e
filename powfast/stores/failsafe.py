"""The stores as one request sees them: asked until they fail, and then no more.

What happens while they are away is the operator's choice: nothing is served ("closed"), a ledger of
this process takes over ("local"), or requests pass without a price ("open").
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from powfast.challenge import Receipt
from powfast.errors import StoreUnavailable
from powfast.http import Answer
from powfast.observers.base import Observer
from powfast.sketch import Advance
from powfast.stores.base import (
    AsyncLedger,
    Charged,
    Entry,
    Ledger,
    Limits,
    Maybe,
    Outcome,
    Paid,
    Queries,
    Redeemed,
    Verdict,
)
from powfast.stores.held import Held, HeldAnswers

OnStoreError = Literal["closed", "local", "open"]
T = TypeVar("T")

_AWAY = "the store has failed this request before"


class FailsafeStores:
    """Ledger and held answers for one request.

    Parameters
    ----------
    ledger, held
        The stores; what their methods return is awaited where it can be.
    whose : tuple of (str, str, bytes)
        Account, group and digest of the request.
    newcomers : str
        Pool of the account while it is new.
    mode : {"closed", "local", "open"}
        What happens while the ledger is away.
    fallback : Ledger, optional
        For "local": a ledger in memory.
    observer : Observer
        Is told of failures.
    """

    def __init__(
        self,
        ledger: Ledger | AsyncLedger,
        held: Held,
        whose: tuple[str, str, bytes],
        newcomers: str,
        mode: OnStoreError,
        fallback: Ledger | None,
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._held = held
        self._whose = whose
        self._newcomers = newcomers
        self._mode = mode
        self._fallback = fallback
        self._observer = observer
        self._away: Literal["", "held", "ledger"] = ""

    def enter(
        self, run: bytes, limits: Limits, again: Paid | None = None, queries: int = 1
    ) -> Awaitable[Entry]:
        """See `Ledger.enter`."""
        return self._ask(
            "enter",
            lambda ledger: ledger.enter(*self._whose, run, limits, again, queries, self._newcomers),
            Entry(Verdict.RUN, 0.0, run),
        )

    def charge(
        self,
        run: bytes,
        queries: Queries,
        paid: Paid | None,
        advance: Advance | None = None,
        group_advance: Advance | None = None,
    ) -> Awaitable[Charged]:
        """See `Ledger.charge`."""
        return self._ask(
            "charge",
            lambda ledger: ledger.charge(
                *self._whose, run, queries, paid, self._newcomers, advance, group_advance
            ),
            Charged(0.0, 0.0, 0.0),
        )

    async def leave(self, run: bytes, outcome: Outcome) -> None:
        """See `Ledger.leave`; a store that is away is left to itself."""
        if self._away == "ledger":
            return
        try:
            await _result(self._ledger.leave(*self._whose, run, outcome))
        except StoreUnavailable:
            self._note("ledger", "leave")

    def redeem(self, receipt: Receipt) -> Awaitable[Redeemed]:
        """See `Ledger.redeem`; what is for no request in particular is credit."""
        account, group, _ = self._whose
        spent = receipt.request, receipt.challenge_id, receipt.expires, receipt.work
        return self._ask(
            "redeem",
            lambda ledger: ledger.redeem(account, group, *spent),
            Redeemed(Verdict.CREDITED, b"", 0.0),
        )

    async def hold(self, run: bytes, answer: Answer) -> None:
        """Keep an answer; one that is lost costs another run of the model."""
        if self._may_ask_held():
            try:
                await _result(self._held.put(self._whose[0], run, answer))
            except StoreUnavailable:
                self._note("held", "put")

    async def held(self, run: bytes, until: float | None = None) -> Answer | None:
        """Return a held answer, where it is not lost; a paid one stays `until` then."""
        if self._may_ask_held():
            try:
                answer: Answer | None = await _result(self._held.get(self._whose[0], run, until))
                return answer
            except StoreUnavailable:
                self._note("held", "get")
        return None

    def _may_ask_held(self) -> bool:
        return not self._away or isinstance(self._held, HeldAnswers)  # who make nobody wait

    async def _ask(
        self, operation: str, call: Callable[[Ledger | AsyncLedger], Maybe[T]], passing: T
    ) -> T:
        if self._away != "ledger":
            try:
                with self._observer.span("ledger"):
                    either: Any = call(self._ledger)
                    result: T = await either if hasattr(either, "__await__") else either
                    return result
            except StoreUnavailable:
                self._note("ledger", operation)
                if self._mode == "closed":
                    raise
        elif self._mode == "closed":
            raise StoreUnavailable(_AWAY)
        return passing if self._fallback is None else await _result(call(self._fallback))

    def _note(self, store: Literal["held", "ledger"], operation: str) -> None:
        if self._away not in (store, "ledger"):
            self._away = store
            self._observer.event("store-error", operation=operation, mode=self._mode)


async def _result(given: Maybe[T]) -> T:
    either: Any = given
    result: T = await either if hasattr(either, "__await__") else either
    return result
