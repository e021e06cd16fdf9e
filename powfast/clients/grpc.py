"""Interceptors for gRPC channels: `grpc.intercept_channel(channel, PowInterceptor())`, or
`grpc.aio.insecure_channel(target, interceptors=aio_interceptors())`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from powfast.clients import off_loop
from powfast.clients.flow import Payer
from powfast.errors import MissingExtra
from powfast.http import SOLUTION_HEADER, challenge_in

try:
    import grpc
    import grpc.aio
except ImportError as error:
    raise MissingExtra("powfast.clients.grpc needs grpcio: pip install 'powfast[grpc]'") from error

Continuation = Callable[[grpc.ClientCallDetails, Any], Any]


class PowInterceptor(Payer, grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Answers one challenge per call; other metadata, an API key's included, stays.

    Each of the two attempts has the call's timeout to itself, and the solving does not count. A
    `future` is returned once its call is paid for; a stream pays when its first message is asked
    for.
    """

    def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """Call, pay where asked to, and call again."""
        call = continuation(client_call_details, request)
        token = _asked_for(call.code(), call.trailing_metadata())
        if token is None:
            return call
        return continuation(_Paid(client_call_details, self.pay(token)), request)

    def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """Do the same before the first message of a stream."""

        def again(solution: str) -> Any:
            return continuation(_Paid(client_call_details, solution), request)

        return _Stream(self, continuation(client_call_details, request), again)


class _Stream(Iterator[Any]):
    """A stream of answers, of which the first decides whether it has to be paid for."""

    def __init__(self, payer: Payer, call: Any, again: Callable[[str], Any]) -> None:
        self._payer = payer
        self._call = call
        self._again: Callable[[str], Any] | None = again
        self._cancelled = threading.Event()

    def __next__(self) -> Any:
        again, self._again = self._again, None
        try:
            return next(self._call)
        except grpc.RpcError:
            token = _asked_for(self._call.code(), self._call.trailing_metadata())
            if again is None or token is None:
                raise
        self._call = again(self._payer.pay(token, self._cancelled))
        return next(self._call)

    def cancel(self) -> Any:
        """Cancel the call, and the solving."""
        self._cancelled.set()
        return self._call.cancel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def aio_interceptors(**limits: Any) -> list[grpc.aio.ClientInterceptor]:
    """Make the interceptors of a `grpc.aio` channel; they take the limits of a `Payer`.

    Solves off the event loop; cancelling the call cancels the solving.
    """
    payer = Payer(**limits)
    return [_AioUnary(payer), _AioStream(payer)]


class _AioUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, payer: Payer) -> None:
        self._payer = payer

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        call = await continuation(client_call_details, request)
        token = _asked_for(await call.code(), await call.trailing_metadata())
        if token is None:
            return call
        solution = await off_loop.pay(self._payer, token)
        return await continuation(_Paid(client_call_details, solution), request)


class _AioStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, payer: Payer) -> None:
        self._payer = payer

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        call = await continuation(client_call_details, request)
        messages = aiter(call)
        try:
            first = await anext(messages, None)
        except grpc.aio.AioRpcError as error:
            token = _asked_for(error.code(), error.trailing_metadata())
            if token is None:
                raise
            solution = await off_loop.pay(self._payer, token)
            return await continuation(_Paid(client_call_details, solution), request)
        return _chained(first, messages)


async def _chained(first: Any, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    if first is not None:
        yield first
    async for message in messages:
        yield message


# -- between gRPC and the words of the flow


class _Paid(grpc.ClientCallDetails):
    """The same call with a solution."""

    def __init__(self, details: Any, solution: str) -> None:
        self._details = details
        self.metadata = (*(details.metadata or ()), (SOLUTION_HEADER.lower(), solution))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._details, name)


def _asked_for(code: grpc.StatusCode, trailing_metadata: Any) -> bytes | None:
    """Return the token that a call asks to be solved; FAILED_PRECONDITION is gRPC's 402."""
    if code is not grpc.StatusCode.FAILED_PRECONDITION:
        return None
    asked = [value for key, value in trailing_metadata or () if key == "www-authenticate"]
    return challenge_in(402, ", ".join(asked))
