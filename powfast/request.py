"""One request on its way through the gate: who asks, what it owes, and what its account did."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from powfast.bill import Bill, Evidence, RequestIdentity, is_estimate
from powfast.http import Answer
from powfast.kernel import sha256
from powfast.sketch import Advance, Sketch
from powfast.stores.base import RUN_BYTES, Paid
from powfast.stores.failsafe import FailsafeStores

Endpoint = Callable[[], Coroutine[Any, Any, Answer | None]]

# No secrets, they only have to differ: whatever an application seeds, and in every process.
_runs = Random()
_new_run = _runs.randbytes
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_runs.seed)


class Request:
    """One request on its way through the gate."""

    __slots__ = ("bill", "endpoint", "identity", "queries", "run", "sketches", "status", "stores")

    def __init__(
        self,
        identity: RequestIdentity,
        bill: Bill,
        endpoint: Endpoint,
        stores: FailsafeStores,
        queries: int | None,
        status: int,
    ) -> None:
        self.identity: RequestIdentity = identity
        self.bill: Bill = bill
        self.endpoint: Endpoint = endpoint
        self.stores: FailsafeStores = stores
        self.queries: int | None = queries
        self.status: int = status
        self.run: bytes = _new_run(RUN_BYTES)
        self.sketches: tuple[Sketch | None, Sketch | None] = None, None

    @property
    def paid(self) -> Paid | None:
        """The challenge of this request, whose solution came with it."""
        receipt = self.bill.receipt
        if receipt is None or not receipt.request:
            return None
        return Paid(receipt.challenge_id, receipt.expires, False)

    def place(self, run: bytes) -> bytes:
        """Name the place of a held answer, which other credentials do not find."""
        return sha256(run + self.identity.credentials)[:RUN_BYTES]

    def advances(self, evidence: Evidence) -> tuple[Advance | None, ...]:
        """Return what the queries add to the sketches of the account and of its group."""
        if not is_estimate(evidence):
            return ()
        mine, ours = self.sketches
        return evidence.advance(mine), evidence.advance(ours) if self.identity.group else None
