"""The exchange on the wire: what a challenge, a solution and a refusal look like in HTTP.

Servers and clients share it; it knows no framework and sends nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

from powfast.challenge import (
    decode_fields,
    solution_from_text,
    solution_to_text,
    token_from_text,
    token_to_text,
)
from powfast.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidInput,
    MalformedSolution,
    MalformedToken,
    PowfastError,
    PriceTooHigh,
    RequestInProgress,
    StoreUnavailable,
    TooManyQueries,
    UncountedQueries,
)
from powfast.kernel import sha256_of_fields
from powfast.puzzle import Algorithm, Solution

SOLUTION_HEADER = "PoW-Solution"
RECEIPT_HEADER = "PoW-Receipt"
CHALLENGE_HEADER = "PoW-Challenge"
"""Where an answer brings a challenge that is solved ahead, for any later request."""
MAX_SOLUTION_HEADER = 16 * 1024

_REFUSALS: dict[type[PowfastError], tuple[int, str]] = {
    InvalidInput: (400, "Bad Request"),
    PriceTooHigh: (403, "Forbidden"),
    BodyTooSlow: (408, "Request Timeout"),
    RequestInProgress: (409, "Conflict"),
    BodyTooLarge: (413, "Content Too Large"),
    TooManyQueries: (413, "Content Too Large"),
    UncountedQueries: (413, "Content Too Large"),
    StoreUnavailable: (503, "Service Unavailable"),
}

_CHALLENGE = re.compile(r'\bPoW +challenge="([A-Za-z0-9_-]+)"', re.IGNORECASE)

_SINCE = {Algorithm.CACHEWALK: "0.1.0 and later"}

_SLASHES = re.compile("/{2,}")

Headers = tuple[tuple[bytes, bytes], ...]
"""As they stand on the wire, where names in lower case serve every version of HTTP."""


Field = Callable[[bytes], bytes | None]
"""From the name of a header, in lower case, to its value on the wire; `None` without it."""


class Answer(NamedTuple):
    """An HTTP response as data."""

    status: int
    headers: Headers
    body: bytes

    def with_headers(self, *headers: tuple[bytes, bytes]) -> Answer:
        """Return this answer with more headers."""
        return Answer(self.status, self.headers + headers, self.body) if headers else self


class Exchange(NamedTuple):
    """A request and its answer, for whoever prices the answers of an endpoint it cannot change.

    `response` is empty where the answer is larger than what can be held. Before there is an answer
    `status` is 0.
    """

    method: str
    target: bytes
    request: bytes
    status: int
    response: bytes


def pricing(
    evidence: Callable[[Exchange], Any] | None, method: str, target: bytes, body: bytes
) -> Callable[[Answer], Any] | None:
    """Return what prices the answer of this request, where the operator gave such a function."""
    if evidence is None:
        return None
    return lambda answer: evidence(Exchange(method, target, body, answer.status, answer.body))


def counted(
    queries: Callable[[Exchange], int] | None, method: str, target: bytes, body: bytes
) -> int | None:
    """Return how many queries a request has; `None` where nobody says, or where it cannot be read.

    What is wrong with it is for the endpoint to say.

    Raises
    ------
    InvalidInput
        The operator's function says so.
    """
    if queries is None:
        return None
    try:
        found = queries(Exchange(method, target, body, 0, b""))
    except InvalidInput:
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
    return max(1, index(found))


def guards(prefixes: tuple[str, ...], path: str, root: str = "") -> bool:
    """Return whether a path, as any framework may route it, begins with one of the prefixes.

    An application that is mounted below `root` knows its paths without it; to some, two slashes
    are one, and a path ends with or without its own.
    """
    if path.startswith(prefixes):
        return True
    plain = _SLASHES.sub("/", f"/{path}/")
    inside = plain.removeprefix(_SLASHES.sub("/", f"/{root}/")[:-1])
    return plain.startswith(prefixes) or inside.startswith(prefixes)


def request_digest(
    method: str, target: bytes, body: bytes, field: Field, bind: Sequence[bytes] = ()
) -> bytes:
    """SHA-256 over what a challenge is bound to.

    That is method, authority, path with query, body, Content-Type, Content-Encoding, and the
    headers that `bind` names, in lower case.
    """
    verb = method.upper().encode("ascii", "replace")
    said = [_marked(field(name)) for name in (*_BOUND, *bind)]
    return sha256_of_fields(verb, target, body, *said)


_BOUND = (b"host", b"content-type", b"content-encoding")


def credentials_digest(field: Field) -> bytes:
    """SHA-256 over Authorization and Cookie, without which nobody reads a held answer.

    They are no part of the request's digest: balancers and sessions change cookies, and clients
    renew tokens, between a challenge and its solution.
    """
    return sha256_of_fields(_marked(field(b"authorization")), _marked(field(b"cookie")))


def _marked(value: bytes | None) -> bytes:
    """Tell an empty header from none."""
    return b"" if value is None else b"=" + value


def problem(
    status: int, code: str, title: str, detail: str, headers: Headers = (), more: bytes = b""
) -> Answer:
    """Make an `application/problem+json` answer (RFC 9457) that no cache keeps.

    `more` is JSON as well: further members, each after a comma.
    """
    body = b"{%b%b}" % (_members(status, code, title, detail), more)
    own = (
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    )
    return Answer(status, own + headers, body)


@lru_cache(256)
def _members(status: int, code: str, title: str, detail: str) -> bytes:
    """Members of every problem; kept, for most requests are told one of a few."""
    members = {"type": f"urn:powfast:{code}", "title": title, "status": status, "detail": detail}
    return json.dumps(members)[1:-1].encode()


Refusal = (
    InvalidInput
    | PriceTooHigh
    | BodyTooSlow
    | RequestInProgress
    | BodyTooLarge
    | TooManyQueries
    | StoreUnavailable
)


def refusal(error: Refusal) -> Answer:
    """Say why a request is not served at all; of a store, nothing but that it is away."""
    status, title = _REFUSALS[type(error)]
    away = isinstance(error, StoreUnavailable)
    detail = "the server cannot price requests at the moment: try again" if away else str(error)
    answer = problem(status, error.code, title, detail)
    if isinstance(error, RequestInProgress | StoreUnavailable):
        return answer.with_headers((b"retry-after", b"%d" % math.ceil(error.retry_after)))
    return answer


def payment_required(token: bytes, detail: str, status: int = 402) -> Answer:
    """Ask for the work of a challenge, whose token an issuer made.

    `x-should-retry: false` keeps SDKs from repeating the request without a solution.
    """
    text, work, parts, seconds, algorithm = _terms(token)
    asked = _ASKED % (text, work, parts, seconds)
    more = f', "challenge": "{text}", "work": {work}, "parts": {parts}, "expires": {seconds}'
    if algorithm != Algorithm.SHA256:
        asked += f', algorithm="{algorithm}"'
        more += f', "algorithm": {algorithm}'
        since = _SINCE[Algorithm(algorithm)]
        detail += f" (algorithm {algorithm}, which powfast {since} can solve)"
    headers = ((b"www-authenticate", asked.encode()), (b"x-should-retry", b"false"))
    title = "Proof of work required"
    return problem(status, "payment-required", title, detail, headers, more.encode())


def prepaid_header(token: bytes) -> tuple[bytes, bytes]:
    """Bring a challenge that is solved ahead: its work is credit for any later request."""
    return _CHALLENGE_NAME, (_ASKED % _terms(token)[:4]).encode()


def receipt_header(work: int, balance: float | None = None) -> tuple[bytes, bytes]:
    """Say what work came with a request, and what credit its account has left."""
    if balance is None:
        return _RECEIPT_NAME, b"work=%d" % work
    return _RECEIPT_NAME, b"work=%d, balance=%d" % (work, balance)


_CHALLENGE_NAME, _RECEIPT_NAME = (
    name.lower().encode() for name in (CHALLENGE_HEADER, RECEIPT_HEADER)
)
_ASKED = 'PoW challenge="%s", work="%d", parts="%d", expires="%d"'


def _terms(token: bytes) -> tuple[str, int, int, int, int]:
    """Return what a challenge says to people: text, work, parts, seconds to live, algorithm."""
    (_, _, work, parts, _, _, _, issued, expires, algorithm), _ = decode_fields(token)
    return token_to_text(token), work, parts, int(expires - issued + 0.5), algorithm


def text_of(headers: Headers) -> list[tuple[str, str]]:
    """Return headers as text, for servers whose interface has them so."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def bytes_of(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return headers that a server's interface has as text."""
    return tuple(
        [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    )


def challenge_in(status: int, www_authenticate: str | None) -> bytes | None:
    """Return the token that a response asks to be solved, or `None`.

    Raises
    ------
    MalformedToken
        There is a PoW challenge, but it is not one.
    """
    if not 400 <= status < 500 or not www_authenticate:
        return None
    found = _CHALLENGE.search(www_authenticate)
    return token_from_text(found[1]) if found else None


def surcharge_in(status: int, www_authenticate: str | None, receipt: str | None) -> bytes | None:
    """Return the token that the answer to a paid request asks to be solved as well, or `None`.

    A receipt beside a challenge says that the solution was redeemed, and that the answer, which is
    held, has come to more than was asked for before it ran. Without one, the solution was refused.

    Raises
    ------
    MalformedToken
        There is a PoW challenge, but it is not one.
    """
    return None if receipt is None else challenge_in(status, www_authenticate)


def format_solution(token: bytes, solution: Solution) -> str:
    """Value of the `PoW-Solution` header."""
    return f"{token_to_text(token)}.{solution_to_text(solution)}"


def parse_solution(header: str) -> tuple[bytes, Solution]:
    """Read the `PoW-Solution` header.

    Raises
    ------
    MalformedToken, MalformedSolution
        The value is not "<token>.<nonces>" in base64url, or too long.
    """
    if len(header) > MAX_SOLUTION_HEADER:
        raise MalformedSolution(
            f"{SOLUTION_HEADER} has {len(header)} characters, at most {MAX_SOLUTION_HEADER}"
        )
    token, dot, nonces = header.partition(".")
    if not dot:
        raise MalformedToken(f"{SOLUTION_HEADER} has to be <token>.<nonces>")
    return token_from_text(token), solution_from_text(nonces)
