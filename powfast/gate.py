"""The decision: admit, challenge or refuse. No socket, no clock, no framework.

One logic serves blocking and asynchronous stores and servers: what a store gives is awaited where
it can be, so that over those that block a coroutine ends without waiting; see `run`.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar, get_args

from numpy.typing import ArrayLike

from powfast.batches import Batches
from powfast.bill import (
    Bill,
    ClientDisconnected,
    Evidence,
    Phase,
    RequestIdentity,
    Streams,
    evidence_of_queries,
)
from powfast.challenge import Issuer, Receipt
from powfast.errors import (
    AlreadyRedeemed,
    InvalidInput,
    PriceTooHigh,
    Refused,
    RequestInProgress,
    StoreUnavailable,
    TooManyQueries,
    WrongAccount,
    WrongRequest,
    require_int,
)
from powfast.http import (
    Answer,
    parse_solution,
    payment_required,
    receipt_header,
    refusal,
)
from powfast.observers.base import Observer, Unobserved
from powfast.puzzle import Algorithm
from powfast.receipts import Charges, Receipts
from powfast.request import Endpoint, Request
from powfast.stores import AsyncLedger, Ledger
from powfast.stores.base import (
    Charged,
    Limits,
    Outcome,
    Paid,
    Redeemed,
    Verdict,
    queries_of,
)
from powfast.stores.failsafe import FailsafeStores, OnStoreError
from powfast.stores.held import Held, HeldAnswers
from powfast.walks import NEVER, Purpose, Walks

MAX_UNPAID_RUNS = 0
MAX_QUERIES = 10_000

T = TypeVar("T")

_MAY_PAY = {
    Verdict.OPENING: (Purpose.OPENING,),
    Verdict.DEBT: (Purpose.DEBT, Purpose.REQUEST),
    Verdict.OWED: (Purpose.REQUEST,),
}

_ASK = "solve the challenge and repeat the request with its solution"


class Gate:
    """Prices requests, issues their challenges and redeems the solutions.

    Parameters
    ----------
    issuer : Issuer
        Signs and checks challenges.
    ledger
        Charges accounts and spends challenges; its methods may be coroutines.
    held
        Where answers wait for their payment.
    refuse_above : int, optional
        Work beyond which a request is refused, with 403, instead of challenged: before anything
        runs where the account's price is already above it. What a newcomer pays for its pool does
        not count.
    max_unpaid_runs : int
        Runs of an account that may be unpaid before its whole debt is asked for. With 0, nothing
        runs that is not paid for at the price of the moment, and answers may stream.
    max_queries : int
        Queries of one request; more are refused with 413.
    hold_shared : bool
        Whether to hold the answers of accounts that several people share, and those that set
        cookies. Without it their endpoint runs again once it is paid for.
    on_store_error : {"closed", "local", "open"}
        What happens while the ledger is unavailable: requests are refused with 503; or `fallback`
        charges and redeems, for this process alone; or answers go out without a price.
    fallback : Ledger, optional
        For "local": a ledger in memory, with the same tariff.
    observer : Observer
        Is told what happens.
    walks : Walks, optional
        Experimental: what is asked for in walks (docs/cachewalk.md); nothing by default.

    Raises
    ------
    InvalidInput
        The mode is none of the three, the fallback is missing or has no use, or a bound is no
        integer or out of its range.
    """

    def __init__(
        self,
        issuer: Issuer,
        ledger: Ledger | AsyncLedger,
        held: Held | None = None,
        *,
        refuse_above: int | None = None,
        max_unpaid_runs: int = MAX_UNPAID_RUNS,
        max_queries: int = MAX_QUERIES,
        hold_shared: bool = False,
        on_store_error: OnStoreError = "closed",
        fallback: Ledger | None = None,
        observer: Observer | None = None,
        walks: Walks | None = None,
    ) -> None:
        if walks is not None and Algorithm.CACHEWALK not in issuer.algorithms:
            raise InvalidInput("walks need an issuer whose algorithms have Algorithm.CACHEWALK")
        if on_store_error not in get_args(OnStoreError):
            modes = ", ".join(get_args(OnStoreError))
            raise InvalidInput(f"on_store_error is one of {modes}, not {on_store_error!r}")
        if (on_store_error == "local") != (fallback is not None):
            raise InvalidInput(
                'a fallback ledger belongs to on_store_error="local", and only there'
            )
        self._limits = Limits(
            float(require_int("max_unpaid_runs", max_unpaid_runs, 0, 2**53)),
            math.inf if refuse_above is None else float(refuse_above),
            issuer.ttl,
        )
        self._hold_shared = hold_shared
        self._on_store_error: OnStoreError = on_store_error
        self._fallback = fallback
        walks = NEVER if walks is None else walks
        self._walks = walks.on_probation() if ledger.tariff.probation else walks
        self._streams = Streams()
        self._observer = Unobserved() if observer is None else observer
        self._receipts = Receipts(issuer, ledger.tariff, self._observer, self._walks)
        self._charges = Charges(self._observer)
        self._batches = Batches(max_queries, self._observer)
        self.issuer = issuer
        self.ledger = ledger
        if held is None:
            held = HeldAnswers(lifetime=issuer.ttl, observer=observer)
        self.held = held

    async def serve(
        self,
        identity: RequestIdentity,
        bill: Bill,
        solution: str | None,
        endpoint: Endpoint,
        *,
        queries: int | None = None,
        status: int = 402,
    ) -> Answer | None:
        """Serve one request: the walk of every server adapter.

        Parameters
        ----------
        identity : RequestIdentity
            Who asks what.
        bill : Bill
            The one that the endpoint charges.
        solution : str or None
            The request's `PoW-Solution` header.
        endpoint : coroutine function
            Runs the endpoint. It passes the answer on, or returns what `ResponseBuffer` kept.
        queries : int, optional
            How many it has: nothing runs before the price of the moment of all of them is paid.
            Without it that is the price of one, and more than 64 that have run are not answered.
        status : int
            Status of a challenge.

        Returns
        -------
        Answer or None
            What to send; `None` where the endpoint has answered, or nobody waits any more.
        """
        with self._observer.span("gate"):
            whose = identity.account, identity.group, identity.digest
            stores = FailsafeStores(
                self.ledger,
                self.held,
                whose,
                identity.newcomers,
                self._on_store_error,
                self._fallback,
                self._observer,
            )
            request = Request(identity, bill, endpoint, stores, queries, status)
            try:
                self._batches.require_few(queries or 1)
                return await self._serve(request, solution)
            except ClientDisconnected:
                return None
            except (RequestInProgress, PriceTooHigh, TooManyQueries, StoreUnavailable) as error:
                self._observer.event("refused", code=error.code)
                return refusal(error)

    async def report(self, identity: RequestIdentity, evidence: ArrayLike, paid: float) -> None:
        """Charge for an answer that was read already, once per `identity.digest`.

        Raises
        ------
        InvalidInput, TooManyQueries
            The evidence is malformed, or of too many queries.
        StoreUnavailable
            The ledger is away; nothing takes its place.
        """
        queries = queries_of(evidence)
        self._batches.require_few(len(queries))
        whose = identity.account, identity.group, identity.digest
        reported = self.ledger.report(*whose, queries, paid, identity.newcomers)
        if reported is not None:
            await reported
        self._observer.event("reported", queries=len(queries))
        if paid < len(queries) * self.ledger.tariff.base_work:
            self._batches.note_uncounted(len(queries))

    async def _serve(self, request: Request, solution: str | None) -> Answer | None:
        """Redeem a solution, and send the answer that it has paid for; else enter."""
        again = None
        if solution is not None:
            try:
                receipt, redeemed = await self._redeem(request, solution)
            except Refused as error:
                return await self._enter(request, f"{error} ({error.code}); {_ASK}", None)
            request.bill.receipt = receipt
            request.bill.receipt_headers = (receipt_header(receipt.work),)
            if redeemed.verdict is Verdict.OWED:
                return self._challenge(request, redeemed.due, _ASK)
            held = await self._held(request, redeemed)
            if held is not None:
                return held
            unread = redeemed.verdict is Verdict.PAID
            if unread or redeemed.verdict in (Verdict.AGAIN, Verdict.SPENT):
                again = Paid(receipt.challenge_id, receipt.expires, unread)
        return await self._enter(request, _ASK, again)

    async def _redeem(self, request: Request, solution: str) -> tuple[Receipt, Redeemed]:
        """Check a `PoW-Solution` header and spend its challenge.

        Raises
        ------
        Refused
            One leaf per reason; nothing was written.
        """
        try:
            receipt = self._checked(request.identity, solution)
            redeemed = await request.stores.redeem(receipt)
            if redeemed.verdict is Verdict.SPENT and not receipt.request:
                raise AlreadyRedeemed("the challenge was redeemed before: ask for a new one")
        except Refused as error:
            self._redeemed(error.code)
            raise
        if redeemed.verdict not in (Verdict.AGAIN, Verdict.SPENT):  # seen later
            self._redeemed("ok", receipt.work)
        return receipt, redeemed

    async def _held(self, request: Request, redeemed: Redeemed) -> Answer | None:
        """Return the answer that a solution has paid for, where it is held."""
        receipt = request.bill.receipt
        if receipt is None or redeemed.verdict not in (Verdict.PAID, Verdict.AGAIN):
            return None
        held = await request.stores.held(request.place(redeemed.run), receipt.expires)
        if held is None:
            return None
        if redeemed.verdict is Verdict.AGAIN:
            self._redeemed("again")
        return held.with_headers(
            *self._receipts.released(request.identity, receipt, redeemed.balance)
        )

    def _redeemed(self, outcome: str, work: int = 0) -> None:
        self._observer.event("redeemed", outcome=outcome, work=work)

    def _checked(self, identity: RequestIdentity, solution: str) -> Receipt:
        with self._observer.span("verify"):
            token, nonces = parse_solution(solution)
            check = partial(self.issuer.check, token, nonces, account=identity.account)
            try:
                receipt = check(request=identity.digest)
            except WrongRequest:  # unless it is for any request of the account
                receipt = check(request=b"")
            if receipt.group != identity.group:
                raise WrongAccount("the challenge was issued to this account in another group")
            return self._walks.in_evaluations(receipt)

    async def _enter(self, request: Request, detail: str, again: Paid | None) -> Answer | None:
        """Run the endpoint where the ledger lets it, or say what is asked for first."""
        entry = await request.stores.enter(request.run, self._limits, again, request.queries or 1)
        if entry.verdict is Verdict.SPENT:  # it has failed, or run again often enough
            if request.bill.receipt is not None:  # or it was under way, and is answered by now
                redeemed = await request.stores.redeem(request.bill.receipt)
                held = await self._held(request, redeemed)
                if held is not None:
                    return held
            request.bill.receipt, request.bill.receipt_headers = None, ()
            spent = AlreadyRedeemed("the challenge was redeemed before: ask for a new one")
            self._redeemed(spent.code)
            return await self._enter(request, f"{spent} ({spent.code}); {_ASK}", None)
        if again is not None and not again.unread:
            self._redeemed("again")
        if entry.verdict is Verdict.BUSY:
            raise RequestInProgress(
                "the same request is being answered: wait for its answer", min(entry.work, 1.0)
            )
        if entry.verdict is Verdict.TOO_HIGH:
            raise self._too_high(entry.work)
        if entry.verdict in _MAY_PAY:
            return self._challenge(request, entry.work, detail, entry.verdict)
        if entry.verdict is Verdict.COVERED:
            held = await request.stores.held(request.place(entry.run))
            if held is not None:
                await request.stores.leave(request.run, Outcome.ANSWERED)
                return held.with_headers(
                    *self._receipts.released(request.identity, request.bill.receipt, entry.work)
                )
        request.sketches = entry.sketch, entry.group_sketch
        return await self._run(request, detail)

    async def _run(self, request: Request, detail: str) -> Answer | None:
        """Run the endpoint, and settle what has become of it."""

        async def charge(evidence: Evidence, has_run: bool) -> Charged:
            queries = queries_of(evidence_of_queries(evidence))
            self._batches.require_few(len(queries))
            if has_run and request.queries is None:
                self._batches.require_counted(bill, len(queries))
            advances = request.advances(evidence) if self.ledger.tariff.account_evidence else ()
            charged = await request.stores.charge(request.run, queries, request.paid, *advances)
            self._charges.tell(request.identity.newcomers, charged, len(queries))
            if charged.price and not charged.due:  # without a price nobody knows the balance
                bill.receipt_headers = self._receipts.of(request.identity, bill.receipt, charged)
            return charged

        async def end_stream() -> None:
            try:
                charged = await charge(await bill.end_stream(), True)
            except BaseException:
                await leave(request.run, Outcome.UNPAID)
                raise
            finally:
                self._streams.leave(request.identity)
            bill.due, bill.work = charged.due, charged.price
            if bill.due:  # a debt: what was read is not held for its payment
                await leave(request.run, Outcome.ANSWERED)

        async def finish(copy: Answer | None) -> None:
            if bill.phase is Phase.STREAMING:
                await end_stream()
            if bill.phase is Phase.FREE:
                await leave(request.run, bill.failed)
            elif bill.has_own_receipt and not bill.due:
                await self._hold(request, copy)

        bill, leave = request.bill, request.stores.leave
        bill.begin(charge, finish, partial(self._may_stream, request))
        try:
            answer = await _answered(bill, request.endpoint)
        except Exception:
            await leave(request.run, bill.failed)
            raise
        except BaseException:  # the client is gone, or the server ends
            if bill.phase in (Phase.RUNNING, Phase.CHARGING):
                await leave(request.run, Outcome.UNPAID)
            elif bill.phase is Phase.FREE:
                await bill.finish()
            raise
        if isinstance(bill.stopped, TooManyQueries | StoreUnavailable):
            await leave(request.run, Outcome.UNPAID)
            raise bill.stopped
        if bill.phase in (Phase.STREAMING, Phase.ANSWERING):
            return None
        if bill.phase is Phase.FREE or not bill.due:
            if bill.phase is Phase.FREE or answer is not None:
                await bill.finish(answer)
            return None if answer is None else answer.with_headers(*bill.receipt_headers)
        if bill.due - bill.surcharge > self._limits.refuse_above:
            await leave(request.run, Outcome.UNPAID)
            raise self._too_high(bill.due - bill.surcharge)
        bill.end()
        await self._hold(request, answer)
        return self._challenge(request, bill.due, detail)

    def _may_stream(self, request: Request) -> bool:
        """Let an answer go out before it is charged: its run has been paid for, at a floor.

        What its price is above that becomes a debt, so that few of an account stream at once, and
        none of those whose debts nobody pays.
        """
        identity = request.identity
        if self._limits.unpaid_runs or identity.is_shared or not self._streams.enter(identity):
            return False
        bill = request.bill
        if bill.has_own_receipt:  # nobody knows the balance yet: it was too low for this one
            bill.receipt_headers += self._receipts.offer(identity, Charged(0.0, 0.0, 0.0))
        return True

    async def _hold(self, request: Request, answer: Answer | None) -> None:
        """Hold an answer that is the asker's alone: nobody else's cookie, nor what others read."""
        if answer is None:
            return
        sets_cookie = b"set-cookie" in [name.lower() for name, _ in answer.headers]
        if self._hold_shared or not (request.identity.is_shared or sets_cookie):
            await request.stores.hold(request.place(request.run), answer)

    def _challenge(
        self, request: Request, due: float, detail: str, verdict: Verdict = Verdict.OWED
    ) -> Answer:
        """Ask for work, bound to who asked what."""
        work = self.ledger.tariff.publish(due)
        self._observer.event("challenged", work=work)
        identity = request.identity
        work, algorithm = self._walks.asked(work, *_MAY_PAY[verdict])
        token = self.issuer.issue(
            work=work,
            account=identity.account,
            group=identity.group,
            request=identity.digest,
            algorithm=algorithm,
        )
        asking = payment_required(token, detail, request.status)
        return asking.with_headers(*request.bill.receipt_headers)

    def _too_high(self, price: float) -> PriceTooHigh:
        return PriceTooHigh(
            f"the price is {price:.0f} evaluations, this server answers up to"
            f" {self._limits.refuse_above:.0f}"
        )


async def _answered(bill: Bill, endpoint: Endpoint) -> Answer | None:
    """Run the endpoint, and charge for its answer where it did not."""
    answer: Answer | None = None
    try:
        answer = await endpoint()
    except Exception:
        # frameworks may hand on another exception than the one that stopped the endpoint
        if not bill.stopped:
            raise
    if bill.is_unpriced:
        await bill.price(Answer(200, (), b"") if answer is None else answer)
        if answer is None and bill.phase is Phase.COVERED:
            await endpoint()  # it costs nothing more, and was too large to be kept
    return answer


def run(flow: Coroutine[Any, Any, T]) -> T:
    """Drive a flow over stores and an endpoint that block: it never has to wait."""
    try:
        flow.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise RuntimeError("a server that blocks needs stores that block: leave out asynchronous=True")
