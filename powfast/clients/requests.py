"""`PowAuth` for requests: `session.auth = PowAuth()`, or `requests.post(url, auth=PowAuth())`."""

from __future__ import annotations

from typing import Any

from powfast.clients.flow import MOST_CHALLENGES, Payer
from powfast.clients.prepaid import Peer, peer_of
from powfast.errors import BodyNotReplayable, MissingExtra
from powfast.http import RECEIPT_HEADER, SOLUTION_HEADER, challenge_in, surcharge_in

try:
    from requests.auth import AuthBase
    from requests.cookies import extract_cookies_to_jar
    from requests.exceptions import UnrewindableBodyError
    from requests.models import PreparedRequest, Response
    from requests.utils import rewind_body
except ImportError as _missing:
    raise MissingExtra(
        "powfast.clients.requests needs requests: pip install 'powfast[client]'"
    ) from _missing


class PowAuth(Payer, AuthBase):
    """Answers the proof-of-work challenge of a request; other headers, an API key's included, stay.

    It pays one, and one more where the answer has come to more than the first. A request that is
    redirected is still one request. A streamed body is sent again from where it
    began; one that cannot seek raises `BodyNotReplayable` when a challenge comes, before anything
    is solved.
    """

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Watch the responses to this request for a challenge."""
        watch = _Watch(self, request)
        request.register_hook("response", watch)  # type: ignore[no-untyped-call]
        solution = self.begin(peer_of(request))
        if solution is not None:
            request.headers[SOLUTION_HEADER] = solution
        return request


class _Watch:
    """The hook of one request; its redirects are copies of it that share its hooks."""

    def __init__(self, payer: Payer, request: PreparedRequest) -> None:
        self._payer = payer
        self._headers = request.headers  # its own: copies have copies
        self._paid = False

    def __call__(self, response: Response, **options: Any) -> Response:
        """Pay where asked to, and return the response to the paid request."""
        peer = peer_of(response.request)
        self._payer.hear(peer, response.headers)
        if response.request.headers is self._headers:
            self._paid = False  # sent by its owner, perhaps once more
            self._headers.pop(SOLUTION_HEADER, None)  # solved ahead: no redirect carries it
        token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
        if self._paid or SOLUTION_HEADER in response.request.headers:
            return response
        for _ in range(MOST_CHALLENGES):
            if token is None:
                break
            response = self._pay(response, token, peer, options)
            headers = response.headers
            asked, receipt = headers.get("www-authenticate"), headers.get(RECEIPT_HEADER)
            token = surcharge_in(response.status_code, asked, receipt)
        return response

    def _pay(self, response: Response, token: bytes, peer: Peer, options: Any) -> Response:
        """Send the request of a response again, with the solution of a token."""
        _ = response.content  # read to its end, the connection is free for the next request
        response.close()
        request: Any = response.request.copy()
        _rewind(request)
        request.headers[SOLUTION_HEADER] = self._payer.pay(token, None, peer)
        self._paid = True
        jar: Any = request._cookies  # a balancer may have asked to come back to the same server
        extract_cookies_to_jar(jar, response.request, response.raw)  # type: ignore[no-untyped-call]
        request.prepare_cookies(jar)
        paid: Response = response.connection.send(request, **options)
        paid.history.append(response)
        self._payer.hear(peer, paid.headers)
        return paid


def _rewind(request: Any) -> None:
    if request.body is None or isinstance(request.body, str | bytes):
        return
    try:
        rewind_body(request)
    except UnrewindableBodyError as error:
        raise BodyNotReplayable(
            "the body was streamed and cannot seek, but has to be sent again with the solution:"
            " pass bytes or a file"
        ) from error
