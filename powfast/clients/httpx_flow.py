"""The auth flow that httpx and httpx2 have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from functools import cache
from typing import Any

from powfast.clients import off_loop
from powfast.clients.flow import MOST_CHALLENGES, Payer
from powfast.clients.prepaid import Peer, peer_of
from powfast.http import RECEIPT_HEADER, SOLUTION_HEADER, challenge_in, surcharge_in


class HttpxFlow(Payer):
    """Pays for one logical request, to whoever asks at the end of its redirects.

    That is one challenge, and one more where the answer has come to more than the first.
    """

    requires_request_body = True  # the request is sent again, so its body must be replayable

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send, pay where asked to, and send again."""
        request.read()
        response = yield self._begun(request)
        peer, token = self._heard(response)
        for _ in range(MOST_CHALLENGES):
            if token is None:
                break
            response = yield _paid(response.request, self.pay(token, None, peer))
            peer, token = self._heard(response, is_paid=True)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Do the same off the event loop; cancelling the request cancels the solving."""
        await request.aread()
        response = yield self._begun(request)
        peer, token = self._heard(response)
        for _ in range(MOST_CHALLENGES):
            if token is None:
                break
            response = yield _paid(response.request, await off_loop.pay(self, token, peer))
            peer, token = self._heard(response, is_paid=True)

    def _begun(self, request: Any) -> Any:
        """Return the request, with a solution where one is ready."""
        solution = self.begin(peer_of(request))
        return request if solution is None else _paid(request, solution)

    def _heard(self, response: Any, is_paid: bool = False) -> tuple[Peer, bytes | None]:
        """Return who has answered, and the token that the answer asks to be solved."""
        peer, headers = peer_of(response.request), response.headers
        self.hear(peer, headers)
        asked = response.status_code, headers.get("www-authenticate")
        receipt = headers.get(RECEIPT_HEADER)
        return peer, surcharge_in(*asked, receipt) if is_paid else challenge_in(*asked)


def _paid(request: Any, solution: str) -> Any:
    """Return the request with a solution that its redirects go without."""
    paid = type(request)(
        request.method,
        request.url,
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )
    plain: Any = getattr(request.headers, "plain", type(request.headers))
    paid.headers = _paid_headers(plain)(request.headers, solution)
    paid.read()
    return paid


@cache
def _paid_headers(plain: Any) -> Any:
    """Make the class of headers that show a solution to who reads them and not to who copies them.

    A flow cannot keep httpx from following a redirect, which it does with a copy of the headers.
    """

    class PaidHeaders(plain):  # type: ignore[misc]
        def __init__(self, headers: Any, solution: str) -> None:
            unpaid = plain(headers)
            unpaid.pop(SOLUTION_HEADER, None)
            super().__init__(unpaid)
            self._solution = (SOLUTION_HEADER.encode(), solution.encode())

        @property
        def raw(self) -> list[tuple[bytes, bytes]]:
            return [*super().raw, self._solution]

    def reading(name: str) -> Callable[..., Any]:
        return lambda headers, *args, **more: getattr(plain(headers.raw), name)(*args, **more)

    PaidHeaders.plain = plain
    for name in ("keys", "values", "items", "multi_items", "get_list"):
        setattr(PaidHeaders, name, reading(name))
    for name in ("__getitem__", "__contains__", "__len__"):
        setattr(PaidHeaders, name, reading(name))
    return PaidHeaders
