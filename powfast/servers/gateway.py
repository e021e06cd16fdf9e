"""The gate as a service of its own, which a proxy asks before it passes a request on.

So is a model server guarded that nobody can edit, in whatever language: nginx (auth_request),
Traefik and Caddy (forward auth) and Envoy (ext_authz) send the headers of every request to
`/check`, whose answer is 200, or the challenge. The model has not run then: a request is charged as
an ordinary one, at the account's present price. `/report` takes its evidence afterwards, and the
price of the account's next request follows.
"""

from __future__ import annotations

import copy
import hmac
import json
import os
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from powfast.accounts import Caller, Resolver, bearer, nobody
from powfast.errors import BodyTooLarge, InvalidInput, MissingExtra, StoreUnavailable
from powfast.gate import Asked, Bill, Gate
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
from powfast.servers.asgi import headers_of
from powfast.servers.settings import Settings

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtra(
        "powfast.servers.gateway needs Starlette: pip install 'powfast[server]'"
    ) from error

_PLAIN = "!#$&'()*+,/:;=?@[]~"  # what stands in a header as it is, beside letters and digits
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Gateway:
    """Answers proxies, and takes reports.

    `POST /report` has `Authorization: Bearer <report_secret>` and a JSON object: `account`, `group`
    and `request` as `/check` said them in `PoW-Account`, `PoW-Group` and `PoW-Request`, and
    `evidence`, one number at least 0 for each query. A request reported twice counts once.

    Parameters
    ----------
    gate : Gate
        Prices, challenges and redeems.
    account, group
        From the `Caller` to the name of who is charged, see `powfast.accounts`.
    status : int
        Status of a challenge. nginx passes 401 and 403 only.
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
        status: int = 401,
        queries_header: str | None = None,
        report_secret: str | None = None,
        metrics: Any = None,
        max_body: int = 16 << 20,
    ) -> None:
        if report_secret is not None and len(report_secret) < 16:
            raise InvalidInput("report_secret has to have at least 16 characters")
        self._gate = copy.copy(gate)
        self._gate.held = _NothingHeld()
        self._account = account
        self._group = group
        self._status = status
        self._queries_header = queries_header
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
        self.app = Starlette(routes=routes)
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
        try:
            asked = self._asked(request, request_digest(method, target, await self._body(request)))
            evidence = [1.0] * self._queries(request)
        except (BodyTooLarge, InvalidInput) as error:
            return _response(refusal(error))
        bill = Bill(self._gate, asked)
        solution = request.headers.get(SOLUTION_HEADER)
        pricing = partial(self._price, bill, evidence)
        answer = await self._gate.serve(bill, solution, pricing, status=self._status)
        return _response(_admitted(bill) if answer is None else answer)

    async def _price(self, bill: Bill, evidence: list[float]) -> None:
        """Charge what is not paid: each time anew, for the proxy may have kept a body to itself."""
        if not bill.settled:
            once = replace(bill.asked, digest=os.urandom(32))
            bill.owe(await self._gate.charge(once, evidence))

    async def _report(self, request: Request) -> Response:
        given = (headers_of(request.scope)("authorization") or "").encode("latin-1")
        if not hmac.compare_digest(given, self._authorization):
            refused = problem(401, "not-authorized", "Unauthorized", "reports need their secret")
            return _response(refused.with_headers((b"www-authenticate", b"Bearer")))
        try:
            asked, evidence = _reported(await self._body(request))
            await self._gate.charge(asked, evidence)
        except (BodyTooLarge, InvalidInput, StoreUnavailable) as error:
            return _response(refusal(error))
        return Response(status_code=204)

    async def _scraped(self, request: Request) -> Any:
        return self._metrics  # an ASGI application answers as a response does

    def _asked(self, request: Request, digest: bytes) -> Asked:
        address = None if request.client is None else request.client.host
        caller = Caller(headers_of(request.scope), address, request.scope)
        return Asked(self._account(caller), self._group(caller), digest)

    def _queries(self, request: Request) -> int:
        said = self._queries_header and headers_of(request.scope)(self._queries_header)
        if not said:
            return 1
        if not (said.isascii() and said.isdecimal() and 0 < int(said[:7]) <= 100_000):
            raise InvalidInput(f"{self._queries_header} is a number of queries, 1 .. 100000")
        return int(said)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._max_body:
                raise BodyTooLarge(f"the body has more than {self._max_body} bytes")
        return bytes(body)


class _NothingHeld:
    """No answers wait here: the model runs when it is paid."""

    max_answer = 0

    def reserve(self, account: str, digest: bytes) -> int:
        return 0

    def fill(self, *filling: Any) -> None:
        pass

    def release(self, account: str, digest: bytes) -> None:
        pass


def _admitted(bill: Bill) -> Answer:
    """Let a request pass; what the model server needs for its report stands in headers."""
    paid = os.urandom(16) if bill.receipt is None else bill.receipt.challenge_id
    said = {
        "pow-account": quote(bill.asked.account, _PLAIN),
        "pow-group": quote(bill.asked.group, _PLAIN),
        "pow-request": paid.hex(),
    }
    return Answer(200, bytes_of(said.items()) + bill.receipt_headers, b"")


def _reported(body: bytes) -> tuple[Asked, Any]:
    try:
        said = json.loads(body)
        account, group, request = said["account"], said.get("group", ""), said["request"]
        if not account or not isinstance(request, str) or not 1 <= len(request) <= 64:
            raise ValueError
        (account + group).encode()  # JSON can escape what no store can write
        asked = Asked(unquote(account), unquote(group), b"report:" + request.encode())
        return asked, said["evidence"]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise InvalidInput(
            'a report is {"account": text, "group": text, "request": text, "evidence": [numbers]}'
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
        status=settings.check_status,
        queries_header=settings.queries_header,
        report_secret=settings.report_secret,
        metrics=next((each.asgi for each in listening if hasattr(each, "asgi")), None),
        max_body=settings.max_body,
    ).app
