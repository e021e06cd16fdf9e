"""Interceptors for gRPC channels: `grpc.intercept_channel(channel, PowInterceptor())`, or
`grpc.aio.insecure_channel(target, interceptors=aio_interceptors())`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from powfast.clients import off_loop
from powfast.clients.flow import MOST_CHALLENGES, Payer
from powfast.clients.prepaid import Peer
from powfast.errors import MissingExtra
from powfast.http import RECEIPT_HEADER, SOLUTION_HEADER, challenge_in, surcharge_in

try:
    import grpc
    import grpc.aio
except ImportError as _missing:
    raise MissingExtra(
        "powfast.clients.grpc needs grpcio: pip install 'powfast[grpc]'"
    ) from _missing

Continuation = Callable[[grpc.ClientCallDetails, Any], Any]


class PowInterceptor(Payer, grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Answers the challenge of a call; other metadata, an API key's included, stays.

    It pays one, and one more where the answer has come to more than the first. Each of the
    attempts has the call's timeout to itself, and the solving does not count. A `future` is
    returned once its call is paid for; a stream pays when its first message is asked for. One
    interceptor is for the channels of one server: gRPC does not tell it where a call goes, and
    what is solved ahead goes along with the next one.
    """

    def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """Call, pay where asked to, and call again."""
        peer, begun = _begun(self, client_call_details)
        call = continuation(begun, request)
        token = _heard(self, peer, call.code(), call.trailing_metadata())
        for _ in range(MOST_CHALLENGES):
            if token is None:
                break
            call = continuation(_Paid(client_call_details, self.pay(token, None, peer)), request)
            token = _heard(self, peer, call.code(), call.trailing_metadata(), is_paid=True)
        return call

    def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """Do the same before the first message of a stream."""
        peer, begun = _begun(self, client_call_details)

        def again(solution: str) -> Any:
            return continuation(_Paid(client_call_details, solution), request)

        return _Stream(self, peer, continuation(begun, request), again)


class _Stream(Iterator[Any]):
    """A stream of answers, of which the first decides whether it has to be paid for."""

    def __init__(self, payer: Payer, peer: Peer, call: Any, again: Callable[[str], Any]) -> None:
        self._payer = payer
        self._peer = peer
        self._call = call
        self._again = again
        self._paid = 0
        self._has_begun = False
        self._cancelled = threading.Event()

    def __next__(self) -> Any:
        try:
            message = next(self._call)
        except StopIteration:
            self._heard()
            raise
        except grpc.RpcError:
            token = self._heard()
            if token is None or self._has_begun or self._paid == MOST_CHALLENGES:
                raise
        else:
            self._has_begun = True
            return message
        self._call = self._again(self._payer.pay(token, self._cancelled, self._peer))
        self._paid += 1
        return next(self)

    def _heard(self) -> bytes | None:
        call, is_paid = self._call, self._paid > 0
        return _heard(self._payer, self._peer, call.code(), call.trailing_metadata(), is_paid)

    def cancel(self) -> Any:
        """Cancel the call, and the solving."""
        self._cancelled.set()
        return self._call.cancel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def aio_interceptors(**limits: Any) -> list[grpc.aio.ClientInterceptor]:
    """Make the interceptors of a `grpc.aio` channel; they take the limits of a `Payer`.

    Solves off the event loop; cancelling the call cancels the solving. They are for the channels
    of one server, as `PowInterceptor` is.
    """
    payer = Payer(**limits)
    return [_AioUnary(payer), _AioStream(payer)]


class _AioUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, payer: Payer) -> None:
        self._payer = payer

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        payer = self._payer
        peer, begun = _begun(payer, client_call_details)
        call = await continuation(begun, request)
        token = _heard(payer, peer, await call.code(), await call.trailing_metadata())
        for _ in range(MOST_CHALLENGES):
            if token is None:
                break
            solution = await off_loop.pay(payer, token, peer)
            call = await continuation(_Paid(client_call_details, solution), request)
            told = await call.trailing_metadata()
            token = _heard(payer, peer, await call.code(), told, is_paid=True)
        return call


class _AioStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, payer: Payer) -> None:
        self._payer = payer

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        payer = self._payer
        peer, begun = _begun(payer, client_call_details)
        call = await continuation(begun, request)
        for paid in range(MOST_CHALLENGES):
            messages = aiter(call)
            try:
                return _to_its_end(payer, peer, call, await anext(messages, None), messages)
            except grpc.aio.AioRpcError as error:
                token = _heard(payer, peer, error.code(), error.trailing_metadata(), paid > 0)
                if token is None:
                    raise
                solution = await off_loop.pay(payer, token, peer)
                call = await continuation(_Paid(client_call_details, solution), request)
        return _to_its_end(payer, peer, call, None, aiter(call))


async def _to_its_end(
    payer: Payer, peer: Peer, call: Any, first: Any, messages: AsyncIterator[Any]
) -> AsyncIterator[Any]:
    if first is not None:
        yield first
    async for message in messages:
        yield message
    _heard(payer, peer, await call.code(), await call.trailing_metadata())


# -- between gRPC and the words of the flow


class _Paid(grpc.ClientCallDetails):
    """The same call with a solution."""

    def __init__(self, details: Any, solution: str) -> None:
        self._details = details
        self.metadata = (*(details.metadata or ()), (SOLUTION_HEADER.lower(), solution))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._details, name)


def _begun(payer: Payer, details: Any) -> tuple[Peer, Any]:
    """Return who is called as whom, and the call, with a solution where one is ready."""
    metadata = {key.lower(): value for key, value in details.metadata or ()}
    peer = Peer("", metadata.get("authorization", ""))
    solution = payer.begin(peer)
    return peer, details if solution is None else _Paid(details, solution)


def _heard(
    payer: Payer, peer: Peer, code: grpc.StatusCode, trailing_metadata: Any, is_paid: bool = False
) -> bytes | None:
    """Return the token that a call asks to be solved; FAILED_PRECONDITION is gRPC's 402."""
    told: Any = tuple(trailing_metadata or ())
    said = dict(told)
    payer.hear(peer, said)
    if code is not grpc.StatusCode.FAILED_PRECONDITION:
        return None
    asked = ", ".join([value for key, value in told if key == "www-authenticate"])
    receipt = said.get(RECEIPT_HEADER.lower())
    return surcharge_in(402, asked, receipt) if is_paid else challenge_in(402, asked)
