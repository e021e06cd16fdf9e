"""`PowAuth` for aiohttp: `aiohttp.ClientSession(middlewares=(PowAuth(),))`."""

from __future__ import annotations

from collections import deque
from functools import cached_property

from powfast.clients.flow import MOST_CHALLENGES, Payer
from powfast.clients.prepaid import Peer, peer_of
from powfast.errors import BodyNotReplayable, MissingExtra
from powfast.http import RECEIPT_HEADER, SOLUTION_HEADER, challenge_in, surcharge_in

try:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
except ImportError as _missing:
    raise MissingExtra(
        "powfast.clients.aiohttp needs aiohttp 3.12 or newer: pip install 'powfast[client]'"
    ) from _missing

from powfast.clients import off_loop

_REMEMBERED = 1024  # calls that go on after they were paid for


class PowAuth(Payer):
    """Answers the proof-of-work challenge of a request; other headers, an API key's included, stay.

    It pays one, and one more where the answer has come to more than the first. A request that is
    redirected, or that aiohttp sends again, is still one request. Solves off the
    event loop; cancelling the request cancels the solving. A file is sent again from where it
    began; a generated body raises `BodyNotReplayable` when a challenge comes, before anything is
    solved.
    """

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send, pay where asked to, and send again."""
        peer = peer_of(request)
        response = await self._send(request, handler, self.begin(peer))
        self.hear(peer, response.headers)
        token = challenge_in(response.status, _asked(response))
        # redirects and retries come here as new requests: what they have in common is their timer
        if request._timer in self._paid:
            return response
        for _ in range(MOST_CHALLENGES):
            if token is None:
                break
            response = await self._pay(request, handler, response, token, peer)
            self.hear(peer, response.headers)
            receipt = response.headers.get(RECEIPT_HEADER)
            token = surcharge_in(response.status, _asked(response), receipt)
        return response

    async def _pay(
        self,
        request: ClientRequest,
        handler: ClientHandlerType,
        response: ClientResponse,
        token: bytes,
        peer: Peer,
    ) -> ClientResponse:
        """Send a request again, with the solution of the token that its response asks for."""
        try:
            if getattr(request.body, "consumed", False):
                raise BodyNotReplayable(
                    "the body was generated once, but has to be sent again with the solution:"
                    " pass bytes or a file"
                )
            await response.read()  # the connection is free for the next request
            self._paid.append(request._timer)
            solution = await off_loop.pay(self, token, peer)
        finally:
            response.release()
        return await self._send(request, handler, solution)

    async def _send(
        self, request: ClientRequest, handler: ClientHandlerType, solution: str | None
    ) -> ClientResponse:
        """Send with a solution that nobody sees who sends the request on."""
        if solution is None:
            return await handler(request)
        request.headers[SOLUTION_HEADER] = solution
        try:
            return await handler(request)
        finally:
            del request.headers[SOLUTION_HEADER]

    @cached_property
    def _paid(self) -> deque[object]:
        """Timers of the calls that were paid for; held, so that no other takes their place."""
        return deque(maxlen=_REMEMBERED)


def _asked(response: ClientResponse) -> str:
    return ", ".join(response.headers.getall("WWW-Authenticate", ()))
