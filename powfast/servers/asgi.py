"""Pure ASGI middleware: FastAPI, Starlette, Litestar, or any other ASGI application.

The endpoint runs once. What it answers after `AsyncCharge.charge` is held until the solution comes;
the solution releases it without a second run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from powfast.accounts import Caller, bearer, nobody
from powfast.errors import BodyTooLarge, InvalidInput
from powfast.gate import Asked, Gate, WentAway, Withheld
from powfast.http import SOLUTION_HEADER, Answer, Exchange, guards, pricing, refusal, request_digest
from powfast.servers.charge import CHARGE_KEY, AsyncCharge, carried

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def headers_of(scope: Scope) -> Callable[[str], str | None]:
    """Return what finds a header of a request, repeated ones joined by a comma, see `Caller`."""
    fields = dict(scope["headers"])
    if len(fields) < len(scope["headers"]):
        every = defaultdict(list)
        for name, value in scope["headers"]:
            every[name].append(value)
        fields = {name: b", ".join(values) for name, values in every.items()}

    def header(name: str) -> str | None:
        value = fields.get(_lowered(name))
        return None if value is None else value.decode("latin-1")

    return header


@lru_cache(256)
def _lowered(name: str) -> bytes:
    return name.lower().encode("latin-1")


def charge_of(scope: Scope) -> AsyncCharge:
    """Return the charge of a request that `PowMiddleware` guards."""
    charge: AsyncCharge = carried(scope, scope["path"])
    return charge


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
        account: Callable[[Caller], str] = bearer,
        group: Callable[[Caller], str] = nobody,
        evidence: Callable[[Exchange], Any] | None = None,
        paths: tuple[str, ...] = ("/",),
        max_body: int = 16 << 20,
        status: int = 402,
    ) -> None:
        self._app = app
        self._gate = gate
        self._account = account
        self._group = group
        self._evidence = evidence
        self._paths = tuple(paths)
        self._max_body = max_body
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        root = scope.get("root_path", "")
        if scope["type"] != "http" or not guards(self._paths, scope["path"], root):
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(receive, self._max_body)
            if body is None:
                return
            header = headers_of(scope)
            charge = scope[CHARGE_KEY] = self._bill(scope, header, body)
        except (BodyTooLarge, InvalidInput) as error:
            await _send(send, refusal(error))
            return
        endpoint = _Endpoint(self._app, scope, body, receive, send, charge, self._gate)
        solution = header(SOLUTION_HEADER)
        answer = await self._gate.serve(charge, solution, endpoint.run, status=self._status)
        if answer is not None:
            await _send(send, answer)

    def _bill(self, scope: Scope, header: Callable[[str], str | None], body: bytes) -> AsyncCharge:
        path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        target = path + b"?" + scope.get("query_string", b"")
        method: str = scope["method"]
        caller = Caller(header, (scope.get("client") or (None,))[0], scope)
        digest = request_digest(method, target, body)
        asked = Asked(self._account(caller), self._group(caller), digest)
        return AsyncCharge(self._gate, asked, pricing(self._evidence, method, target, body))


class _Endpoint:
    """Runs the application, whose answer goes out or is kept."""

    def __init__(
        self,
        app: App,
        scope: Scope,
        body: bytes,
        receive: Receive,
        send: Send,
        charge: AsyncCharge,
        gate: Gate,
    ) -> None:
        self._app = app
        self._scope = scope
        self._request: Message = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive
        self._send = send
        self._charge = charge
        self._room = gate.held.max_answer

    async def run(self) -> Answer | None:
        """Run the application once; its answer goes out, or what can be held is returned.

        Raises
        ------
        WentAway
            The application was told so before its answer was whole: it may have stopped halfway.
        RuntimeError
            It ended halfway by itself.
        """
        self._unread, self._went_away, self._whole = True, False, False
        self._withheld = Withheld(self._charge, self._room)
        await self._app(self._scope, self._next, self._pass_or_keep)
        if not (self._whole or self._charge.answering or self._charge.stopped):
            if self._went_away:
                raise WentAway
            raise RuntimeError("the application ended before its answer was whole")
        return self._withheld.answer()

    async def _next(self) -> Message:
        if self._unread:
            self._unread = False
            return self._request
        message = await self._receive()
        self._went_away = message["type"] == "http.disconnect"
        return message

    async def _pass_or_keep(self, message: Message) -> None:
        charge, withheld, kind = self._charge, self._withheld, message["type"]
        if kind == "http.response.start":
            headers, status = message.get("headers", ()), message["status"]
            if not withheld.passes(status):
                withheld.begin(status, tuple(headers))
                return
            if charge.receipt is not None:
                message = {**message, "headers": [*headers, *charge.receipt_headers]}
        if charge.answering:
            await self._send(message)
            return
        if kind == "http.response.body":
            withheld.add(message.get("body", b""))
        else:  # an extension, such as the path of a file
            withheld.forgo()
        self._whole = not (self._went_away or message.get("more_body", False))


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
    headers = [*answer.headers]  # a list, for Starlette's middleware (CORS, for one) appends to it
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
