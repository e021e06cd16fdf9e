"""Pure ASGI middleware: FastAPI, Starlette, Litestar, or any other ASGI application.

The endpoint runs once. What it answers after `Charge.charge` is held until the solution comes; the
solution releases it without a second run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from numpy.typing import ArrayLike

from powfast.challenge import Receipt
from powfast.errors import BodyTooLarge, InvalidInput, PaymentRequired, Refused, TooManyUnpaid
from powfast.gate import Asked, Gate, run_async
from powfast.http import (
    RECEIPT_HEADER,
    SOLUTION_HEADER,
    Answer,
    payment_required,
    problem,
    request_digest,
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CHARGE_KEY = "powfast.charge"
"""Where the scope carries the `Charge` of its request."""


def header(scope: Scope, name: str) -> str | None:
    """Return a request header, repeated ones joined by a comma; `None` where there is none."""
    wanted = name.lower().encode("latin-1")
    values = [value for key, value in scope["headers"] if key == wanted]
    return b", ".join(values).decode("latin-1") if values else None


def bearer_account(scope: Scope) -> str:
    """Name the account after a hash of its `Authorization` header, so that tokens carry no key.

    Requests without that header share the account "anonymous".
    """
    credentials = header(scope, "authorization")
    if credentials is None:
        return "anonymous"
    return hashlib.sha256(credentials.encode("latin-1")).hexdigest()[:32]


class Charge:
    """What an endpoint holds while it answers one request.

    `charge` prices an answer that is at hand and lets the endpoint go on: the middleware withholds
    the answer. `require` is for evidence known before the model runs: it raises until paid.
    """

    def __init__(self, gate: Gate, asked: Asked, receipt: Receipt | None = None) -> None:
        self._gate = gate
        self._asked = asked
        self._charged = False
        self.answering = False
        self.receipt = receipt
        self.work = 0
        """Work still owed for this request: an expected number of SHA-256 evaluations."""

    async def charge(self, evidence: ArrayLike) -> None:
        """Charge this request for the evidence of its queries, (n,) numbers at least 0.

        Raises
        ------
        InvalidInput
            The evidence is malformed.
        RuntimeError
            The request was charged before, or its answer is already on the way.
        """
        if self._charged:
            raise RuntimeError("a request is charged once, with the evidence of all its queries")
        if self.answering:
            raise RuntimeError("charge before the answer starts: what was sent cannot be withheld")
        self._charged = True
        if self.receipt is None:
            self.work = await run_async(self._gate.charge(self._asked, evidence))

    async def require(self, evidence: ArrayLike) -> None:
        """Charge as `charge` does, and stop the endpoint here until the request is paid.

        Raises
        ------
        PaymentRequired
            The request is not paid yet; the middleware turns it into a challenge.
        """
        await self.charge(evidence)
        if self.work:
            raise PaymentRequired("this request has to be paid before it runs")


class PowMiddleware:
    """Withholds charged answers until their proof of work is done.

    Parameters
    ----------
    app
        The ASGI application.
    gate : Gate
        Prices, challenges and redeems.
    account, group
        From the ASGI scope to the name of who is charged; an empty group is none.
    paths : tuple of str
        Prefixes of the paths to guard; requests elsewhere pass untouched.
    max_body : int
        Bytes of a request body; a larger one is refused with 413.
    status : int
        Status of a challenge. Gateways that pass nothing but 401 and 403 need one of these.
    """

    def __init__(
        self,
        app: App,
        gate: Gate,
        account: Callable[[Scope], str] = bearer_account,
        group: Callable[[Scope], str] = lambda scope: "",
        paths: tuple[str, ...] = ("/",),
        max_body: int = 16 << 20,
        status: int = 402,
    ) -> None:
        self._app = app
        self._gate = gate
        self._account = account
        self._group = group
        self._paths = tuple(paths)
        self._max_body = max_body
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not scope["path"].startswith(self._paths):
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(receive, self._max_body)
        except BodyTooLarge as error:
            await _send(send, problem(413, error.code, "Content Too Large", str(error)))
            return
        if body is None:
            return
        try:
            asked = self._asked(scope, body)
        except InvalidInput as error:
            await _send(send, problem(400, error.code, "Bad Request", str(error)))
            return
        await self._serve(scope, _replay(body, receive), send, asked)

    def _asked(self, scope: Scope, body: bytes) -> Asked:
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        target = path + b"?" + scope.get("query_string", b"")
        digest = request_digest(scope["method"], target, body)
        return Asked(self._account(scope), self._group(scope), digest)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, asked: Asked) -> None:
        detail = "solve the challenge and repeat the request with its solution"
        solution = header(scope, SOLUTION_HEADER)
        if solution is not None:
            try:
                receipt = await run_async(self._gate.redeem(asked, solution))
            except Refused as refusal:
                detail = f"{refusal} ({refusal.code}); {detail}"
            else:
                await self._admit(scope, receive, send, asked, receipt)
                return
        try:
            work = await self._price(scope, receive, send, asked)
        except TooManyUnpaid as error:
            answer = problem(429, error.code, "Too Many Requests", str(error))
            await _send(send, answer.with_header("retry-after", str(int(error.retry_after))))
            return
        if work:
            token = self._gate.challenge(asked, work)
            await _send(send, payment_required(token, detail, status=self._status))

    async def _admit(
        self, scope: Scope, receive: Receive, send: Send, asked: Asked, receipt: Receipt
    ) -> None:
        """Release the held answer; where it is gone, run the endpoint as paid."""
        send = _with_receipt(send, receipt)
        messages = self._gate.held.release(asked.account, asked.digest)
        if messages is None:
            scope[CHARGE_KEY] = Charge(self._gate, asked, receipt)
            await self._app(scope, receive, send)
            return
        for message in messages:
            await send(message)

    async def _price(self, scope: Scope, receive: Receive, send: Send, asked: Asked) -> int:
        """Return the work owed for the request; 0 where it was not charged, and is answered."""
        held = self._gate.held
        place = held.reserve(asked.account, asked.digest)
        if place.work:
            return place.work
        charge = scope[CHARGE_KEY] = Charge(self._gate, asked)
        withheld = _Withheld(send, charge, held.max_answer)
        try:
            await self._app(scope, receive, withheld)
        except PaymentRequired:
            pass
        except BaseException:
            held.release(asked.account, asked.digest)
            raise
        if not charge.work or charge.answering:
            held.release(asked.account, asked.digest)
            return 0
        held.fill(asked.account, asked.digest, charge.work, withheld.answer, withheld.size)
        return charge.work


class _Withheld:
    """Passes an answer on, unless its request was charged: then it keeps the messages."""

    def __init__(self, send: Send, charge: Charge, max_size: int) -> None:
        self._send = send
        self._charge = charge
        self._max_size = max_size
        self._messages: list[Message] = []
        self.size = 0

    @property
    def answer(self) -> list[Message] | None:
        """What to hold; `None` where there is nothing, or too much of it."""
        return self._messages or None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            # A failure is nobody's answer: it is not worth holding, nor asking work for.
            self._charge.answering = not self._charge.work or message["status"] >= 500
        if self._charge.answering:
            await self._send(message)
            return
        self.size += len(message.get("body", b""))
        if self.size > self._max_size:
            self._messages.clear()
        else:
            self._messages.append(message)


def _with_receipt(send: Send, receipt: Receipt) -> Send:
    line = (RECEIPT_HEADER.lower().encode(), f"work={receipt.work}".encode())

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), line]}
        await send(message)

    return wrapped


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Read the whole body; `None` where the client went away meanwhile."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def _send(send: Send, answer: Answer) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
