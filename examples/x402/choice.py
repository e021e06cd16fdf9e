"""One 402 that offers a choice: do the work (powfast), or pay money (x402)."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]

SIGNATURE = b"payment-signature"
V1 = b"x-payment"


class WorkOrMoney:
    """ASGI: requests that bring money are answered for it, all others by the guarded application.

    Parameters
    ----------
    app
        The application.
    guarded
        The same in `PowMiddleware`.
    offer : dict
        What x402 calls PaymentRequired, version 2.
    settle : coroutine function
        From scope and payment header to whether the money has come: it asks a facilitator.
    offer_v1 : dict, optional
        The same for clients of version 1, which look for it in the body.
    """

    def __init__(
        self,
        app: App,
        guarded: App,
        offer: dict[str, Any],
        settle: Callable[[Scope, str], Awaitable[bool]],
        offer_v1: dict[str, Any] | None = None,
    ) -> None:
        self._app, self._guarded, self._settle = app, guarded, settle
        self._header = base64.b64encode(json.dumps(offer).encode())
        self._members = offer_v1 or {}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._guarded(scope, receive, send)
            return
        money = [value for name, value in scope["headers"] if name in (SIGNATURE, V1)]
        if len(money) == 1 and await self._settle(scope, money[0].decode("latin-1")):
            await self._app(scope, receive, send)
            return
        begun: Scope | None = None

        async def offering(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start" and _asks_for_work(message):
                begun = message
            elif begun is None:
                await send(message)
            else:  # a challenge comes whole
                body = json.dumps(json.loads(message["body"]) | self._members).encode()
                await send({**begun, "headers": self._offered(begun["headers"], len(body))})
                await send({**message, "body": body})

        await self._guarded(scope, receive, offering)

    def _offered(self, headers: Any, length: int) -> list[tuple[bytes, bytes]]:
        kept = [field for field in headers if field[0] != b"content-length"]
        return [*kept, (b"content-length", b"%d" % length), (b"payment-required", self._header)]


def _asks_for_work(start: Any) -> bool:
    return start["status"] == 402 and b"www-authenticate" in dict(start["headers"])
