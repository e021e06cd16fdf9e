"""What an answer of the server reveals: `POWFAST_EVIDENCE=pricing:evidence`."""

from __future__ import annotations

import json
from typing import Any

from powfast.http import Exchange


def evidence(exchange: Exchange) -> list[float]:
    """Count a request as so many ordinary queries as it asks for answers.

    Failures, and what asks the model nothing, such as the list of models, are free.
    """
    if exchange.status >= 400 or exchange.method != "POST":
        return []
    try:
        asked = json.loads(exchange.request)
        return [1.0] * (prompts(asked) * int(asked.get("n") or 1))
    except (ValueError, TypeError, AttributeError):  # another kind of body: still an answer
        return [1.0]


def prompts(asked: dict[str, Any]) -> int:
    """Count the prompts, or conversations, of a request that may carry several."""
    for name in ("prompt", "input", "messages"):
        given = asked.get(name)
        if isinstance(given, list) and given and isinstance(given[0], str | list):
            return len(given)
    return 1
