"""WSGI middleware: Flask, Django, or any other WSGI application.

The exchange is that of `powfast.servers.asgi`: the endpoint runs once, and what it answers after
`BlockingBill.charge` is held until the solution comes.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import Any
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from numpy.typing import ArrayLike

from powfast.accounts import Caller, bearer, nobody
from powfast.bill import Bill, RequestIdentity, ResponseBuffer
from powfast.errors import BodyTooLarge, InvalidInput
from powfast.gate import Gate, run
from powfast.http import (
    Answer,
    Exchange,
    bytes_of,
    counted,
    credentials_digest,
    guards,
    pricing,
    refusal,
    request_digest,
    text_of,
)
from powfast.servers.charge import BILL_KEY, BlockingBill, carried


def header(environ: WSGIEnvironment, name: str) -> str | None:
    """Return a request header; `None` where there is none."""
    key = name.upper().replace("-", "_")
    is_bare = key in ("CONTENT_TYPE", "CONTENT_LENGTH")
    value: str | None = environ.get(key if is_bare else f"HTTP_{key}")
    return value


def field(environ: WSGIEnvironment, name: bytes) -> bytes | None:
    """Return a request header as it came; `None` where there is none."""
    value = header(environ, name.decode("latin-1"))
    return None if value is None else value.encode("latin-1", "replace")


def bill_of(environ: WSGIEnvironment) -> BlockingBill:
    """Return the bill of a request: `request.environ` in Flask, `request.META` in Django."""
    bill: BlockingBill = carried(environ, environ.get("PATH_INFO", ""))
    return bill


class PowMiddleware:
    """Withholds charged answers until their proof of work is done.

    Parameters
    ----------
    app
        The WSGI application.
    gate : Gate
        Prices, challenges and redeems; its ledger blocks.
    account, group
        From the `Caller` to the name of who is charged, see `powfast.accounts`; an empty group is
        none.
    evidence : callable, optional
        From an `Exchange` to the evidence of its queries, for endpoints that do not charge. An
        endpoint's own charge comes first.
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
        Prefixes of the paths to guard; requests elsewhere pass untouched.
    max_body : int
        Bytes of a request body; a larger one is refused with 413.
    status : int
        Status of a challenge. Gateways that pass nothing but 401 and 403 need one of these.

    Raises
    ------
    InvalidInput
        The ledger is asynchronous.
    """

    def __init__(
        self,
        app: WSGIApplication,
        gate: Gate,
        account: Callable[[Caller], str] = bearer,
        group: Callable[[Caller], str] = nobody,
        evidence: Callable[[Exchange], ArrayLike] | None = None,
        queries: Callable[[Exchange], int] | None = None,
        newcomers: Callable[[Caller], str] = nobody,
        bind: tuple[str, ...] = (),
        paths: tuple[str, ...] = ("/",),
        max_body: int = 16 << 20,
        status: int = 402,
    ) -> None:
        if inspect.iscoroutinefunction(gate.ledger.enter):
            raise InvalidInput("WSGI has no event loop: give the gate a ledger that blocks")
        self._app = app
        self._gate = gate
        self._account = account
        self._group = group
        self._evidence = evidence
        self._queries = queries
        self._newcomers = newcomers
        self._bind = tuple([name.lower().encode("latin-1") for name in bind])
        self._paths = tuple(paths)
        self._max_body = max_body
        self._status = status

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        root = environ.get("SCRIPT_NAME", "")
        if not guards(self._paths, root + environ.get("PATH_INFO", ""), root):
            return self._app(environ, start_response)
        try:
            body = _read(environ, self._max_body)
            target = _target(environ)
            identity = self._identity(environ, target, body)
            queries = counted(self._queries, environ["REQUEST_METHOD"], target, body)
        except (BodyTooLarge, InvalidInput) as error:
            return _send(environ, start_response, refusal(error))
        bill = BlockingBill(pricing(self._evidence, environ["REQUEST_METHOD"], target, body))
        environ[BILL_KEY] = bill
        endpoint = _Endpoint(self._app, environ, body, start_response, bill, self._gate)
        solution = environ.get("HTTP_POW_SOLUTION")
        serving = self._gate.serve(
            identity, bill, solution, endpoint.run, queries=queries, status=self._status
        )
        answer = run(serving)
        return endpoint.passing if answer is None else _send(environ, start_response, answer)

    def _identity(self, environ: WSGIEnvironment, target: bytes, body: bytes) -> RequestIdentity:
        caller = Caller(partial(header, environ), environ.get("REMOTE_ADDR"), environ)
        found = partial(field, environ)
        digest = request_digest(environ["REQUEST_METHOD"], target, body, found, self._bind)
        credentials = credentials_digest(found)
        names = self._account(caller), self._group(caller)
        return RequestIdentity(*names, digest, credentials, self._newcomers(caller))


def _target(environ: WSGIEnvironment) -> bytes:
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    text = f"{quote(path, encoding='latin-1')}?{environ.get('QUERY_STRING', '')}"
    return text.encode("latin-1")


class _Endpoint:
    """One run of the application, whose answer goes out or is kept."""

    def __init__(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        request: bytes,
        start_response: StartResponse,
        bill: BlockingBill,
        gate: Gate,
    ) -> None:
        self._app = app
        self._environ = environ
        self._request = request
        self._start_response = start_response
        self._bill = bill
        self._buffer = ResponseBuffer(bill, gate.held.max_answer)
        self.passing: Iterable[bytes] = ()
        """The body of an answer that goes out."""

    async def run(self) -> Answer | None:
        """Run the application until its answer goes out, or to the end of one that is kept."""
        _replay(self._environ, self._request)
        body = self._app(self._environ, self._begin)
        try:
            pieces = iter(body)
            for piece in pieces:
                if self._bill.is_answering:
                    passing = self._passed(chain((piece,), pieces))
                    self.passing, body = _Passing(passing, body, self._bill), ()
                    return None
                self._buffer.add(piece)
        except BaseException:
            await self._bill.break_off()
            raise
        finally:
            _close(body)
        if not self._bill.is_answering:
            return self._buffer.answer()
        await self._bill.finish(self._buffer.answer())
        return None

    def _passed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._buffer.keeps:
                self._buffer.add(piece)
            yield piece
        run(self._bill.finish(self._buffer.answer()))

    def _begin(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        buffer = self._buffer
        passes = buffer.passes(int(status[:3]))
        if buffer.keeps:
            buffer.begin(int(status[:3]), bytes_of(headers))
        if not passes:
            return buffer.add
        headers = [*headers, *text_of(self._bill.receipt_headers)]
        write = self._start_response(status, headers, exc_info)

        def write_and_keep(piece: bytes) -> object:
            buffer.add(piece)
            return write(piece)

        return write_and_keep if buffer.keeps else write


class _Passing:
    """A body on its way out, which the server closes."""

    def __init__(self, pieces: Iterator[bytes], body: Iterable[bytes], bill: Bill) -> None:
        self._pieces = pieces
        self._body = body
        self._bill = bill

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        try:
            _close(self._body)
        finally:
            run(self._bill.break_off())


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _read(environ: WSGIEnvironment, limit: int) -> bytes:
    """Read the whole body: as long as announced, or to the end where the server knows it."""
    announced = environ.get("CONTENT_LENGTH") or ""
    if not announced and not environ.get("wsgi.input_terminated"):
        return b""
    if announced and not re.fullmatch(r"[0-9]{1,18}", announced):
        raise InvalidInput("Content-Length is not a number of bytes")
    wanted = int(announced) if announced else limit + 1
    if announced and wanted > limit:
        raise BodyTooLarge(f"the body has more than {limit} bytes")
    body = bytearray()
    while len(body) < wanted:
        piece = environ["wsgi.input"].read(wanted - len(body))
        if not piece:
            break
        body += piece
    if announced and len(body) < wanted:
        raise InvalidInput(f"the body ended after {len(body)} of {wanted} bytes")
    if len(body) > limit:
        raise BodyTooLarge(f"the body has more than {limit} bytes")
    return bytes(body)


def _replay(environ: WSGIEnvironment, body: bytes) -> None:
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = io.BytesIO(body)


def _send(
    environ: WSGIEnvironment, start_response: StartResponse, answer: Answer
) -> Iterable[bytes]:
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Unknown"
    start_response(f"{answer.status} {phrase}", text_of(answer.headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
