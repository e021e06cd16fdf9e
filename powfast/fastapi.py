"""FastAPI: declare `pow: Charge` in an endpoint behind `PowMiddleware`."""

from __future__ import annotations

from typing import Annotated

from powfast.errors import MissingExtra

try:
    from fastapi import Depends, Request
except ImportError as error:
    raise MissingExtra("powfast.fastapi needs FastAPI: pip install 'powfast[server]'") from error

from powfast import asgi


def charge_of(request: Request) -> asgi.Charge:
    """Return the `Charge` that the middleware put into the request's scope."""
    try:
        charge: asgi.Charge = request.scope[asgi.CHARGE_KEY]
    except KeyError:
        raise RuntimeError(
            f"no PowMiddleware guards {request.url.path}: add it to the application"
        ) from None
    return charge


Charge = Annotated[asgi.Charge, Depends(charge_of)]
