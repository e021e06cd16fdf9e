"""Who is charged: from what a server knows of its caller to the name of an account or a group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from powfast.http import account_of


@dataclass(frozen=True)
class Caller:
    """Who asks, in the same terms for every server.

    Attributes
    ----------
    header : callable
        From a header's name to its value, repeated ones joined by a comma; `None` without it.
    address : str or None
        Where the connection comes from, as the server sees it: a proxy's, where there is one.
    source
        What the server itself passes on: the ASGI scope, the WSGI environment, the gRPC context.
    """

    header: Callable[[str], str | None]
    address: str | None
    source: Any


def bearer(caller: Caller) -> str:
    """Name the account after a hash of its `Authorization` header; without it, "anonymous"."""
    return account_of(caller.header("authorization"))


def nobody(caller: Caller) -> str:
    """Name no group."""
    return ""
