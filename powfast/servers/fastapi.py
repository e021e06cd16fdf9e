"""FastAPI: declare `pow: Charge` in an endpoint behind `PowMiddleware`."""

from __future__ import annotations

from typing import Annotated, Any

from powfast.errors import MissingExtra

try:
    from fastapi import Depends, Request
except ImportError as _missing:
    raise MissingExtra(
        "powfast.servers.fastapi needs FastAPI: pip install 'powfast[server]'"
    ) from _missing

from powfast.servers import asgi
from powfast.servers.charge import AsyncBill


def bill_of(request: Request) -> AsyncBill:
    """Return the bill that the middleware put into the request's scope."""
    return asgi.bill_of(request.scope)


Charge = Annotated[AsyncBill, Depends(bill_of)]

_MEMBERS: dict[str, Any] = {
    "type": {"type": "string", "const": "urn:powfast:payment-required"},
    "title": {"type": "string"},
    "status": {"type": "integer"},
    "detail": {"type": "string", "description": "What is asked for, or why it is asked again."},
    "challenge": {"type": "string", "description": "The token to solve, in base64url."},
    "work": {"type": "integer", "description": "Expected number of SHA-256 evaluations."},
    "parts": {"type": "integer", "description": "How many nonces a solution has."},
    "expires": {"type": "integer", "description": "Seconds from now that the challenge lives."},
}

PAYMENT_REQUIRED: dict[int | str, dict[str, Any]] = {
    402: {
        "description": "Proof of work required: solve the challenge, and send the same request "
        "again with the header PoW-Solution.",
        "headers": {
            "WWW-Authenticate": {
                "description": 'PoW challenge="<token>", work="...", parts="...", expires="..."',
                "schema": {"type": "string"},
            }
        },
        "content": {
            "application/problem+json": {
                "schema": {
                    "title": "Challenge",
                    "type": "object",
                    "properties": _MEMBERS,
                    "required": list(_MEMBERS),
                }
            }
        },
    }
}
"""What a guarded route answers before it is paid, for its OpenAPI schema: the argument `responses=`
of the application, a router or a route."""
