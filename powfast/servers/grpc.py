"""Server interceptors for gRPC: the exchange of HTTP, in metadata.

The challenge comes as `www-authenticate` in the trailing metadata of status FAILED_PRECONDITION,
the solution goes as `pow-solution`. Methods of one request are guarded, whether they answer with
one message or with a stream; a method that takes a stream of requests passes untouched, because
what it will ask is not known when it would have to be paid. What a method sends as initial metadata
is not withheld.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import chain
from typing import Any
from urllib.parse import unquote

from powfast.accounts import Caller, Resolver, bearer, nobody
from powfast.bill import Bill, ClientDisconnected, RequestIdentity, ResponseBuffer
from powfast.errors import InvalidInput, MissingExtra
from powfast.gate import Gate, run
from powfast.http import (
    SOLUTION_HEADER,
    Answer,
    Exchange,
    Headers,
    counted,
    credentials_digest,
    pricing,
    refusal,
    request_digest,
)
from powfast.servers.charge import AsyncBill, BlockingBill

try:
    import grpc
    import grpc.aio
except ImportError as _missing:
    raise MissingExtra(
        "powfast.servers.grpc needs grpcio: pip install 'powfast[grpc]'"
    ) from _missing

_OK = 200
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    402: grpc.StatusCode.FAILED_PRECONDITION,
    403: grpc.StatusCode.PERMISSION_DENIED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_SENT_ALONG = (b"www-authenticate", b"retry-after", b"pow-receipt")

_current: ContextVar[Bill] = ContextVar("powfast.bill")


def current_bill() -> Any:
    """Return the bill of the call that is being served, whose methods a grpc.aio server awaits.

    In a stream, charge before its first message.

    Raises
    ------
    RuntimeError
        No interceptor guards this method, or this is not the task or thread that serves it.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError(
            "nothing guards this call: an interceptor guards methods of one request, up to their"
            " first message"
        ) from None


class _Guard:
    """What the two interceptors have in common."""

    def __init__(
        self,
        gate: Gate,
        *,
        account: Resolver = bearer,
        group: Resolver = nobody,
        evidence: Callable[[Exchange], Any] | None = None,
        queries: Callable[[Exchange], int] | None = None,
        newcomers: Resolver = nobody,
        bind: tuple[str, ...] = (),
        methods: tuple[str, ...] = ("/",),
    ) -> None:
        self._gate = gate
        self._account = account
        self._group = group
        self._evidence = evidence
        self._queries = queries
        self._newcomers = newcomers
        self._bind = tuple([name.lower().encode("latin-1") for name in bind])
        self._methods = tuple(methods)

    def _guards(self, method: str, handler: Any) -> bool:
        guarded = method.startswith(self._methods)
        return handler is not None and guarded and not handler.request_streaming

    def _identity(self, method: str, request: bytes, context: Any) -> RequestIdentity:
        address = unquote(context.peer()).partition(":")[2]
        caller = Caller(partial(_header, context), address, context)
        field = partial(_field, context)
        digest = request_digest("POST", method.encode(), request, field, self._bind)
        credentials = credentials_digest(field)
        names = self._account(caller), self._group(caller)
        return RequestIdentity(*names, digest, credentials, self._newcomers(caller))

    def _count(self, method: str, request: bytes) -> int | None:
        return counted(self._queries, "POST", method.encode(), request)

    def _pricing(self, method: str, request: bytes) -> Callable[[Answer], Any] | None:
        return pricing(self._evidence, "POST", method.encode(), request)


class _Run:
    """One run of a method, whose messages go out or are kept."""

    def __init__(self, handler: Any, request: bytes, context: Any, bill: Bill, gate: Gate) -> None:
        self._handler = handler
        self._request = request
        self._context = context
        self._bill = bill
        self._buffer = ResponseBuffer(bill, gate.held.max_answer)

    @contextmanager
    def _charging(self) -> Iterator[None]:
        token = _current.set(self._bill)
        try:
            yield
        finally:
            _current.reset(token)

    def _passes(self) -> bool:
        """Decide once the method has its first message."""
        failed = self._context.code() not in (None, 0, grpc.StatusCode.OK)
        passes = self._buffer.passes(500 if failed else _OK)
        if self._buffer.keeps:
            self._buffer.begin(_OK, ())
        return passes

    def keep(self, message: bytes) -> None:
        if self._buffer.keeps:
            self._buffer.add(_framed(self._handler, message))

    def kept(self) -> Answer | None:
        answer = self._buffer.answer()
        trailing = _headers(self._context.trailing_metadata() or ())
        return None if answer is None else answer._replace(headers=trailing)


# -- grpc.server


class PowInterceptor(_Guard, grpc.ServerInterceptor):
    """Withholds charged answers of a `grpc.server` until their proof of work is done.

    Parameters
    ----------
    gate : Gate
        Prices, challenges and redeems; its ledger blocks.
    account, group
        From the `Caller` to the name of who is charged, see `powfast.accounts`.
    evidence : callable, optional
        From an `Exchange` of serialized messages to the evidence of its queries, for methods that
        do not charge. Each message of a stream stands after its length in four bytes.
    queries : callable, optional
        From an `Exchange` that has no answer yet to the number of its queries: before it runs, a
        call is asked for the price of the moment of all of them. Without it, of one.
    newcomers : callable
        From the `Caller` to the name of the pool that it is in until its account has paid the
        opening; see docs/serving.md.
    methods : tuple of str
        Prefixes of the full names of the methods to guard, such as "/package.Service/".

    Raises
    ------
    InvalidInput
        The ledger is asynchronous.
    """

    def __init__(self, gate: Gate, **options: Any) -> None:
        if inspect.iscoroutinefunction(gate.ledger.enter):
            raise InvalidInput("grpc.server has no event loop: give the gate a ledger that blocks")
        super().__init__(gate, **options)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Guard the handler of one call."""
        method, handler = handler_call_details.method, continuation(handler_call_details)
        if not self._guards(method, handler):
            return handler
        serve = partial(self._serve, method, handler)

        def answer(request: bytes, context: Any) -> bytes:
            return b"".join(serve(request, context))  # one message; none, where nobody waits

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(serve)
        return grpc.unary_unary_rpc_method_handler(answer)

    def _serve(self, method: str, handler: Any, request: bytes, context: Any) -> Iterator[bytes]:
        try:
            identity = self._identity(method, request, context)
            queries = self._count(method, request)
        except InvalidInput as error:
            _refuse(context, refusal(error))
            return
        bill = BlockingBill(self._pricing(method, request))
        endpoint = _BlockingRun(handler, request, context, bill, self._gate)
        solution = _header(context, SOLUTION_HEADER)
        answer = run(self._gate.serve(identity, bill, solution, endpoint.run, queries=queries))
        if answer is None:
            try:
                for message in endpoint.passing:
                    endpoint.keep(message)
                    yield message
            except BaseException:  # GeneratorExit among them: nobody reads on
                run(bill.break_off())
                raise
            run(bill.finish(endpoint.kept()))
            _add_receipt(context, bill)
        elif answer.status == _OK:
            context.set_trailing_metadata(_metadata(answer.headers))
            yield from _messages(handler, answer.body)
        else:
            _refuse(context, answer)


class _BlockingRun(_Run):
    passing: Iterable[bytes] = ()
    """The messages of an answer that goes out."""

    async def run(self) -> Answer | None:
        """Run the method until its answer goes out, or to the end of one that is kept."""
        with self._charging():
            messages = self._messages()
            first = [] if (message := next(messages, None)) is None else [message]
            if self._passes():
                self.passing = chain(first, messages)
                return None
            for message in chain(first, messages):
                self.keep(message)
        if not self._context.is_active():  # the method may have stopped halfway
            raise ClientDisconnected
        return self.kept()

    def _messages(self) -> Iterator[bytes]:
        handler, request = self._handler, _deserialized(self._handler, self._request)
        if handler.response_streaming:
            answers = handler.unary_stream(request, self._context)
        else:
            answers = (handler.unary_unary(request, self._context),)
        return map(partial(_serialized, handler), answers)


# -- grpc.aio.server


class AioPowInterceptor(_Guard, grpc.aio.ServerInterceptor):
    """Does for a `grpc.aio.server` what `PowInterceptor` does, and takes the same parameters.

    Guarded methods are coroutines, or asynchronous generators.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Guard the handler of one call."""
        method, handler = handler_call_details.method, await continuation(handler_call_details)
        if not self._guards(method, handler):
            return handler

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async with aclosing(self._serve(method, handler, request, context)) as messages:
                async for message in messages:
                    yield message

        async def answer(request: bytes, context: Any) -> bytes:
            return b"".join([message async for message in stream(request, context)])

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(answer)

    async def _serve(
        self, method: str, handler: Any, request: bytes, context: Any
    ) -> AsyncGenerator[bytes, None]:
        try:
            identity = self._identity(method, request, context)
            queries = self._count(method, request)
        except InvalidInput as error:
            await _refuse(context, refusal(error))
            return
        bill = AsyncBill(self._pricing(method, request))
        endpoint = _AwaitedRun(handler, request, context, bill, self._gate)
        solution = _header(context, SOLUTION_HEADER)
        answer = await self._gate.serve(identity, bill, solution, endpoint.run, queries=queries)
        if answer is None:
            try:
                async for message in endpoint.passing():
                    endpoint.keep(message)
                    yield message
            except BaseException:  # GeneratorExit among them: nobody reads on
                await asyncio.shield(asyncio.ensure_future(bill.break_off()))
                raise
            await bill.finish(endpoint.kept())
            _add_receipt(context, bill)
        elif answer.status == _OK:
            context.set_trailing_metadata(_metadata(answer.headers))
            for message in _messages(handler, answer.body):
                yield message
        else:
            await _refuse(context, answer)


class _AwaitedRun(_Run):
    async def run(self) -> Answer | None:
        """Run the method until its answer goes out, or to the end of one that is kept."""
        with self._charging():
            self._rest = self._messages()
            self._first = await anext(self._rest, None)
            if self._passes():
                return None
            async for message in self.passing():
                self.keep(message)
        if (task := asyncio.current_task()) and task.cancelling():  # as above
            raise ClientDisconnected
        return self.kept()

    async def passing(self) -> AsyncIterator[bytes]:
        """Give the messages of an answer that goes out."""
        if self._first is not None:
            yield self._first
        async for message in self._rest:
            yield message

    async def _messages(self) -> AsyncIterator[bytes]:
        handler, request = self._handler, _deserialized(self._handler, self._request)
        if not handler.response_streaming:
            yield _serialized(handler, await handler.unary_unary(request, self._context))
            return
        async for message in handler.unary_stream(request, self._context):
            yield _serialized(handler, message)


# -- between gRPC and the words of the gate


def _header(context: Any, name: str) -> str | None:
    """Return a value of the call's metadata, repeated ones joined by a comma."""
    wanted = name.lower()
    values = [
        value.decode("latin-1") if isinstance(value, bytes) else value
        for key, value in context.invocation_metadata()
        if key == wanted
    ]
    return ", ".join(values) if values else None


def _field(context: Any, name: bytes) -> bytes | None:
    value = _header(context, name.decode("latin-1"))
    return None if value is None else value.encode("utf-8", "surrogateescape")


def _headers(metadata: Iterable[tuple[str, str | bytes]]) -> Headers:
    return tuple(
        (key.encode(), value if isinstance(value, bytes) else value.encode())
        for key, value in metadata
    )


def _metadata(headers: Headers) -> tuple[tuple[str, str | bytes], ...]:
    """Undo `_headers`: keys in -bin have bytes."""
    return tuple(
        (key.decode(), value if key.endswith(b"-bin") else value.decode()) for key, value in headers
    )


def _add_receipt(context: Any, bill: Bill) -> None:
    if bill.receipt_headers:
        given = tuple(context.trailing_metadata() or ())
        context.set_trailing_metadata(given + _metadata(bill.receipt_headers))


def _refuse(context: Any, answer: Answer) -> Any:
    """End the call with a challenge or a refusal: raises, or has to be awaited in grpc.aio."""
    sent_along = tuple(pair for pair in answer.headers if pair[0] in _SENT_ALONG)
    context.set_trailing_metadata(_metadata(sent_along))
    code = _CODES.get(answer.status, grpc.StatusCode.UNKNOWN)
    return context.abort(code, json.loads(answer.body)["detail"])


def _deserialized(handler: Any, request: bytes) -> Any:
    return (
        request if handler.request_deserializer is None else handler.request_deserializer(request)
    )


def _serialized(handler: Any, message: Any) -> bytes:
    serializer = handler.response_serializer
    serialized: bytes = message if serializer is None else serializer(message)
    return serialized


def _framed(handler: Any, message: bytes) -> bytes:
    """Return what is kept of a message: in a stream, it stands after its length."""
    return len(message).to_bytes(4, "big") + message if handler.response_streaming else message


def _messages(handler: Any, body: bytes) -> Iterator[bytes]:
    if not handler.response_streaming:
        yield body
        return
    start = 0
    while start < len(body):
        end = start + 4 + int.from_bytes(body[start : start + 4], "big")
        yield body[start + 4 : end]
        start = end
