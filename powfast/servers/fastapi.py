"""FastAPI: declare `pow: Charge` in an endpoint behind `PowMiddleware`."""

from __future__ import annotations

from typing import Annotated

from powfast.errors import MissingExtra

try:
    from fastapi import Depends, Request
except ImportError as error:
    raise MissingExtra(
        "powfast.servers.fastapi needs FastAPI: pip install 'powfast[server]'"
    ) from error

from powfast.servers import asgi
from powfast.servers.charge import AsyncCharge


def charge_of(request: Request) -> AsyncCharge:
    """Return the charge that the middleware put into the request's scope."""
    return asgi.charge_of(request.scope)


Charge = Annotated[AsyncCharge, Depends(charge_of)]
