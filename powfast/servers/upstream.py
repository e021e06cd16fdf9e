"""A reverse proxy before any HTTP model server, which prices the answer itself.

`powfast serve --upstream URL` runs it. It is an ASGI application that `PowMiddleware` wraps: the
gate does all the accounting, the proxy passes on what is paid for. Headers are treated as RFC 9110
says (7.6.1: what concerns one connection stays there; 7.6.3: Via), and what one server would read
in another way than the next is refused: framing that contradicts itself, paths that are spelled in
two ways.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from powfast.errors import InvalidInput, UpstreamFailed, UpstreamTimeout
from powfast.gate import Gate
from powfast.http import Answer, Exchange, guards, problem, refusal
from powfast.observers import Several
from powfast.servers.asgi import Message, PowMiddleware, Receive, Scope, Send
from powfast.servers.charge import BILL_KEY
from powfast.servers.connections import Connection, Upstream
from powfast.servers.settings import Settings
from powfast.servers.usage import by_tokens, expected

GENERATING = (
    "/v1/", "/v2/", "/api/", "/inference/", "/invocations", "/generat", "/chat", "/completion",
    "/infill", "/responses", "/embed", "/pooling", "/classify", "/predict", "/score", "/rerank",
    "/similarity",
)  # fmt: skip
"""Prefixes of the paths on which vLLM, llama.cpp, TEI and others answer from a model."""
PAYS = ("X-PAYMENT", "PAYMENT-SIGNATURE")
"""x402's headers: the same request with and without money is not the same."""
OWN = "/powfast/"
"""Paths that the proxy answers itself."""

_HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
    b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
    b"upgrade",
}  # fmt: skip
# A solution is good for one value of them: they do not stay behind.
_BOUND = {b"authorization", b"cookie", b"content-type", b"content-encoding"}
# What the proxy says itself, has acted upon, or cannot vouch for.
_NOT_ASKED = _HOP_BY_HOP | {b"host", b"content-length", b"expect", b"forwarded", b"x-forwarded-for"}
_NOT_PRICED = _NOT_ASKED | {b"accept-encoding"}  # what is to be priced has to be read
_NOT_ANSWERED = _HOP_BY_HOP | {b"date"}
_TARGET = re.compile(rb"/[!\"$-~]*")  # no space, control, # or byte beyond ASCII
_AMBIGUOUS = re.compile(r"(^|/)\.{1,2}(/|$)|[\\;%\x00-\x1f\x7f]")  # in a path that was decoded
_ENDS_A_LINE = re.compile(rb"[\r\n\0]")

Headers = Iterable[tuple[bytes, bytes]]

_log = logging.getLogger("powfast.upstream")


class ReverseProxy:
    """The ASGI application: a gate, and a model server behind it.

    Parameters
    ----------
    gate : Gate
        Prices, challenges and redeems.
    upstream : Upstream
        The connections to the model server.
    evidence : callable
        From an `Exchange` to the evidence of its queries; it may be a coroutine function.
    paths : tuple of str
        Prefixes of the paths to guard; other requests pass as they are.
    bind : tuple of str
        Headers that a solution is good for, beside those that always count and those of `PAYS`.
    metrics : ASGI application, optional
        Answers at `/powfast/metrics`.
    options
        Of `PowMiddleware`.
    """

    def __init__(
        self,
        gate: Gate,
        upstream: Upstream,
        *,
        evidence: Callable[[Exchange], Any],
        paths: tuple[str, ...] = GENERATING,
        bind: tuple[str, ...] = (),
        metrics: Any = None,
        **options: Any,
    ) -> None:
        self._upstream = upstream
        self._evidence = evidence
        self._longest = gate.held.max_answer
        self._paths = paths
        self._lowered = tuple(path.lower() for path in paths)
        self._metrics = metrics
        self._bound = _BOUND | {name.lower().encode("latin-1") for name in (*PAYS, *bind)}
        self._guarded = PowMiddleware(
            self._pass_on, gate, evidence=evidence, paths=paths, bind=(*PAYS, *bind), **options
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        elif scope["path"].startswith(OWN):
            await self._own(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def passing(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            self._check(scope)
        except InvalidInput as error:
            await _send(send, _refusal(error))
            return
        hops = _hops(scope)
        if hops == 0:  # the proxy answers for what it could do
            await _send(send, Answer(204, (), b""))
            return
        if hops is not None:
            fewer = (b"max-forwards", b"%d" % (hops - 1))
            kept = [field for field in scope["headers"] if field[0] != fewer[0]]
            scope = {**scope, "headers": [*kept, fewer]}
        try:
            await self._guarded(scope, receive, passing)
        except UpstreamFailed as error:
            if has_begun:  # the server closes the connection, so that nobody takes half for all
                _log.warning("an answer ended halfway: %s", error)
            else:
                await _send(send, _refusal(error))

    def _check(self, scope: Scope) -> None:
        """Refuse what the model server might understand in another way than the gate.

        Raises
        ------
        InvalidInput
            Says what is wrong.
        """
        fields, path = scope["headers"], scope["path"]
        names = [name for name, _ in fields]
        if scope["method"] in ("CONNECT", "TRACE"):
            raise InvalidInput("this server has no CONNECT and no TRACE")
        if not _TARGET.fullmatch(scope["raw_path"]) or _AMBIGUOUS.search(path):
            raise InvalidInput(
                "the path has to be plain: absolute, without dot segments, backslashes, semicolons,"
                " control characters or anything encoded twice"
            )
        if not guards(self._paths, path) and guards(self._lowered, path.lower()):
            raise InvalidInput("the path is spelled in other capitals than this server's")
        if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
            raise InvalidInput("the length of the body is said once")
        said = dict(fields)
        if not said.get(b"content-length", b"0").isdigit():
            raise InvalidInput("the length of the body is said in digits")
        if said.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise InvalidInput("the only transfer coding is chunked")
        if said.get(b"expect", b"100-continue").lower() != b"100-continue":
            raise InvalidInput("the only expectation is 100-continue")
        if b"connection" in said and not self._bound.isdisjoint(_nominated(fields)):
            raise InvalidInput("Connection names a header that is for the model server")
        if _ENDS_A_LINE.search(b"".join([*names, *[value for _, value in fields]])):
            raise InvalidInput("a header has a line break or a NUL in it")

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back."""
        asked = await receive()
        if asked["type"] == "http.disconnect":
            return
        is_whole = not asked.get("more_body", False)
        body = asked.get("body", b"")
        head = _head(scope, self._upstream, len(body) if is_whole else None)
        begun = head + body if is_whole else head
        connection = await self._upstream.send(scope["method"], begun, is_whole)
        uploading = None
        if not is_whole:
            uploading = asyncio.ensure_future(_upload(connection, scope, asked, receive))
        try:
            await connection.answered()
            if uploading is None and BILL_KEY not in scope and not connection.has_ended:
                uploading = asyncio.ensure_future(_watch(connection, receive))
            streamed = None
            if BILL_KEY in scope and connection.is_stream:
                streamed = self._deferred(scope, body, connection)
            await _answer(connection, send, streamed, self._longest)
        finally:
            if uploading is not None and not uploading.done():
                uploading.cancel()
                if not is_whole:  # the rest of the request would be the next one's beginning
                    connection.close()
            connection.end()

    def _deferred(self, scope: Scope, body: bytes, connection: Connection) -> bytearray:
        """Charge for an answer in events at its end, by what has streamed until then."""
        streamed = bytearray()
        query = scope["query_string"]
        asked = scope["method"], scope["raw_path"] + b"?" + query, body, connection.status
        scope[BILL_KEY].charge_at_end(lambda: self._evidence(Exchange(*asked, bytes(streamed))))
        return streamed

    async def _own(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for this process: it lives; what it counted."""
        name = scope["path"].removeprefix(OWN)
        if name == "metrics" and self._metrics is not None:
            await self._metrics(scope, receive, send)
        elif name == "healthz":
            text = (b"content-type", b"text/plain")
            await _send(send, Answer(200, (text, (b"content-length", b"3")), b"ok\n"))
        else:
            await _send(send, problem(404, "not-found", "Not Found", "nothing is here"))

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and stop with the server."""
        while True:
            event = (await receive())["type"]
            if event == "lifespan.shutdown":
                self._upstream.close()
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return


def _refusal(error: InvalidInput | UpstreamFailed) -> Answer:
    """Say why there is no answer; what is said of the model server names no host."""
    if isinstance(error, InvalidInput):  # what follows may be no request
        return refusal(error).with_headers((b"connection", b"close"))
    if isinstance(error, UpstreamTimeout):
        return problem(504, error.code, "Gateway Timeout", str(error))
    return problem(502, error.code, "Bad Gateway", str(error))


def _head(scope: Scope, upstream: Upstream, length: int | None) -> bytes:
    """Return request line and header fields, of a body of so many bytes, or one that streams."""
    query, given = scope["query_string"], scope["headers"]
    target = upstream.prefix + scope["raw_path"] + (b"?" + query if query else b"")
    dropped = _NOT_PRICED if BILL_KEY in scope else _NOT_ASKED
    nominated = _nominated(given)
    if not nominated <= dropped:
        dropped = dropped | nominated
    lines = [
        b"%b %b HTTP/1.1" % (scope["method"].encode("latin-1"), target),
        b"host: " + upstream.authority,
        *[
            b"%b: %b" % (name, value)
            for name, value in given
            if name not in dropped and b"_" not in name and not name.startswith(b"pow-")
        ],
        *_vouched(scope, given),
        *_framing(scope["method"], given, length),
        b"\r\n",
    ]
    return b"\r\n".join(lines)


def _framing(method: str, given: Headers, length: int | None) -> Iterator[bytes]:
    """Say where the body of the request ends; the server has read it, or reads it, by the same."""
    if length is None:
        declared = dict(given).get(b"content-length")
        yield b"transfer-encoding: chunked" if declared is None else b"content-length: " + declared
    elif length or method in ("POST", "PUT", "PATCH"):
        yield b"content-length: %d" % length


def _vouched(scope: Scope, given: Headers) -> Iterator[bytes]:
    """Say who asked, and of whom; what is already said there came from whoever is before us."""
    fields, client = dict(given), scope.get("client")
    hops = [value for name, value in given if name == b"x-forwarded-for"]
    if client:
        hops.append(client[0].encode("latin-1"))
    if hops:
        yield b"x-forwarded-for: " + b", ".join(hops)
    if b"x-forwarded-host" not in fields and b"host" in fields:
        yield b"x-forwarded-host: " + fields[b"host"]
    if b"x-forwarded-proto" not in fields:
        yield b"x-forwarded-proto: " + scope.get("scheme", "http").encode("latin-1")
    yield b"via: %b powfast" % scope.get("http_version", "1.1").encode("latin-1")


def _hops(scope: Scope) -> int | None:
    """Return how many servers more may pass the request on, where it says so (RFC 9110, 7.6.2)."""
    said = dict(scope["headers"]).get(b"max-forwards", b"") if scope["method"] == "OPTIONS" else b""
    return int(said[:9]) if said.isdigit() else None


def _nominated(fields: Headers) -> set[bytes]:
    """Return the fields that concern this connection alone, as its sender says."""
    said = [value for name, value in fields if name == b"connection"]
    return {name.strip().lower() for name in b",".join(said).split(b",")} if said else set()


async def _answer(
    connection: Connection, send: Send, streamed: bytearray | None, longest: int
) -> None:
    """Pass the answer back, piece by piece, no faster than it is taken.

    What has `streamed` is kept to be charged for; a stream that gets too long for that breaks off.
    """
    dropped = _NOT_ANSWERED | _nominated(connection.fields)
    fields = [
        (name, value)
        for name, value in connection.fields
        if name not in dropped and not name.startswith(b"pow-")
    ]
    fields.append((b"via", b"1.1 powfast"))
    await send({"type": "http.response.start", "status": connection.status, "headers": fields})
    more = True
    while more:
        piece = await connection.piece()
        if streamed is not None:
            streamed += piece
            if len(streamed) > longest:
                raise UpstreamFailed("the stream is longer than what can be charged for")
        more = bool(piece) and not connection.has_ended
        await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _upload(connection: Connection, scope: Scope, asked: Message, receive: Receive) -> None:
    """Send the body of a request on as it comes, in the framing that `_framing` said."""
    is_chunked = b"content-length" not in dict(scope["headers"])
    more = True
    while more:
        if asked["type"] == "http.disconnect":
            connection.close()
            return
        piece, more = asked.get("body", b""), asked.get("more_body", False)
        if piece:
            connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            await connection.writable()
        if more:
            asked = await receive()
    if is_chunked:
        connection.write(b"0\r\n\r\n")


async def _watch(connection: Connection, receive: Receive) -> None:
    """Let an answer that nobody is charged for end with its client.

    One that is charged is read to its end: who has paid for it and lost it gets it again.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    connection.close()


async def _send(send: Send, answer: Answer) -> None:
    start = {"type": "http.response.start", "status": answer.status}
    await send({**start, "headers": [*answer.headers]})
    await send({"type": "http.response.body", "body": answer.body})


def from_environment() -> ReverseProxy:
    """Make the application that `POWFAST_*`, or the file that `POWFAST_CONFIG` names, describes.

    `powfast serve --upstream URL` runs it; so does `uvicorn --factory
    powfast.servers.upstream:from_environment`.

    Raises
    ------
    InvalidInput
        Names every setting that is wrong.
    """
    settings = Settings.load()
    if settings.upstream is None:
        raise InvalidInput("upstream is missing: the URL of the model server")
    observer = settings.observer()
    listening = observer.observers if isinstance(observer, Several) else (observer,)
    expects = expected(settings.tokens_per_query)
    options = {"paths": GENERATING, "queries": expects, **settings.middleware}
    options["evidence"] = settings.evidence or by_tokens(settings.tokens_per_query)
    return ReverseProxy(
        settings.gate(asynchronous=True, observer=observer),
        Upstream(
            settings.upstream,
            timeout=settings.upstream_timeout,
            connections=settings.upstream_connections,
        ),
        metrics=next(filter(None, (getattr(each, "asgi", None) for each in listening)), None),
        **options,
    )
