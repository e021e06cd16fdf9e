"""Pure ASGI middleware: FastAPI, Starlette, Litestar, or any other ASGI application.

The endpoint runs once. What it answers after `AsyncBill.charge` is held until the solution comes;
the solution releases it without a second run.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from functools import lru_cache, partial
from types import coroutine
from typing import Any, TypeVar
from urllib.parse import quote

from powfast.accounts import Caller, bearer, nobody
from powfast.bill import ClientDisconnected, Phase, RequestIdentity, ResponseBuffer
from powfast.errors import BodyTooLarge, BodyTooSlow, InvalidInput
from powfast.gate import Gate
from powfast.http import (
    SOLUTION_HEADER,
    Answer,
    Exchange,
    counted,
    credentials_digest,
    guards,
    pricing,
    refusal,
    request_digest,
)
from powfast.servers.charge import BILL_KEY, AsyncBill, carried

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")


def fields_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request by their names, repeated ones joined by a comma."""
    fields = dict(scope["headers"])
    if len(fields) < len(scope["headers"]):
        every = defaultdict(list)
        for name, value in scope["headers"]:
            every[name].append(value)
        fields = {name: b", ".join(values) for name, values in every.items()}
    return fields


def header_of(fields: dict[bytes, bytes]) -> Callable[[str], str | None]:
    """Return what finds a header, see `Caller`."""

    def header(name: str) -> str | None:
        value = fields.get(_lowered(name))
        return None if value is None else value.decode("latin-1")

    return header


@lru_cache(256)
def _lowered(name: str) -> bytes:
    return name.lower().encode("latin-1")


def bill_of(scope: Scope) -> AsyncBill:
    """Return the bill of a request that `PowMiddleware` guards."""
    bill: AsyncBill = carried(scope, scope["path"])
    return bill


class PowMiddleware:
    """Withholds charged answers until their proof of work is done.

    Parameters
    ----------
    app
        The ASGI application.
    gate : Gate
        Prices, challenges and redeems.
    account, group
        From the `Caller` to the name of who is charged, see `powfast.accounts`; an empty group is
        none.
    evidence : callable, optional
        From an `Exchange` to the evidence of its queries, for endpoints that do not charge; it may
        be a coroutine function. An endpoint's own charge comes first.
    queries : callable, optional
        From an `Exchange` that has no answer yet to the number of its queries: before it runs, a
        request is asked for the price of the moment of all of them. Without it, of one.
    newcomers : callable
        From the `Caller` to the name of the pool that it is in until its account has paid the
        opening; see docs/serving.md.
    bind : tuple of str
        Headers, beside those that always count, that a solution is good for: whatever else decides
        what is answered.
    paths : tuple of str
        Prefixes of the paths to guard; requests elsewhere pass untouched. Websockets on these paths
        are refused.
    max_body : int
        Bytes of a request body; a larger one is refused with 413.
    body_timeout : float
        Seconds in which the body has to come, else 408.
    status : int
        Status of a challenge. Gateways that pass nothing but 401 and 403 need one of these.
    """

    def __init__(
        self,
        app: App,
        gate: Gate,
        account: Callable[[Caller], str] = bearer,
        group: Callable[[Caller], str] = nobody,
        evidence: Callable[[Exchange], Any] | None = None,
        queries: Callable[[Exchange], int] | None = None,
        newcomers: Callable[[Caller], str] = nobody,
        bind: tuple[str, ...] = (),
        paths: tuple[str, ...] = ("/",),
        max_body: int = 16 << 20,
        body_timeout: float = 30.0,
        status: int = 402,
    ) -> None:
        self._app = app
        self._gate = gate
        self._account = account
        self._group = group
        self._evidence = evidence
        self._queries = queries
        self._newcomers = newcomers
        self._bind = tuple([_lowered(name) for name in bind])
        self._paths = tuple(paths)
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        guarded = scope["type"] in ("http", "websocket") and guards(
            self._paths, scope["path"], scope.get("root_path", "")
        )
        if not guarded:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = fields_of(scope)
        try:
            body = await _read(receive, self._max_body, self._body_timeout)
            if body is None:
                return
            target = _target(scope)
            identity = self._identity(scope, fields, target, body)
            queries = counted(self._queries, scope["method"], target, body)
        except (BodyTooLarge, BodyTooSlow, InvalidInput) as error:
            await _send(send, refusal(error))
            return
        bill = AsyncBill(pricing(self._evidence, scope["method"], target, body))
        scope[BILL_KEY] = bill
        endpoint = _Endpoint(self._app, scope, body, receive, send, bill, self._gate)
        solution = header_of(fields)(SOLUTION_HEADER)
        answer = await self._gate.serve(
            identity, bill, solution, endpoint.run, queries=queries, status=self._status
        )
        if answer is not None:
            await _send(send, answer)

    def _identity(
        self, scope: Scope, fields: dict[bytes, bytes], target: bytes, body: bytes
    ) -> RequestIdentity:
        caller = Caller(header_of(fields), (scope.get("client") or (None,))[0], scope)
        digest = request_digest(scope["method"], target, body, fields.get, self._bind)
        credentials = credentials_digest(fields.get)
        names = self._account(caller), self._group(caller)
        return RequestIdentity(*names, digest, credentials, self._newcomers(caller))


def _target(scope: Scope) -> bytes:
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query


class _Endpoint:
    """Runs the application, whose answer goes out or is kept."""

    def __init__(
        self,
        app: App,
        scope: Scope,
        body: bytes,
        receive: Receive,
        send: Send,
        bill: AsyncBill,
        gate: Gate,
    ) -> None:
        self._app = app
        self._scope = scope
        self._request: Message = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive
        self._send = send
        self._bill = bill
        self._room = gate.held.max_answer

    async def run(self) -> Answer | None:
        """Run the application once; its answer goes out, or what can be held is returned.

        Raises
        ------
        ClientDisconnected
            The application was told so before its answer was whole: it may have stopped halfway.
        RuntimeError
            It ended halfway by itself.
        """
        self._unread, self._went_away, self._whole = True, False, False
        self._buffer = ResponseBuffer(self._bill, self._room)
        try:
            await self._app(self._scope, self._next, self._pass_or_keep)
        finally:
            if self._bill.phase is Phase.STREAMING:  # somebody has read of it, and is gone
                await asyncio.shield(asyncio.ensure_future(self._bill.break_off()))
        if not (self._whole or self._bill.is_answering or self._bill.stopped):
            if self._went_away:
                raise ClientDisconnected
            raise RuntimeError("the application ended before its answer was whole")
        return None if self._bill.is_answering else self._buffer.answer()

    async def _next(self) -> Message:
        if self._unread:
            self._unread = False
            return self._request
        message = await self._receive()
        self._went_away = message["type"] == "http.disconnect"
        if self._went_away and self._bill.phase is Phase.RUNNING:
            self._bill.is_abandoned = True
        return message

    async def _pass_or_keep(self, message: Message) -> None:
        bill, buffer, kind = self._bill, self._buffer, message["type"]
        if kind == "http.response.start":
            headers, status = message.get("headers", ()), message["status"]
            passes = buffer.passes(status)
            if buffer.keeps:
                buffer.begin(status, tuple(headers))
            if not passes:
                return
            if bill.receipt_headers:
                message = {**message, "headers": [*headers, *bill.receipt_headers]}
        elif kind == "http.response.body":
            if buffer.keeps:
                buffer.add(message.get("body", b""))
        else:  # an extension, such as the path of a file
            buffer.forgo()
        if kind != "http.response.start" and not message.get("more_body", False):
            self._whole = not self._went_away
            if bill.is_answering:
                await bill.finish(buffer.answer() if self._whole else None)
        if bill.is_answering:
            await self._send(message)


async def _read(receive: Receive, limit: int, seconds: float) -> bytes | None:
    """Read the whole body; `None` where the client went away meanwhile."""
    reading = _read_all(receive, limit)
    try:
        waits = reading.send(None)  # most bodies are there, and need no deadline
    except StopIteration as stop:
        body: bytes | None = stop.value
        return body
    try:
        async with asyncio.timeout(seconds):
            return await _resumed(reading, waits)
    except TimeoutError:
        raise BodyTooSlow(f"the body has to come within {seconds:g} s") from None


@coroutine
def _resumed(begun: Coroutine[Any, Any, T], waits: Any) -> Generator[Any, Any, T]:
    """Go on with a coroutine that was begun, and `waits` for something."""
    while True:
        try:
            sent = yield waits
        except BaseException as error:
            proceed = partial(begun.throw, error)
        else:
            proceed = partial(begun.send, sent)
        try:
            waits = proceed()
        except StopIteration as stop:
            result: T = stop.value
            return result


async def _read_all(receive: Receive, limit: int) -> bytes | None:
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
    headers = [*answer.headers]  # a list, for Starlette's middleware (CORS, for one) appends to it
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
