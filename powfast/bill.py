"""What one request owes while its endpoint runs, and its answer until that is paid.

It knows no gate, store or framework: whoever serves the request says how it is charged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from numpy.typing import ArrayLike

from powfast.accounts import SharedName
from powfast.challenge import Receipt
from powfast.errors import InvalidInput, PaymentRequired, PowfastError
from powfast.http import Answer, Headers
from powfast.sketch import Advance, Sketch
from powfast.stores.base import Charged, Outcome

if TYPE_CHECKING:
    from typing_extensions import TypeIs


class Estimate(Protocol):
    """Evidence of a request's queries, and account evidence: `LeakageEstimator.estimate`."""

    @property
    def evidence(self) -> ArrayLike:
        """One number at least 0 for each query."""
        ...

    def advance(self, sketch: Sketch | None) -> Advance:
        """Return what the queries add to a sketch as it was before them."""
        ...


Evidence: TypeAlias = ArrayLike | Estimate
"""What a request is charged for: evidence of its queries alone, or an estimate of both kinds."""


def is_estimate(evidence: Evidence) -> TypeIs[Estimate]:
    """Whether a request is charged for account evidence as well."""
    return hasattr(evidence, "advance")


def evidence_of_queries(evidence: Evidence) -> ArrayLike:
    """Return the evidence of each query by itself."""
    return evidence.evidence if is_estimate(evidence) else evidence


MAX_NAME_BYTES = 255

STREAMS = 4
"""Answers of an account that one process lets stream at once; others come at their end."""


@dataclass(slots=True)
class RequestIdentity:
    """Who asks what: the account, its group ("" for none), and the digest of the request.

    `credentials` is a digest of what the request proves itself by: nobody reads a held answer with
    other ones. `newcomers` names the pool that the account is in until it has paid its opening.

    Raises
    ------
    InvalidInput
        A name is no text of at most 255 bytes in UTF-8, or the account's is empty.
    """

    account: str
    group: str
    digest: bytes
    credentials: bytes = b""
    newcomers: str = ""

    def __post_init__(self) -> None:
        named = [name for name in (self.group, self.newcomers) if name != ""]
        if not all(map(_is_name, (self.account, *named))):
            raise InvalidInput(
                f"an account, group or pool is text of at most {MAX_NAME_BYTES} bytes in UTF-8"
            )

    @property
    def is_shared(self) -> bool:
        """Whether several people share the account."""
        return isinstance(self.account, SharedName)


def _is_name(name: str) -> bool:
    try:
        return 0 < len(name.encode()) <= MAX_NAME_BYTES
    except (AttributeError, UnicodeEncodeError):  # no text, or half a character
        return False


class Phase(StrEnum):
    """Where a request stands."""

    ARRIVED = "nothing runs yet"
    RUNNING = "the endpoint runs and has charged nothing"
    CHARGING = "a charge has begun, and nobody has awaited its end"
    COVERED = "the request is charged, and paid"
    DUE = "the request is charged, and its answer waits for the payment"
    STOPPED = "the endpoint was stopped before it had an answer"
    STREAMING = "an answer that is charged at its end is on its way out"
    ANSWERING = "the answer is on its way out"
    FREE = "an answer that costs nothing is on its way out"


class Event(StrEnum):
    """What moves a request on."""

    RUN = "run"
    CHARGE = "charge"
    COVER = "cover"
    OWE = "owe"
    REJECT = "reject"
    STOP = "stop"
    DEFER = "be charged at its end"
    STREAM = "stream"
    ANSWER = "answer"
    FAIL = "fail"


_NEXT: dict[Phase, dict[Event, Phase]] = {
    Phase.ARRIVED: {Event.RUN: Phase.RUNNING},
    Phase.RUNNING: {
        Event.RUN: Phase.RUNNING,
        Event.CHARGE: Phase.CHARGING,
        Event.DEFER: Phase.RUNNING,
        Event.STREAM: Phase.STREAMING,
        Event.ANSWER: Phase.FREE,
        Event.FAIL: Phase.FREE,
    },
    Phase.CHARGING: {
        Event.COVER: Phase.COVERED,
        Event.OWE: Phase.DUE,
        Event.REJECT: Phase.RUNNING,
        Event.STOP: Phase.STOPPED,
        Event.FAIL: Phase.FREE,
    },
    Phase.COVERED: {
        Event.RUN: Phase.COVERED,  # an answer that was too large to keep is made again
        Event.ANSWER: Phase.ANSWERING,
        Event.FAIL: Phase.FREE,
    },
    Phase.DUE: {Event.STOP: Phase.STOPPED, Event.FAIL: Phase.FREE},
    Phase.STOPPED: {},
    Phase.STREAMING: {Event.ANSWER: Phase.ANSWERING},
    Phase.ANSWERING: {},
    Phase.FREE: {},
}

_ON_THE_WAY = (Phase.STREAMING, Phase.ANSWERING, Phase.FREE)
_CHARGED = (Phase.CHARGING, Phase.COVERED, Phase.DUE)


async def _nobody_serves(evidence: Evidence, has_run: bool) -> Charged:
    raise RuntimeError("no gate serves this request")


def _never() -> bool:
    return False


class ClientDisconnected(BaseException):
    """The client went away before its answer was whole, so that there is none."""


class Bill:
    """What one request owes; servers add their way of waiting.

    Parameters
    ----------
    price : callable, optional
        From an answer to the evidence of its queries, where the endpoint does not charge itself;
        it may be a coroutine function.
    """

    def __init__(self, price: Callable[[Answer], Any] | None = None) -> None:
        self._price = price
        self._charge: Callable[[Evidence, bool], Awaitable[Charged]] = _nobody_serves
        self._finish: Callable[[Answer | None], Awaitable[None]] | None = None
        self._may_stream: Callable[[], bool] = _never
        self._is_deferred = False
        self.phase: Phase = Phase.ARRIVED
        self.work: float = 0.0
        """Price of the request: expected SHA-256 evaluations."""
        self.due: float = 0.0
        """What of it is still to be redeemed."""
        self.surcharge: float = 0.0
        """What of that may be a newcomer's for its pool."""
        self.receipt: Receipt | None = None
        """Of the solution that came with the request."""
        self.receipt_headers: Headers = ()
        """What the answer says of its payment."""
        self.is_abandoned = False
        """Whether the endpoint knew, before it charged or answered, that its client is gone."""
        self.stopped: PowfastError | None = None
        """Why the endpoint was stopped before it had an answer."""

    def begin(
        self,
        charge: Callable[[Evidence, bool], Awaitable[Charged]],
        finish: Callable[[Answer | None], Awaitable[None]],
        may_stream: Callable[[], bool],
    ) -> None:
        """Let the endpoint run.

        Parameters
        ----------
        charge : coroutine function
            Takes the evidence, and whether the model has run for it; returns what it has come to.
        finish : coroutine function
            Settles what became of the run; takes a copy of the answer, where there is one.
        may_stream : callable
            Whether an answer may go out before it is charged.
        """
        self._charge, self._finish, self._may_stream = charge, finish, may_stream
        self.advance(Event.RUN)

    def end(self) -> None:
        """Let go of the gate: what refers to one another waits for the garbage collector."""
        self._charge, self._finish, self._may_stream = _nobody_serves, None, _never

    async def finish(self, answer: Answer | None = None) -> None:
        """Settle the run before the end of its answer goes out, of which this is a copy."""
        finish = self._finish
        self.end()
        if finish is not None:
            await finish(answer)

    async def break_off(self) -> None:
        """Settle a run whose answer stops halfway: what has streamed is charged."""
        if self.phase is Phase.STREAMING:
            await self.finish()

    def advance(self, event: Event) -> None:
        """Move on.

        Raises
        ------
        RuntimeError
            The endpoint does what it may not do in this phase.
        """
        after = _NEXT[self.phase].get(event)
        if after is None:
            raise RuntimeError(self._misuse(event))
        self.phase = after

    def _misuse(self, event: Event) -> str:
        if event is Event.CHARGE and self.phase in _CHARGED:
            return "a request is charged once, with the evidence of all its queries"
        if event is Event.CHARGE and self.is_answering:
            return "charge before the answer starts: what was sent cannot be withheld"
        if self.phase is Phase.CHARGING:
            return "the charge of this request was not awaited: its answer stays here"
        return f"no request can {event.value} here: {self.phase.value}"

    @property
    def is_answering(self) -> bool:
        """Whether the answer is on its way out."""
        return self.phase in _ON_THE_WAY

    @property
    def failed(self) -> Outcome:
        """What an endpoint leaves that fails, or charges nothing.

        One that had charged, or whose client went away before it could, has run the model.
        """
        return Outcome.UNPAID if self.work or self.is_abandoned else Outcome.FREE

    @property
    def is_unpriced(self) -> bool:
        """Whether the answer itself has to be seen before its price is known."""
        return self._price is not None and self.phase is Phase.RUNNING

    @property
    def has_own_receipt(self) -> bool:
        """Whether a challenge for this very request was solved: whoever lost it may ask again."""
        return self.receipt is not None and bool(self.receipt.request)

    def charge_at_end(self, evidence: Callable[[], Any]) -> None:
        """Charge this request when its answer ends, whole or not, for what `evidence` then says.

        An answer that starts later streams, if it runs on credit for the price of the moment; what
        its price is above that is asked for with the account's next request. Otherwise it is
        withheld to its end, as any other.

        Parameters
        ----------
        evidence : callable
            Returns the evidence of the queries that have been answered by then; it may be a
            coroutine function.

        Raises
        ------
        RuntimeError
            The request was charged before, or its answer is already on the way.
        """
        self.advance(Event.DEFER)
        self._price, self._is_deferred = lambda answer: evidence(), True

    def begins_stream(self) -> bool:
        """Let an answer go out that is charged at its end, where it may."""
        streams = self._is_deferred and self.phase is Phase.RUNNING and self._may_stream()
        if streams:
            self.advance(Event.STREAM)
        return streams

    async def price(self, answer: Answer) -> None:
        """Charge for an answer whose endpoint did not charge."""
        if self._price is not None:
            evidence = await self._evidence(answer)
            self.advance(Event.CHARGE)
            await self.charging(evidence)

    async def end_stream(self) -> Any:
        """Return the evidence of an answer that has streamed."""
        self.advance(Event.ANSWER)
        return await self._evidence(Answer(200, (), b""))

    async def _evidence(self, answer: Answer) -> Any:
        evidence: Any = None if self._price is None else self._price(answer)
        return await evidence if hasattr(evidence, "__await__") else evidence

    async def charging(self, evidence: Evidence, *, has_run: bool = True) -> None:
        """Charge the request, in phase `CHARGING`, for the evidence of its queries.

        Parameters
        ----------
        evidence
            Of its queries, or an estimate.
        has_run : bool
            Whether the model has run for them.

        Raises
        ------
        InvalidInput
            The evidence is malformed; the request can be charged again.
        TooManyQueries, StoreUnavailable
            The endpoint is stopped; `UncountedQueries` are too many for a run that nobody counted.
        """
        try:
            charged = await self._charge(evidence, has_run)
        except InvalidInput:
            self.advance(Event.REJECT)
            raise
        except PowfastError as error:
            self.stop(error)
            raise
        self.due, self.work, self.surcharge = charged.due, charged.price, charged.surcharge
        self.advance(Event.OWE if self.due else Event.COVER)

    async def requiring(self, evidence: Evidence) -> None:
        """Charge as `charging`, and stop the endpoint where something is due.

        Raises
        ------
        PaymentRequired
            The request has to be paid before it runs.
        """
        await self.charging(evidence, has_run=False)
        if self.phase is Phase.DUE:
            error = PaymentRequired("this request has to be paid before it runs")
            self.stop(error)
            raise error

    def stop(self, error: PowfastError) -> None:
        """Stop the endpoint."""
        self.stopped = error
        self.advance(Event.STOP)


class ResponseBuffer:
    """The answer of an endpoint: it goes out at once, or is kept until it is paid for.

    Of an answer that a solution has paid for a copy is kept as it goes out: whoever loses it sends
    the solution again.
    """

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
        if bill.phase is Phase.STOPPED:
            return False
        if status >= 500:
            bill.advance(Event.FAIL)
        elif not (bill.begins_stream() or bill.phase is Phase.DUE or bill.is_unpriced):
            bill.advance(Event.ANSWER)
        return bill.is_answering

    @property
    def keeps(self) -> bool:
        """Whether the answer is kept, or a copy of it."""
        return not self._bill.is_answering or self._bill.has_own_receipt

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
        """Return what was kept, where all of it could be."""
        if self._head is None or self._room < 0 or self._bill.stopped:
            return None
        return Answer(*self._head, b"".join(self._pieces))


class Streams:
    """How many answers of each account stream; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: Counter[tuple[str, str]] = Counter()

    def enter(self, identity: RequestIdentity) -> bool:
        """Take a place, where there is one."""
        who = identity.account, identity.group
        with self._lock:
            if self._running[who] >= STREAMS:
                return False
            self._running[who] += 1
            return True

    def leave(self, identity: RequestIdentity) -> None:
        """Give a place back."""
        who = identity.account, identity.group
        with self._lock:
            self._running[who] -= 1
            if not self._running[who]:
                del self._running[who]
