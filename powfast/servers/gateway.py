"""The gate as a service of its own, which a proxy asks before it passes a request on.

So is a model server guarded that nobody can edit, in whatever language: nginx (auth_request),
Traefik and Caddy (forward auth) and Envoy (ext_authz) send the headers of every request to
`/check`, whose answer is 200, or the challenge. The model has not run then: a request is charged as
an ordinary one, at the account's present price. `/report` takes its evidence afterwards: what its
price is above what was paid is asked for before the account's next request passes.
"""

from __future__ import annotations

import hmac
import json
import os
import re
from typing import Any
from urllib.parse import quote, unquote

from powfast.accounts import Caller, Resolver, bearer, nobody
from powfast.bill import Bill, Event, Phase, RequestIdentity
from powfast.errors import (
    BodyTooLarge,
    InvalidInput,
    MissingExtra,
    StoreUnavailable,
    TooManyQueries,
)
from powfast.gate import Gate
from powfast.http import (
    SOLUTION_HEADER,
    Answer,
    bytes_of,
    problem,
    refusal,
    request_digest,
    text_of,
)
from powfast.observers import Several
from powfast.servers.asgi import fields_of, header_of
from powfast.servers.settings import Settings

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route
except ImportError as _missing:
    raise MissingExtra(
        "powfast.servers.gateway needs Starlette: pip install 'powfast[server]'"
    ) from _missing

_PLAIN = "!#$&'()*+,/:;=?@[]~"  # what stands in a header as it is, beside letters and digits
_PASSED = re.compile(r"([0-9a-f]{32})\.([0-9]{1,24})")  # PoW-Request: an id, and what was paid
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Gateway:
    """Answers proxies, and takes reports.

    `POST /report` has `Authorization: Bearer <report_secret>` and a JSON object: `account`, `group`
    and `request` as `/check` said them in `PoW-Account`, `PoW-Group` and `PoW-Request`, and
    `evidence`, one number at least 0 for each query. A request reported twice counts once.

    A solution is good for what the proxy describes: method, host, path and query, the headers that
    always count, the number of queries, and the body where the proxy sends it along.

    Parameters
    ----------
    gate : Gate
        Prices, challenges and redeems.
    account, group
        From the `Caller` to the name of who is charged, see `powfast.accounts`.
    newcomers : callable
        From the `Caller` to the name of the pool that it is in until its account has paid the
        opening.
    status : int
        Status of a challenge. nginx passes 401 and 403 only.
    bind : tuple of str
        Further headers that a solution is good for.
    queries_header : str, optional
        Where a proxy, and nobody else, says how many queries a request has; 1 without it.
    report_secret : str, optional
        What `/report` asks for; it does not exist without it.
    metrics : ASGI application, optional
        Answers at `/metrics`.
    max_body : int
        Bytes of a request that a proxy sends along, or of a report.

    Raises
    ------
    InvalidInput
        The secret has less than 16 characters.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        account: Resolver = bearer,
        group: Resolver = nobody,
        newcomers: Resolver = nobody,
        status: int = 401,
        bind: tuple[str, ...] = (),
        queries_header: str | None = None,
        report_secret: str | None = None,
        metrics: Any = None,
        max_body: int = 16 << 20,
    ) -> None:
        if report_secret is not None and len(report_secret) < 16:
            raise InvalidInput("report_secret has to have at least 16 characters")
        self._gate = gate
        self._account = account
        self._group = group
        self._newcomers = newcomers
        self._status = status
        self._queries_header = queries_header
        said = (queries_header,) if queries_header else ()
        names = ("x-forwarded-host", *said, *bind)
        self._bind = tuple([name.lower().encode("latin-1") for name in names])
        self._authorization = f"Bearer {report_secret}".encode()
        self._max_body = max_body
        self._metrics = metrics
        routes: list[Any] = [
            Route("/check", self._check_forwarded, methods=_METHODS),
            Route("/check{path:path}", self._check_original, methods=_METHODS),
            Route("/healthz", _healthy),
        ]
        if report_secret is not None:
            routes.append(Route("/report", self._report, methods=["POST"]))
        if metrics is not None:
            routes.append(Route("/metrics", self._scraped))
        self.app: Starlette = Starlette(routes=routes)
        """The ASGI application."""

    async def _check_forwarded(self, request: Request) -> Response:
        """Check the request that nginx, Traefik or Caddy describes in headers."""
        names = ("x-forwarded-method", "x-forwarded-uri")
        given = [value for name in names for value in request.headers.getlist(name)]
        if len(given) != 2 or not all(name in request.headers for name in names):
            error = InvalidInput(
                "/check is for proxies: they send X-Forwarded-Method and X-Forwarded-Uri, each"
                " once, or ask for /check followed by the path, with the request's own method"
            )
            return _response(refusal(error))
        method, target = given
        return await self._check(request, method, target.encode("latin-1"))

    async def _check_original(self, request: Request) -> Response:
        """Check the request that Envoy repeats below /check."""
        path: bytes = request.scope["raw_path"].partition(b"/check")[2]
        target = path + b"?" + request.scope["query_string"]
        return await self._check(request, request.method, target)

    async def _check(self, request: Request, method: str, target: bytes) -> Response:
        fields = fields_of(request.scope)
        try:
            body = await self._body(request)
            digest = request_digest(method, target, body, fields.get, self._bind)
            identity = self._identity(request, digest)
            queries = self._queries(request)
        except (BodyTooLarge, InvalidInput) as error:
            return _response(refusal(error))
        bill = Bill()

        async def admit() -> None:
            bill.advance(Event.CHARGE)
            await bill.charging([1.0] * queries)
            if bill.phase is Phase.COVERED:
                bill.advance(Event.ANSWER)

        solution = header_of(fields)(SOLUTION_HEADER)
        answer = await self._gate.serve(
            identity, bill, solution, admit, queries=queries, status=self._status
        )
        return _response(_admitted(identity, bill) if answer is None else answer)

    async def _report(self, request: Request) -> Response:
        given = fields_of(request.scope).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._authorization):
            refused = problem(401, "not-authorized", "Unauthorized", "reports need their secret")
            return _response(refused.with_headers((b"www-authenticate", b"Bearer")))
        try:
            await self._gate.report(*_reported(await self._body(request)))
        except (BodyTooLarge, InvalidInput, StoreUnavailable, TooManyQueries) as error:
            return _response(refusal(error))
        return Response(status_code=204)

    async def _scraped(self, request: Request) -> Any:
        return self._metrics  # an ASGI application answers as a response does

    def _identity(self, request: Request, digest: bytes) -> RequestIdentity:
        address = None if request.client is None else request.client.host
        caller = Caller(header_of(fields_of(request.scope)), address, request.scope)
        names = self._account(caller), self._group(caller)
        return RequestIdentity(*names, digest, newcomers=self._newcomers(caller))

    def _queries(self, request: Request) -> int:
        said = self._queries_header and header_of(fields_of(request.scope))(self._queries_header)
        if not said:
            return 1
        if not re.fullmatch(r"[1-9][0-9]{0,8}", said):
            raise InvalidInput(f"{self._queries_header} is a number of queries")
        return int(said)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._max_body:
                raise BodyTooLarge(f"the body has more than {self._max_body} bytes")
        return bytes(body)


def _admitted(identity: RequestIdentity, bill: Bill) -> Answer:
    """Let a request pass; what the model server needs for its report stands in headers."""
    own = bill.receipt if bill.has_own_receipt else None
    paid = os.urandom(16) if own is None else own.challenge_id
    said = {
        "pow-account": quote(identity.account, _PLAIN),
        "pow-group": quote(identity.group, _PLAIN),
        "pow-request": f"{paid.hex()}.{bill.work:.0f}",
    }
    return Answer(200, bytes_of(said.items()) + bill.receipt_headers, b"")


def _reported(body: bytes) -> tuple[RequestIdentity, Any, float]:
    """Return who asked, the evidence, and what was paid for it."""
    try:
        said = json.loads(body)
        account, group, request = said["account"], said.get("group", ""), said["request"]
        passed = _PASSED.fullmatch(request)
        if not account or passed is None:
            raise ValueError
        (account + group).encode()  # JSON can escape what no store can write
        identity = RequestIdentity(unquote(account), unquote(group), bytes.fromhex(passed[1]))
        return identity, said["evidence"], float(passed[2])
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise InvalidInput(
            'a report is {"account": text, "group": text, "request": text, "evidence": [numbers]},'
            " the first three as PoW-Account, PoW-Group and PoW-Request had them"
        ) from None


async def _healthy(request: Request) -> Response:
    """Say that this process answers; what the store does is not asked."""
    return PlainTextResponse("ok\n")


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(text_of(answer.headers)))


def from_environment() -> Starlette:
    """Make the application that `POWFAST_*`, or the file that `POWFAST_CONFIG` names, describes.

    `powfast serve` runs it; so does `uvicorn --factory powfast.servers.gateway:from_environment`.

    Raises
    ------
    InvalidInput
        Names every setting that is wrong.
    """
    settings = Settings.load()
    observer = settings.observer()
    listening = observer.observers if isinstance(observer, Several) else (observer,)
    return Gateway(
        settings.gate(asynchronous=True, observer=observer),
        account=settings.account,
        group=settings.group,
        newcomers=settings.newcomers,
        status=settings.check_status,
        bind=settings.bind,
        queries_header=settings.queries_header,
        report_secret=settings.report_secret,
        metrics=next(filter(None, (getattr(each, "asgi", None) for each in listening)), None),
        max_body=settings.max_body,
    ).app
