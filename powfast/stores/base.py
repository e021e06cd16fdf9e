"""The ledger: what every store remembers of accounts, requests and challenges, and does at once.

One request takes at most one operation for each of its phases: `enter` before its endpoint runs,
`charge` when its evidence is known, `leave` where it ends without a charge that counts, `redeem`
when a solution comes. Each is atomic, and all stores give the same results to the last bit.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.accounts import SharedName
from powfast.errors import InvalidInput
from powfast.kernel import sha256
from powfast.sketch import Advance, Sketch
from powfast.tariff import EvidenceTariff
from powfast.tariff.checks import nonnegative

T = TypeVar("T")

Maybe: TypeAlias = T | Awaitable[T]
"""What a store gives that blocks, or that has to be awaited."""

RUN_BYTES = 16

RERUNS = 3
"""How often a request that was paid runs again, where its answer is gone, until one is read."""

CLOCK_SKEW = 60.0
"""Seconds for which a spent challenge is remembered beyond its end: so far may the clocks of two
servers differ, or one of them be set back, before a challenge could be redeemed twice."""


class Verdict(IntEnum):
    """What becomes of a request, or of a solution."""

    RUN = 0
    """The endpoint may run."""
    BUSY = 1
    """The same request is being answered: `work` is the seconds after which to ask again."""
    OWED = 2
    """The request was charged: `work` is due for it."""
    COVERED = 3
    """The request was charged, and the balance has covered it since: its answer goes out. `work` is
    the credit left."""
    OPENING = 4
    """A new account: `work` is its opening fee and the price of the moment."""
    DEBT = 5
    """Too many runs that nobody paid for: `work` is the whole debt and the price of the moment;
    of an account that several people share, it is that price alone."""
    TOO_HIGH = 6
    """The price of the moment, `work`, is above what the server answers."""
    SPENT = 7
    """The challenge is spent or over, or its request has run again often enough."""
    PAID = 8
    """The solution has paid for the request."""
    AGAIN = 9
    """The solution had paid for the request before."""
    CREDITED = 10
    """The solution's work is credit: for an opening, a debt, or a request that is not charged."""


class Entry(NamedTuple):
    """Whether a request may run: `run` is its own, or the one held where it is `COVERED`.

    Where it may, and the tariff uses account evidence, `sketch` and `group_sketch` are what the
    queries of its account and group have added up to so far; None where there is nothing yet.
    """

    verdict: Verdict
    work: float
    run: bytes
    sketch: Sketch | None = None
    group_sketch: Sketch | None = None


class Charged(NamedTuple):
    """What a charge has come to.

    Attributes
    ----------
    due : float
        What the request still has to pay, 0 where its price is covered.
    price : float
        What it costs.
    balance : float
        The account's after it: above 0 credit, below 0 a debt.
    newcomers : float
        What a newcomer of the account's pool pays after it for an ordinary query, in base prices; 0
        where the account is no newcomer, and where this has advanced no pool.
    surcharge : float
        What of the price of a request that is not paid is towards a newcomer's opening.
    """

    due: float
    price: float
    balance: float
    newcomers: float = 0.0
    surcharge: float = 0.0


class Redeemed(NamedTuple):
    """What a solution has done; `run` names the held answer it paid for, `due` what is left.

    `balance` is the account's after it, 0 where the challenge was spent before.
    """

    verdict: Verdict
    run: bytes
    due: float
    balance: float = 0.0


class Outcome(IntEnum):
    """How a run ended that `charge` has not settled."""

    ANSWERED = 0
    """Its answer was released: its price stays."""
    FREE = 1
    """Its answer goes out without a price, or the endpoint failed: nothing is charged for it."""
    UNPAID = 2
    """The client is gone, or the answer was refused: the price of the moment stays a debt."""


class Limits(NamedTuple):
    """What `enter` holds a request to.

    Attributes
    ----------
    unpaid_runs : float
        Runs of one account that may be unpaid, before its whole debt is asked for.
    refuse_above : float
        Price of the moment above which nothing runs.
    busy : float
        Seconds for which the copies of a request are told that it is being answered.
    """

    unpaid_runs: float
    refuse_above: float
    busy: float


class Paid(NamedTuple):
    """A challenge that has paid for a request.

    Attributes
    ----------
    challenge_id : bytes
        Its id.
    expires : float
        Seconds since the epoch.
    unread : bool
        Whether it has paid just now: nobody has read the answer.
    """

    challenge_id: bytes
    expires: float
    unread: bool


class AccountRecord(NamedTuple):
    """What is remembered of an account, or of a group.

    Attributes
    ----------
    state : (8,) or (17,) float64
        Queries so far and seven wealths, and the same of account evidence with what that began
        with, where it has begun: see `EvidenceTariff`.
    balance : float
        Work redeemed less work charged: above 0 credit, below 0 a debt. A group has none.
    unpaid_runs : float
        Runs that nobody has paid for; infinite where answers were read that are not paid.
    opened : bool
        Whether the opening fee is paid.
    surcharged : float
        Work that the account was charged towards its opening, on probation.
    charged : float
        Seconds since the epoch of the latest charge.
    sketch : Sketch or None
        What its queries have added up to.
    """

    state: NDArray[np.float64]
    balance: float
    unpaid_runs: float
    opened: bool
    surcharged: float
    charged: float
    sketch: Sketch | None = None


class Ledger(Protocol):
    """A store that answers at once or blocks; an account is told apart within its group."""

    @property
    def tariff(self) -> EvidenceTariff:
        """What it prices by."""
        ...

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
        """Say whether a request may run, and debit the price of the moment where it does.

        That is the price of one query times `queries`. `run` is 16 random bytes; `again` is given
        where the request is paid and its answer gone; `newcomers` names the pool of the account
        while it is new. Nothing is written for an account that is not there and owes its opening.

        Raises
        ------
        StoreUnavailable
            The store did not answer in time or could not write.
        """
        ...

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
        """Charge a run for the evidence of its queries, at the higher of own and group's price.

        Whoever asks is charged, whether or not it then solves. A run that is done again with the
        evidence that was paid for costs nothing. `paid` is the challenge whose solution came with
        the request: it has paid for the run where nothing is due. `advance` and `group_advance`
        are what the run adds to the sketches that `enter` returned, in the same step.

        Raises
        ------
        InvalidInput
            The evidence is not a vector of nonnegative numbers; or an advance is of another number
            of queries, of a group that is not there, or one that the tariff has no use for.
            Nothing is charged then.
        StoreUnavailable
            As `enter`; whether it charged is not known.
        """
        ...

    def leave(self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome) -> None:
        """End a run whose charge did not settle it.

        Raises
        ------
        StoreUnavailable
            As `enter`.
        """
        ...

    def redeem(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge_id: bytes,
        expires: float,
        work: int,
    ) -> Redeemed:
        """Spend a challenge, once, and credit its work to the account.

        Raises
        ------
        StoreUnavailable
            As `enter`; the challenge may be spent, its work is credited then.
        """
        ...

    def report(
        self,
        account: str,
        group: str,
        report: bytes,
        evidence: ArrayLike,
        paid: float,
        newcomers: str = "",
    ) -> None:
        """Charge for an answer that was read already what its price is above `paid`, once.

        What the balance does not cover is asked for before anything else runs.

        Raises
        ------
        InvalidInput, StoreUnavailable
            As `charge`.
        """
        ...

    def account(self, account: str, group: str = "") -> AccountRecord | None:
        """Return an account as a charge would find it now; a group's record without account.

        Raises
        ------
        StoreUnavailable
            As `enter`.
        """
        ...

    def reset(self, account: str, group: str = "") -> None:
        """Let an account stand as one that has paid its opening, owes nothing and did nothing.

        Raises
        ------
        StoreUnavailable
            As `enter`.
        """
        ...

    def newcomers(self, pool: str = "") -> AccountRecord | None:
        """Return the state of a pool of newcomers, and when it was last charged.

        Of a Redis cluster, where each shard has a pool of its own, it is the one that is hottest.

        Raises
        ------
        StoreUnavailable
            As `enter`.
        """
        ...

    def reset_newcomers(self, pool: str = "") -> None:
        """Let a pool stand as one that nothing unusual has happened to.

        Raises
        ------
        StoreUnavailable
            As `enter`.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class AsyncLedger(Protocol):
    """The same store behind an event loop."""

    @property
    def tariff(self) -> EvidenceTariff:
        """What it prices by."""
        ...

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
        ...

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
        ...

    async def leave(
        self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome
    ) -> None:
        """See `Ledger.leave`."""
        ...

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
        ...

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
        ...

    async def account(self, account: str, group: str = "") -> AccountRecord | None:
        """See `Ledger.account`."""
        ...

    async def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        ...

    async def newcomers(self, pool: str = "") -> AccountRecord | None:
        """See `Ledger.newcomers`."""
        ...

    async def reset_newcomers(self, pool: str = "") -> None:
        """See `Ledger.reset_newcomers`."""
        ...

    async def close(self) -> None:
        """See `Ledger.close`."""
        ...


class Queries(list[float]):
    """The evidence of a request's queries, once it is checked."""


def queries_of(evidence: ArrayLike) -> Queries:
    """Check the evidence of a request's queries, once, before any store is asked."""
    return evidence if type(evidence) is Queries else Queries(nonnegative(evidence, "evidence"))


def tag_of(queries: list[float]) -> bytes:
    """Return what tells evidence apart: 8 bytes of the SHA-256 of its doubles, little-endian."""
    return sha256(struct.pack(f"<{len(queries)}d", *queries))[:8]


def half_life_of(tariff: EvidenceTariff, name: str) -> float:
    """Return the half-life of an account or group in seconds, 0 for none."""
    half_life = tariff.half_life
    if half_life is None and isinstance(name, SharedName):
        half_life = tariff.shared_half_life
    return half_life or 0.0


def report_digest(report: bytes) -> bytes:
    """Return the digest under which a report is remembered; no request has such a one."""
    return b"report:" + report


def require_evidence_tariff(tariff: object) -> EvidenceTariff:
    """Return `tariff` where it is of the kind that ledgers price.

    Raises
    ------
    InvalidInput
        It is another one.
    """
    if not isinstance(tariff, EvidenceTariff):
        raise InvalidInput(
            "ledgers price the evidence tariff, what `powfast calibrate` writes;"
            f" {type(tariff).__name__} is for comparison"
        )
    return tariff
