"""The auth flow that httpx and httpx2 have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

from powfast.clients import off_loop
from powfast.clients.flow import Payer
from powfast.http import SOLUTION_HEADER, challenge_in


class HttpxFlow(Payer):
    """Pays one challenge per logical request."""

    requires_request_body = True  # the request is sent twice, so its body must be replayable

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send, pay where asked to, and send again."""
        request.read()
        response = yield request
        token = _asked_for(response)
        if token is not None:
            request.headers[SOLUTION_HEADER] = self.pay(token)
            yield request

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Do the same off the event loop; cancelling the request cancels the solving."""
        await request.aread()
        response = yield request
        token = _asked_for(response)
        if token is not None:
            request.headers[SOLUTION_HEADER] = await off_loop.pay(self, token)
            yield request


def _asked_for(response: Any) -> bytes | None:
    return challenge_in(response.status_code, response.headers.get("www-authenticate"))
