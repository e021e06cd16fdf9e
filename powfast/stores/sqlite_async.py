"""The SQLite ledger behind an event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from powfast.errors import StoreUnavailable
from powfast.sketch import Advance
from powfast.stores.base import (
    AccountRecord,
    Charged,
    Entry,
    Limits,
    Outcome,
    Paid,
    Redeemed,
    queries_of,
)
from powfast.stores.packing import packed_advances
from powfast.stores.sqlite import SQLiteLedger
from powfast.tariff import EvidenceTariff

T = TypeVar("T")

_Call = tuple[Callable[[], Any], Future[Any]]

# So many operations share a transaction: others may be waiting for the file.
_MOST_TOGETHER = 64


class AsyncSQLiteLedger:
    """`SQLiteLedger` behind an event loop: the same parameters, the work in a thread of its own.

    What waits for the thread is done in one transaction: most of an operation's time goes into
    beginning and ending one.
    """

    def __init__(
        self,
        path: str | Path,
        tariff: EvidenceTariff,
        *,
        remember: float = 3600.0,
        timeout: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = SQLiteLedger(path, tariff, remember=remember, timeout=timeout, clock=clock)
        self.tariff = tariff
        self._timeout = timeout
        self._thread = ThreadPoolExecutor(1, "powfast-ledger")
        self._waiting: deque[_Call] = deque()
        self._called = False

    async def enter(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        limits: Limits,
        again: Paid | None = None,
        queries: int = 1,
        newcomers: str = "",
    ) -> Entry:
        """See `Ledger.enter`."""
        given = account, group, digest, run, limits, again, queries, newcomers
        return await self._aside(self._ledger.enter, *given)

    async def charge(
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
        queries = queries_of(evidence)
        packed_advances(self.tariff, group, len(queries), advance, group_advance)  # here it raises
        given = account, group, digest, run, queries, paid, newcomers, advance, group_advance
        return await self._aside(self._ledger.charge, *given)

    async def leave(
        self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome
    ) -> None:
        """See `Ledger.leave`."""
        await self._aside(self._ledger.leave, account, group, digest, run, outcome)

    async def redeem(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge_id: bytes,
        expires: float,
        work: int,
    ) -> Redeemed:
        """See `Ledger.redeem`."""
        challenge = challenge_id, expires, work
        return await self._aside(self._ledger.redeem, account, group, digest, *challenge)

    async def report(
        self,
        account: str,
        group: str,
        report: bytes,
        evidence: ArrayLike,
        paid: float,
        newcomers: str = "",
    ) -> None:
        """See `Ledger.report`."""
        queries = queries_of(evidence)
        given = account, group, report, queries, paid, newcomers
        await self._aside(self._ledger.report, *given)

    async def account(self, account: str, group: str = "") -> AccountRecord | None:
        """See `Ledger.account`."""
        return await self._aside(self._ledger.account, account, group)

    async def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        await self._aside(self._ledger.reset, account, group)

    async def newcomers(self, pool: str = "") -> AccountRecord | None:
        """See `Ledger.newcomers`."""
        return await self._aside(self._ledger.newcomers, pool)

    async def reset_newcomers(self, pool: str = "") -> None:
        """See `Ledger.reset_newcomers`."""
        await self._aside(self._ledger.reset_newcomers, pool)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.wrap_future(self._thread.submit(self._ledger.close))
        self._thread.shutdown(wait=False)

    async def _aside(self, operation: Callable[..., T], *arguments: object) -> T:
        """Wait for the thread, those before this one in its queue included, for one timeout."""
        future: Future[T] = Future()
        self._waiting.append((partial(operation, *arguments), future))
        if not self._called:
            self._called = True
            self._thread.submit(self._work)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise StoreUnavailable("the ledger's file is busy") from None

    def _work(self) -> None:
        """Do what waits, in the thread."""
        self._called = False  # before looking: what comes later calls again
        while self._waiting:
            count = min(len(self._waiting), _MOST_TOGETHER)
            calls = [self._waiting.popleft() for _ in range(count)]
            waited_for = [(call, future) for call, future in calls if not future.cancelled()]
            if waited_for:
                self._do(waited_for)

    def _do(self, calls: list[_Call]) -> None:
        """Do them in one transaction; where one fails, each alone: it fails for nobody else."""
        try:
            with self._ledger.together():
                try:
                    results = [call() for call, _ in calls]
                except Exception as error:
                    raise _OneFailed from error
        except _OneFailed:
            for call, future in calls:
                if future.set_running_or_notify_cancel():
                    _resolve(future, call)
        except StoreUnavailable as error:  # the file was not to be had, or did not commit
            for _, future in calls:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
        else:
            for (_, future), result in zip(calls, results, strict=True):
                if future.set_running_or_notify_cancel():
                    future.set_result(result)


class _OneFailed(Exception):
    """An operation failed: what was done together with it is undone."""


def _resolve(future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
