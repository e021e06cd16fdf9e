"""The decision: admit, challenge or refuse. No socket, no clock, no framework.

A step that waits, for the ledger or for the endpoint, is yielded as a call; `run` and `run_async`
are the two drivers, so that one logic serves blocking and asynchronous stores and servers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from powfast.challenge import Issuer, Receipt
from powfast.errors import (
    AlreadyRedeemed,
    InvalidInput,
    PaymentRequired,
    PriceTooHigh,
    Refused,
    TooManyUnpaid,
)
from powfast.held import HeldAnswers
from powfast.http import RECEIPT_HEADER, Answer, parse_solution, payment_required, refusal
from powfast.ledger import AsyncLedger, Ledger

MAX_NAME_BYTES = 255

T = TypeVar("T")
Flow = Generator[Callable[[], Any], Any, T]


@dataclass(frozen=True)
class Asked:
    """Who asks what: the account, its group, and the digest of the request."""

    account: str
    group: str
    digest: bytes

    def __post_init__(self) -> None:
        for name in (self.account, self.group):
            if not isinstance(name, str) or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
                raise InvalidInput(
                    f"an account or group is text of at most {MAX_NAME_BYTES} bytes in UTF-8"
                )


class Bill:
    """What one request owes, while its endpoint runs; servers add their way of waiting."""

    def __init__(self, gate: Gate, asked: Asked) -> None:
        self._gate = gate
        self._charged = False
        self.asked = asked
        self.receipt: Receipt | None = None
        self.work = 0
        """Work still owed for this request: an expected number of SHA-256 evaluations."""
        self.stopped = False
        """Whether the endpoint was stopped until it is paid for."""
        self.answering = False
        """Whether the answer is on its way out."""

    @property
    def receipt_headers(self) -> tuple[tuple[str, str], ...]:
        """What a paid answer says of its payment."""
        return () if self.receipt is None else ((RECEIPT_HEADER, f"work={self.receipt.work}"),)

    def _charging(self, evidence: ArrayLike) -> Flow[None]:
        """Charge the request, once, before its answer starts; one that is paid owes nothing."""
        if self._charged:
            raise RuntimeError("a request is charged once, with the evidence of all its queries")
        if self.answering:
            raise RuntimeError("charge before the answer starts: what was sent cannot be withheld")
        self._charged = True
        if self.receipt is None:
            self.work = yield from self._gate.charge(self.asked, evidence)

    def _requiring(self, evidence: ArrayLike) -> Flow[None]:
        """Charge the request, and stop its endpoint where something is owed."""
        yield from self._charging(evidence)
        if self.work:
            self.stopped = True
            raise PaymentRequired("this request has to be paid before it runs")


class Withheld:
    """The answer of an endpoint: it goes out at once, or is kept until it is paid for."""

    def __init__(self, bill: Bill, max_size: int) -> None:
        self._bill = bill
        self._room = max_size
        self._head: tuple[int, tuple[tuple[str, str], ...]] | None = None
        self._pieces: list[bytes] = []

    def passes(self, status: int) -> bool:
        """Return whether an answer that begins with this status goes out.

        A failure is nobody's answer: it is not worth holding, nor asking work for.
        """
        bill = self._bill
        bill.answering = not bill.stopped and (not bill.work or status >= 500)
        return bill.answering

    def begin(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
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

    @property
    def answer(self) -> Answer | None:
        """What to hold, where there is something that can be."""
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
    held : HeldAnswers
        Where answers wait for their payment.
    refuse_above : int, optional
        Work of one request beyond which it is refused, with 403, instead of challenged.
    """

    def __init__(
        self,
        issuer: Issuer,
        ledger: Ledger | AsyncLedger,
        held: HeldAnswers | None = None,
        *,
        refuse_above: int | None = None,
    ) -> None:
        self.refuse_above = refuse_above
        self.issuer = issuer
        self.ledger = ledger
        self.held = HeldAnswers(lifetime=issuer.ttl) if held is None else held

    def charge(self, asked: Asked, evidence: ArrayLike) -> Flow[int]:
        """Charge a request for what its answer reveals, and return the work it has to pay."""
        work: int = yield partial(
            self.ledger.charge, asked.account, asked.group, asked.digest, evidence
        )
        return work

    def challenge(self, asked: Asked, work: int) -> bytes:
        """Issue a challenge over `work`, bound to who asked what."""
        return self.issuer.issue(
            work=work, account=asked.account, group=asked.group, request=asked.digest
        )

    def redeem(self, asked: Asked, header: str) -> Flow[Receipt]:
        """Check a `PoW-Solution` header and spend its challenge.

        Raises
        ------
        Refused
            One leaf per reason; nothing was written.
        """
        token, solution = parse_solution(header)
        receipt = self.issuer.check(token, solution, account=asked.account, request=asked.digest)
        fresh = yield partial(self.ledger.claim, receipt.challenge_id, receipt.expires)
        if not fresh:
            raise AlreadyRedeemed("the challenge was redeemed before: ask for a new one")
        return receipt

    def serve(
        self,
        bill: Bill,
        solution: str | None,
        endpoint: Callable[[], Any],
        *,
        status: int = 402,
    ) -> Flow[Answer | None]:
        """Serve one request: the walk of every server adapter.

        Parameters
        ----------
        bill : Bill
            The one that the endpoint charges.
        solution : str or None
            The request's `PoW-Solution` header.
        endpoint : callable
            Runs the endpoint, or is a coroutine function that does. It passes the answer on, or
            returns what `Withheld` kept.
        status : int
            Status of a challenge.

        Returns
        -------
        Answer or None
            What to send; `None` where the endpoint has answered.
        """
        asked, detail = bill.asked, "solve the challenge and repeat the request with its solution"
        if solution is not None:
            try:
                bill.receipt = yield from self.redeem(asked, solution)
            except Refused as error:
                detail = f"{error} ({error.code}); {detail}"
            else:
                held: Answer | None = self.held.release(asked.account, asked.digest)
                if held is None:
                    yield endpoint
                    return None
                return held.with_headers(*bill.receipt_headers)
        try:
            work = yield from self._price(bill, endpoint)
        except (TooManyUnpaid, PriceTooHigh) as error:
            return refusal(error)
        return (
            payment_required(self.challenge(asked, work), detail, status=status) if work else None
        )

    def _price(self, bill: Bill, endpoint: Callable[[], Any]) -> Flow[int]:
        """Return the work owed for a request; 0 where it was not charged, and is answered."""
        asked = bill.asked
        place = self.held.reserve(asked.account, asked.digest)
        if place.work:
            return place.work
        answer: Answer | None = None
        try:
            answer = yield endpoint
        except BaseException as error:
            # frameworks may hand on another exception than the one that stopped the endpoint
            if not (bill.stopped and isinstance(error, Exception)):
                self.held.release(asked.account, asked.digest)
                raise
        if not bill.work or bill.answering:
            self.held.release(asked.account, asked.digest)
            return 0
        if self.refuse_above is not None and bill.work > self.refuse_above:
            self.held.release(asked.account, asked.digest)
            raise PriceTooHigh(
                f"the price is {bill.work} evaluations, this server answers up to"
                f" {self.refuse_above}"
            )
        size = 0 if answer is None else len(answer.body)
        self.held.fill(asked.account, asked.digest, bill.work, answer, size)
        return bill.work


def run(flow: Flow[T]) -> T:
    """Drive a flow that blocks."""
    try:
        call = next(flow)
        while True:
            try:
                result = call()
            except BaseException as error:
                call = flow.throw(error)
            else:
                call = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value


async def run_async(flow: Flow[T]) -> T:
    """Drive a flow on an event loop; what its calls return is awaited where it can be."""
    try:
        call = next(flow)
        while True:
            try:
                result = call()
                if inspect.isawaitable(result):
                    result = await result
            except BaseException as error:
                call = flow.throw(error)
            else:
                call = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
