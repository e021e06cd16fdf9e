"""What an answer of the server reveals: `POWFAST_EVIDENCE=pricing:evidence`."""

from __future__ import annotations

import json

from powfast.http import Exchange


def evidence(exchange: Exchange) -> list[float]:
    """Count a request as so many ordinary queries as it asks for choices; failures are free."""
    if exchange.status >= 400:
        return []
    return [1.0] * json.loads(exchange.request).get("n", 1)
