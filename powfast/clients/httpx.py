"""`PowAuth` for httpx: `httpx.Client(auth=PowAuth())`, or `AsyncClient`."""

from __future__ import annotations

from powfast.clients.httpx_flow import HttpxFlow
from powfast.errors import MissingExtra

try:
    import httpx
except ImportError as _missing:
    raise MissingExtra(
        "powfast.clients.httpx needs httpx: pip install 'powfast[client]'"
    ) from _missing


class PowAuth(HttpxFlow, httpx.Auth):
    """Answers every proof-of-work challenge; other headers, an API key's included, stay as set."""
