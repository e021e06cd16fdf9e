"""The decision: admit, challenge or refuse. No socket, no clock, no framework.

One logic serves blocking and asynchronous stores and servers: what a store gives is awaited where
it can be, so that over those that block a coroutine ends without waiting; see `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from numpy.typing import ArrayLike

from powfast.challenge import Issuer, Receipt
from powfast.errors import (
    AlreadyRedeemed,
    InvalidInput,
    PaymentRequired,
    PriceTooHigh,
    Refused,
    StoreUnavailable,
    TooManyUnpaid,
)
from powfast.http import (
    RECEIPT_HEADER,
    Answer,
    Headers,
    parse_solution,
    payment_required,
    refusal,
)
from powfast.observers.base import Observer, Unobserved
from powfast.stores import AsyncLedger, Ledger
from powfast.stores.base import queries_of
from powfast.stores.held import Held, HeldAnswers
from powfast.tariff.evidence import COVERED

MAX_NAME_BYTES = 255
MAX_OPENED = 100_000
"""Accounts that a process knows to be open, without asking the ledger again."""

_RECEIPT = RECEIPT_HEADER.lower().encode()
_GONE = "a store has failed this request before"

OnStoreError = Literal["closed", "local", "open"]

Endpoint = Callable[[], Coroutine[Any, Any, Answer | None]]

T = TypeVar("T")


@dataclass(slots=True)
class Asked:
    """Who asks what: the account, its group, and the digest of the request."""

    account: str
    group: str
    digest: bytes
    gone: Literal["", "held", "ledger"] = field(default="", compare=False, repr=False)
    """Which store has failed this request, and is not asked again; after the ledger, neither is."""

    def __post_init__(self) -> None:
        if not (_is_name(self.account) and (self.group == "" or _is_name(self.group))):
            raise InvalidInput(
                f"an account or group is text of at most {MAX_NAME_BYTES} bytes in UTF-8"
            )


def _is_name(name: str) -> bool:
    try:
        return len(name.encode()) <= MAX_NAME_BYTES
    except (AttributeError, UnicodeEncodeError):  # no text, or half a character
        return False


class Bill:
    """What one request owes, while its endpoint runs; servers add their way of waiting.

    Parameters
    ----------
    gate : Gate
        Charges the request.
    asked : Asked
        Who asks what.
    price : callable, optional
        From an answer to the evidence of its queries, where the endpoint does not charge itself;
        it may be a coroutine function.
    """

    def __init__(
        self, gate: Gate, asked: Asked, price: Callable[[Answer], Any] | None = None
    ) -> None:
        self._gate = gate
        self._price = price
        self._charged = False
        self.asked = asked
        self.receipt: Receipt | None = None
        self.work = 0
        """Work still owed for this request: an expected number of SHA-256 evaluations."""
        self.stopped: PaymentRequired | StoreUnavailable | None = None
        """Why the endpoint was stopped before it had an answer."""
        self.answering = False
        """Whether the answer is on its way out."""
        self.pending = False
        """Whether a charge has begun that nobody has awaited."""
        self.credit = 0
        """Work that the opening just paid covers of this request's price; 0 without one."""
        self.settled = False
        """Whether the request itself has been paid for."""

    def owe(self, price: int) -> None:
        """Owe the price of the request, as far as opening the account has not paid for it."""
        self.work = max(0, price - self.credit)

    @property
    def receipt_headers(self) -> Headers:
        """What a paid answer says of its payment."""
        return () if self.receipt is None else ((_RECEIPT, b"work=%d" % self.receipt.work),)

    def is_unpriced(self) -> bool:
        """Return whether the answer itself has to be seen before its price is known."""
        return not (self._price is None or self._charged or self.settled)

    async def pricing(self, answer: Answer) -> None:
        """Charge for an answer whose endpoint did not charge."""
        if self._price is not None:
            evidence = self._price(answer)
            if hasattr(evidence, "__await__"):
                evidence = await evidence
            await self._charging(evidence)

    async def _charging(self, evidence: ArrayLike) -> None:
        """Charge the request, once, before its answer starts; one that is paid owes nothing."""
        if self._charged:
            raise RuntimeError("a request is charged once, with the evidence of all its queries")
        if self.answering:
            raise RuntimeError("charge before the answer starts: what was sent cannot be withheld")
        self._charged = True
        if not self.settled:
            try:
                self.owe(await self._gate.charge(self.asked, evidence))
            except StoreUnavailable as error:
                self.stopped = error
                raise

    async def _requiring(self, evidence: ArrayLike) -> None:
        """Charge the request, and stop its endpoint where something is owed."""
        await self._charging(evidence)
        if self.work:
            self.stopped = PaymentRequired("this request has to be paid before it runs")
            raise self.stopped


class WentAway(BaseException):
    """The client went away before its answer was whole, so that there is none.

    Like a cancelled task, it leaves its place taken until that expires: who goes away again and
    again would have the model run for nothing without bound.
    """


class Withheld:
    """The answer of an endpoint: it goes out at once, or is kept until it is paid for."""

    def __init__(self, bill: Bill, max_size: int) -> None:
        self._bill = bill
        self._room = max_size
        self._head: tuple[int, Headers] | None = None
        self._pieces: list[bytes] = []

    def passes(self, status: int) -> bool:
        """Return whether an answer that begins with this status goes out.

        A failure is nobody's answer: it is not worth holding, nor asking work for.
        """
        bill = self._bill
        if status >= 500:
            bill.answering = not bill.stopped
        elif bill.pending and not bill.stopped:
            raise RuntimeError("the charge of this request was not awaited: its answer stays here")
        else:
            bill.answering = not (bill.stopped or bill.work or bill.is_unpriced())
        return bill.answering

    def begin(self, status: int, headers: Headers) -> None:
        """Keep the head of an answer that does not go out."""
        self._head, self._pieces = (status, headers), []

    def add(self, piece: bytes) -> None:
        """Keep a piece of the body, as long as all of it fits."""
        self._room -= len(piece)
        if self._room < 0:
            self.forgo()
        else:
            self._pieces.append(piece)

    def forgo(self) -> None:
        """Keep nothing: the endpoint runs again once it is paid for."""
        self._room = -1
        self._pieces.clear()

    def answer(self) -> Answer | None:
        """Return what to hold, where there is something that can be."""
        if self._head is None or self._room < 0 or self._bill.answering or self._bill.stopped:
            return None
        return Answer(*self._head, b"".join(self._pieces))


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
        Work of one request beyond which it is refused, with 403, instead of challenged.
    on_store_error : {"closed", "local", "open"}
        What happens while the ledger is unavailable: requests are refused with 503; or `fallback`
        charges and claims, for this process alone; or answers go out without a price.
    fallback : Ledger, optional
        For "local": a ledger in memory, with the same tariff.
    observer : Observer
        Is told what happens.

    Raises
    ------
    InvalidInput
        The mode is none of the three, or the fallback is missing or has no use.
    """

    def __init__(
        self,
        issuer: Issuer,
        ledger: Ledger | AsyncLedger,
        held: Held | None = None,
        *,
        refuse_above: int | None = None,
        on_store_error: OnStoreError = "closed",
        fallback: Ledger | None = None,
        observer: Observer | None = None,
    ) -> None:
        if on_store_error not in get_args(OnStoreError):
            modes = ", ".join(get_args(OnStoreError))
            raise InvalidInput(f"on_store_error is one of {modes}, not {on_store_error!r}")
        if (on_store_error == "local") != (fallback is not None):
            raise InvalidInput(
                'a fallback ledger belongs to on_store_error="local", and only there'
            )
        self.refuse_above = refuse_above
        self._on_store_error = on_store_error
        self._fallback = fallback
        self._observer = Unobserved() if observer is None else observer
        self._opened: set[tuple[str, str]] = set()
        self.issuer = issuer
        self.ledger = ledger
        if held is None:
            held = HeldAnswers(lifetime=issuer.ttl, observer=observer)
        self.held = held

    async def charge(self, asked: Asked, evidence: ArrayLike) -> int:
        """Charge a request for what its answer reveals, and return the work it has to pay."""
        queries = queries_of(evidence)
        work: int = await self._stored(
            asked, "charge", 0, asked.account, asked.group, asked.digest, queries
        )
        self._observer.event("charged", work=work, queries=len(queries))
        return work

    async def _stored(self, asked: Asked, operation: str, opened: T, *arguments: Any) -> T:
        """Ask the ledger; where it is unavailable, do what the operator chose."""
        try:
            if asked.gone == "ledger":
                raise StoreUnavailable(_GONE)
            with self._observer.span("ledger"):
                result: Any = getattr(self.ledger, operation)(*arguments)
                if hasattr(result, "__await__"):
                    result = await result
        except StoreUnavailable:
            self._note_failure(asked, "ledger", operation)
            if self._on_store_error == "closed":
                raise
            if self._fallback is None:
                return opened
            result = getattr(self._fallback, operation)(*arguments)
        told: T = result
        return told

    async def _kept(self, asked: Asked, operation: str, lost: T, *arguments: Any) -> T:
        """Ask the store of held answers; what it has lost costs another run of the model."""
        try:
            if asked.gone and not isinstance(self.held, HeldAnswers):  # which make nobody wait
                raise StoreUnavailable(_GONE)
            call = getattr(self.held, operation)
            result: Any = call(asked.account, asked.digest, *arguments)
            if hasattr(result, "__await__"):
                result = await result
        except StoreUnavailable:
            self._note_failure(asked, "held", operation)
            if self._on_store_error == "closed" and operation == "reserve":
                raise
            return lost
        told: T = result
        return told

    def _note_failure(self, asked: Asked, store: Literal["held", "ledger"], operation: str) -> None:
        if asked.gone not in (store, "ledger"):
            asked.gone = store
            self._observer.event("store-error", operation=operation, mode=self._on_store_error)

    def challenge(self, asked: Asked, work: int) -> bytes:
        """Issue a challenge over `work`, bound to who asked what."""
        self._observer.event("challenged", work=work)
        return self.issuer.issue(
            work=work, account=asked.account, group=asked.group, request=asked.digest
        )

    async def redeem(self, asked: Asked, header: str) -> Receipt:
        """Check a `PoW-Solution` header and spend its challenge.

        Raises
        ------
        Refused
            One leaf per reason; nothing was written.
        """
        try:
            receipt = await self._redeeming(asked, header)
        except Refused as error:
            self._observer.event("redeemed", outcome=error.code, work=0)
            raise
        self._observer.event("redeemed", outcome="ok", work=receipt.work)
        return receipt

    async def _redeeming(self, asked: Asked, header: str) -> Receipt:
        with self._observer.span("verify"):
            token, solution = parse_solution(header)
            account, digest = asked.account, asked.digest
            receipt = self.issuer.check(token, solution, account=account, request=digest)
        fresh = await self._stored(asked, "claim", True, receipt.challenge_id, receipt.expires)
        if not fresh:
            raise AlreadyRedeemed("the challenge was redeemed before: ask for a new one")
        return receipt

    async def serve(
        self,
        bill: Bill,
        solution: str | None,
        endpoint: Endpoint,
        *,
        status: int = 402,
    ) -> Answer | None:
        """Serve one request: the walk of every server adapter.

        Parameters
        ----------
        bill : Bill
            The one that the endpoint charges.
        solution : str or None
            The request's `PoW-Solution` header.
        endpoint : coroutine function
            Runs the endpoint. It passes the answer on, or returns what `Withheld` kept.
        status : int
            Status of a challenge.

        Returns
        -------
        Answer or None
            What to send; `None` where the endpoint has answered, or nobody waits any more.
        """
        with self._observer.span("gate"):
            try:
                return await self._serve(bill, solution, endpoint, status)
            except WentAway:
                return None
            except (TooManyUnpaid, PriceTooHigh, StoreUnavailable) as error:
                self._observer.event("refused", code=error.code)
                return refusal(error)

    async def _serve(
        self, bill: Bill, solution: str | None, endpoint: Endpoint, status: int
    ) -> Answer | None:
        asked, detail = bill.asked, "solve the challenge and repeat the request with its solution"
        opened = (asked.account, asked.group) in self._opened
        opening = 0 if opened else await self._opening(asked)
        if solution is not None:
            try:
                bill.receipt = await self.redeem(asked, solution)
            except Refused as error:
                detail = f"{error} ({error.code}); {detail}"
            else:
                if not 0 < opening <= bill.receipt.work:
                    bill.settled = True
                    return await self._answer_paid(bill, endpoint)
                await self._stored(asked, "open", None, asked.account, asked.group)
                bill.credit, opening = max(1, opening // COVERED), 0
        if opening:
            return payment_required(self.challenge(asked, opening), detail, status)
        answer = await self._price(bill, endpoint)
        if not bill.work or bill.answering:
            return answer
        asking = payment_required(self.challenge(asked, bill.work), detail, status)
        return asking if bill.receipt is None else asking.with_headers(*bill.receipt_headers)

    async def _opening(self, asked: Asked) -> int:
        """Return what an account owes before anything runs for it: 0 once it is open."""
        work = await self._stored(asked, "opening", 0, asked.account, asked.group)
        if not work and asked.gone != "ledger":
            if len(self._opened) >= MAX_OPENED:
                self._opened.clear()
            self._opened.add((asked.account, asked.group))
        return work

    async def _answer_paid(self, bill: Bill, endpoint: Endpoint) -> Answer | None:
        held = await self._release(bill.asked)
        if held is None:
            await endpoint()
            return None
        return held.with_headers(*bill.receipt_headers)

    async def _price(self, bill: Bill, endpoint: Endpoint) -> Answer | None:
        """Find what a request owes; return its answer where that has not gone out yet."""
        asked = bill.asked
        bill.work = await self._kept(asked, "reserve", 0)
        if bill.work:
            return None
        try:
            answer = await self._priced_answer(bill, endpoint)
        except Exception:  # others leave the place taken, see `WentAway`
            await self._release(asked)
            raise
        if not bill.work or bill.answering:
            await self._release(asked)
            return answer
        size = 0 if answer is None else len(answer.body)
        await self._kept(asked, "fill", None, bill.work, answer, size)
        return answer

    async def _priced_answer(self, bill: Bill, endpoint: Endpoint) -> Answer | None:
        """Run the endpoint, and charge for its answer where it did not."""
        answer: Answer | None = None
        try:
            answer = await endpoint()
        except Exception:
            # frameworks may hand on another exception than the one that stopped the endpoint
            if not bill.stopped:
                raise
        if bill.is_unpriced() and not (bill.stopped or bill.answering):
            await bill.pricing(Answer(200, (), b"") if answer is None else answer)
            if answer is None and not bill.work:
                await endpoint()  # it costs nothing, and was too large to be kept
        if isinstance(bill.stopped, StoreUnavailable):
            raise bill.stopped
        if self.refuse_above is not None and not bill.answering and bill.work > self.refuse_above:
            raise PriceTooHigh(
                f"the price is {bill.work} evaluations, this server answers up to"
                f" {self.refuse_above}"
            )
        return answer

    async def _release(self, asked: Asked) -> Answer | None:
        nothing: Answer | None = None
        return await self._kept(asked, "release", nothing)


def run(flow: Coroutine[Any, Any, T]) -> T:
    """Drive a flow over stores and an endpoint that block: it never has to wait."""
    try:
        flow.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise RuntimeError("a server that blocks needs stores that block: leave out asynchronous=True")
