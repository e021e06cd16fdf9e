"""FastAPI: declare `pow: Charge` in an endpoint behind `PowMiddleware`."""

from __future__ import annotations

from typing import Annotated

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
