"""HTTP/1.1 to a model server, for a proxy: strict about framing, and one exchange a connection.

The parser is llhttp (httptools), as in uvicorn. A connection carries one exchange at a time, is
read no faster than its answer is passed on, and is used again only after an answer whose end is
beyond doubt.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from powfast.errors import MissingExtra, UpstreamFailed, UpstreamTimeout

try:
    import httptools
except ImportError as _missing:
    raise MissingExtra(
        "powfast.servers.upstream needs httptools: pip install 'powfast[server]'"
    ) from _missing

Fields = list[tuple[bytes, bytes]]

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 3.0
"""Model servers close idle connections after 5 s (uvicorn, Node.js, llama.cpp) or more."""
MAX_HEAD = 256 << 10
"""Bytes of all heads of one answer: its own, and those of informational ones before it."""
_BUFFERED = 64 << 10
_SWEEP_SECONDS = 0.25
_WITHOUT_BODY = (204, 304)
_REPEATABLE = ("GET", "HEAD", "OPTIONS")

_log = logging.getLogger("powfast.upstream")


class Connection(asyncio.Protocol):
    """One connection to the model server, and the answer that comes over it."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._transport: Any = None
        self._error: UpstreamFailed | None = None
        self._is_reading = True
        self.is_busy: bool = False
        self.is_lost: bool = False
        self.has_ended: bool = False
        """Whether the whole answer has come."""
        self.moved_at: float = 0.0
        """When something was last sent or received, on the loop's clock."""

    # -- one exchange

    def begin(self, method: str, request: bytes) -> None:
        """Send a request, or its head; the answer before it has ended."""
        self.is_busy = True
        self.has_ended = False
        self.heard: int = 0
        """Bytes that came before the answer's body."""
        self.status: int = 0
        self.fields: Fields = []
        self._error = None
        self._is_head = method == "HEAD"
        self._ends_with_connection = False
        self._is_reusable = False
        self._buffered = 0
        self._pieces.clear()
        if self.is_lost:
            self._error = UpstreamFailed("the model server hung up before it answered")
        self.write(request)

    def write(self, data: bytes) -> None:
        """Send a piece of the request."""
        self.moved_at = self._loop.time()
        if not self.is_lost:
            self._transport.write(data)

    async def writable(self) -> None:
        """Wait until the model server has taken what was sent."""
        if self._writable is not None:
            await self._writable

    async def answered(self) -> None:
        """Wait for status and header fields.

        Raises
        ------
        UpstreamFailed
            They do not come.
        """
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._news()

    async def piece(self) -> bytes:
        """Return the next piece of the body; it is empty at the end.

        Raises
        ------
        UpstreamFailed
            The rest does not come.
        """
        while not self._pieces:
            if self.has_ended:
                return b""
            if self._error is not None:
                raise self._error
            await self._news()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if not (self._is_reading or self.is_lost):
            self._is_reading = True
            self.moved_at = self._loop.time()
            self._transport.resume_reading()
        return piece

    def end(self) -> None:
        """Leave the exchange: the connection waits for the next one, or closes."""
        if not self.is_busy:
            return
        if self.has_ended and self._is_reusable and self._is_reading and not self.is_closing:
            self._upstream.idle.append(self)
        else:
            self.close()
        self.is_busy = False
        self._upstream.places.release()

    def fail(self, error: UpstreamFailed) -> None:
        """Close the connection; whoever waits for its answer is told why."""
        if not self.has_ended and self._error is None:
            self._error = error
        self._is_reusable = False
        self._transport.abort()
        self._tell()

    def close(self) -> None:
        """Close the connection, which is idle or whose exchange nobody waits for."""
        self.fail(UpstreamFailed("the exchange with the model server was given up"))

    @property
    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return bool(self._transport.is_closing())

    @property
    def is_stream(self) -> bool:
        """Whether the answer comes in events, and is none of a failure."""
        kind = dict(self.fields).get(b"content-type", b"")
        return self.status < 400 and kind.lower().startswith(b"text/event-stream")

    async def _news(self) -> None:
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _tell(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self.moved_at = self._loop.time()
        self._upstream.gain(self, self._loop)

    def data_received(self, data: bytes) -> None:
        """Read a piece of the answer."""
        self.moved_at = self._loop.time()
        if not self.is_busy or self.has_ended:  # nobody has asked for this
            self._is_reusable = False
            self._transport.abort()
            return
        if not self.status:
            self.heard += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(UpstreamFailed("the model server changed to another protocol, unasked"))
        except httptools.HttpParserError as error:
            _log.warning("the model server's answer is not HTTP/1.1: %s", error)
            self.fail(UpstreamFailed("the model server's answer is not HTTP/1.1"))
        if self.heard > MAX_HEAD:
            self.fail(UpstreamFailed("the head of the model server's answer is too large"))
        if self._buffered > _BUFFERED and self._is_reading and not self.is_lost:
            self._is_reading = False
            self._transport.pause_reading()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say what the end of the connection makes of an answer."""
        self.is_lost = True
        self.resume_writing()
        self._upstream.lose(self)
        if self.is_busy and not self.has_ended and self._error is None:
            self.has_ended = self._ends_with_connection and exc is None
            if not self.has_ended:
                done = "its answer was whole" if self.status else "it answered"
                self._error = UpstreamFailed(f"the model server hung up before {done}")
        self._tell()
        self.end()

    def pause_writing(self) -> None:
        """Wait: the model server takes no more at the moment."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Go on."""
        self.moved_at = self._loop.time()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # -- what the parser calls

    def on_message_begin(self) -> None:
        """Notice that more comes than the answer."""
        if self.has_ended:  # more than the answer said it would be
            self._is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head; trailers are dropped, as RFC 9110 6.5.1 allows."""
        if not (self.status or self.has_ended):
            self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Read the head of an answer; informational ones (1xx) are dropped."""
        status = self._parser.get_status_code()
        if self.has_ended:
            return
        if status < 200:
            self.fields = []
            return
        names = dict(self.fields)
        coding = names.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            self.fail(
                UpstreamFailed("the model server chose a transfer coding that nobody asked for")
            )
            return
        framed = coding is not None or b"content-length" in names
        self._ends_with_connection = not framed and status not in _WITHOUT_BODY
        self.status = status
        if self._is_head:  # the parser would wait for the body
            self.has_ended = True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if not self.has_ended:
            self._pieces.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        """Note that the answer is whole."""
        if self.status and not self.has_ended:
            self.has_ended = True
            self._is_reusable = self._parser.should_keep_alive()


class Upstream:
    """A bounded number of connections to one model server, kept open between exchanges.

    Parameters
    ----------
    url : str
        ``http://host:port`` or ``https://host``, with a path that every target is put behind.
    timeout : float
        Seconds without a byte in either direction after which an exchange is given up.
    connections : int
        At most so many; further exchanges wait for one.
    """

    def __init__(self, url: str, *, timeout: float, connections: int) -> None:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if is_tls else 80)
        self._tls = ssl.create_default_context() if is_tls else None
        self._timeout = timeout
        self.authority: bytes = parts.netloc.encode(
            "idna" if not parts.netloc.isascii() else "ascii"
        )
        self.prefix: bytes = parts.path.rstrip("/").encode()
        self.places: asyncio.Semaphore = asyncio.Semaphore(connections)
        """One for each exchange at a time."""
        self.idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(self, method: str, request: bytes, is_whole: bool) -> Connection:
        """Send a request, or only its head; `end` has to be called on what is returned.

        Raises
        ------
        UpstreamFailed
            There is no connection, or the model server closes it before it answers.
        """
        connection, is_fresh = await self._connection()
        try:
            connection.begin(method, request)
            if is_whole:
                await connection.answered()
        except UpstreamFailed:
            connection.end()
            if is_fresh or connection.heard or method not in _REPEATABLE:
                raise
            # closed while it was idle, in the moment of its use
            return await self.send(method, request, is_whole)
        except BaseException:
            connection.end()
            raise
        return connection

    async def _connection(self) -> tuple[Connection, bool]:
        """Return a connection that was idle, or a fresh one."""
        await self._place()
        try:
            while self.idle:
                connection = self.idle.pop()
                if not connection.is_closing:
                    return connection, False
            return await self._connected(), True
        except BaseException:
            self.places.release()
            raise

    async def _place(self) -> None:
        """Take a place, which `Connection.end` gives back."""
        if not self.places.locked():
            await self.places.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self.places.acquire()
        except TimeoutError:
            raise UpstreamTimeout("the model server answers too many others") from None

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            _log.warning("no connection to the model server: %s", str(error) or "it takes too long")
            raise UpstreamFailed("the model server cannot be reached") from None
        return connection

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up what is silent, and close what is idle."""
        now = loop.time()
        for connection in [*self._open]:
            silent = now - connection.moved_at
            if connection.is_busy and silent > self._timeout:
                connection.fail(
                    UpstreamTimeout(f"the model server was silent for {self._timeout:g} s")
                )
            elif not connection.is_busy and silent > IDLE_SECONDS:
                connection.close()
        again = loop.call_later(_SWEEP_SECONDS, self._sweep, loop) if self._open else None
        self._sweeping = again

    def gain(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Know of a connection that is open."""
        if self._sweeping is None:
            self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep, loop)
        self._open.add(connection)

    def lose(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def close(self) -> None:
        """Close every connection."""
        for connection in [*self._open]:
            connection.close()
