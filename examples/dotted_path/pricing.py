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
        return [1.0] * max(1, prompts(asked) * int(float(asked.get("n") or 1)))
    except (ValueError, TypeError, AttributeError, OverflowError):  # another kind of body
        return [1.0]


def prompts(asked: dict[str, Any]) -> int:
    """Count the prompts, or conversations, of a request that may carry several.

    A server ignores the fields that it does not know: the longest one counts.
    """
    lists = [asked.get(name) for name in ("prompt", "input", "messages")]
    return max(
        len(given) if isinstance(given, list) and given and isinstance(given[0], str | list) else 1
        for given in lists
    )
