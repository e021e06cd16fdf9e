"""The ledger of a single process."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable

from numpy.typing import ArrayLike

from powfast import _native
from powfast.accounts import SharedName
from powfast.errors import require_int
from powfast.kernel import native_kernel
from powfast.sketch import Advance
from powfast.stores.base import (
    CLOCK_SKEW,
    AccountRecord,
    Charged,
    Entry,
    Limits,
    Outcome,
    Paid,
    Redeemed,
    Verdict,
    half_life_of,
    queries_of,
    report_digest,
    require_evidence_tariff,
)
from powfast.stores.packing import packed_advances, record_of, sketch_of
from powfast.stores.workers import several_workers
from powfast.tariff import EvidenceTariff

_log = logging.getLogger(__name__)


class MemoryLedger:
    """Accounts, groups and spent challenges in the memory of one process; thread-safe.

    Processes that each hold a `MemoryLedger` charge independently of one another, and each admits
    the same solution once. Where that can be seen to happen, it is logged as a warning: several
    workers are configured, or the process has been forked since.

    Parameters
    ----------
    tariff : EvidenceTariff
        Prices the queries.
    remember : float
        Seconds for which a request is remembered; at least a challenge's lifetime.
    max_accounts : int
        Accounts and groups to remember. Beyond it the one that was charged least recently is
        forgotten: it is a new one when it comes back, and pays the opening again.
    clock
        Seconds since the epoch.

    Raises
    ------
    InvalidInput
        `max_accounts` is no integer, or below 1, or the tariff is of another kind.
    """

    def __init__(
        self,
        tariff: EvidenceTariff,
        *,
        remember: float = 3600.0,
        max_accounts: int = 1_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tariff: EvidenceTariff = require_evidence_tariff(tariff)
        most = require_int("max_accounts", max_accounts, 1, 2**62)
        half_lives = half_life_of(tariff, ""), half_life_of(tariff, SharedName())
        self._clock = clock
        self._accounts = _native.MemoryLedger(
            native_kernel(),
            tariff.native,
            half_lives,
            SharedName,
            most,
            remember,
            CLOCK_SKEW,
            clock(),
        )
        self._is_forked = False
        _LEDGERS.add(self)
        if several_workers():
            _warn("several workers are configured")

    def enter(
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
        if self._is_forked:
            self._is_forked = False
            _warn("this process was forked from the one that made it")
        verdict, work, held, *sketches = self._accounts.enter(
            account, group, digest, run, limits, again, queries, newcomers, self._clock()
        )
        return Entry(_VERDICTS[verdict], work, held, *map(sketch_of, sketches))

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
        queries = queries_of(evidence)
        added = packed_advances(self.tariff, group, len(queries), advance, group_advance)
        given = account, group, digest, run, queries, paid, newcomers, *added
        return Charged(*self._accounts.charge(*given, self._clock()))

    def leave(self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome) -> None:
        """See `Ledger.leave`."""
        self._accounts.leave(account, group, digest, run, outcome, self._clock())

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
        verdict, run, due, balance = self._accounts.redeem(
            account, group, digest, (challenge_id, expires), work, self._clock()
        )
        return Redeemed(_VERDICTS[verdict], run, due, balance)

    def report(
        self,
        account: str,
        group: str,
        report: bytes,
        evidence: ArrayLike,
        paid: float,
        newcomers: str = "",
    ) -> None:
        """See `Ledger.report`."""
        given = account, group, report_digest(report), queries_of(evidence), paid, newcomers
        self._accounts.report(*given, self._clock())

    def account(self, account: str, group: str = "") -> AccountRecord | None:
        """See `Ledger.account`."""
        fields = self._accounts.account(account, group, self._clock())
        return None if fields is None else record_of(*fields)

    def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        self._accounts.reset(account, group, self._clock())

    def newcomers(self, pool: str = "") -> AccountRecord | None:
        """See `Ledger.newcomers`."""
        fields = self._accounts.newcomers(pool)
        return None if fields is None else record_of(*fields)

    def reset_newcomers(self, pool: str = "") -> None:
        """See `Ledger.reset_newcomers`."""
        self._accounts.reset_newcomers(pool, self._clock())

    def close(self) -> None:
        """Nothing is open."""


_VERDICTS = tuple(Verdict)


_LEDGERS: weakref.WeakSet[MemoryLedger] = weakref.WeakSet()


def _note_fork() -> None:
    for ledger in _LEDGERS:
        ledger._is_forked = True


os.register_at_fork(after_in_child=_note_fork)


def _warn(reason: str) -> None:
    _log.warning(
        "MemoryLedger serves one process, but %s: each will charge for itself, and admit the same"
        " solution once more. Give them one store: sqlite:///path or redis://host",
        reason,
    )
