"""The JSON document of a tariff: versioned, strict, the same text for the same content."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from powfast.errors import InvalidInput

_HEADER = {"format": "powfast-tariff", "version": 1}


def write(content: dict[str, Any]) -> str:
    """`content` under the document's header."""
    return json.dumps({**_HEADER, **content}, indent=2, allow_nan=False) + "\n"


def read(text: str | bytes) -> dict[str, Any]:
    """Return the content below a valid header.

    Raises
    ------
    InvalidInput
        If the text is no JSON object, repeats a key, holds NaN or infinity, or has another header.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"not a tariff document: {error}") from None
    if not isinstance(content, dict):
        raise InvalidInput("not a tariff document: a JSON object is expected")
    for key, expected in _HEADER.items():
        if (found := content.pop(key, None)) != expected:
            raise InvalidInput(f"not a tariff document: {key} is {found!r}, not {expected!r}")
    return content


def only(content: Any, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """`content` if it is an object with exactly these keys."""
    required = set(required)
    if not isinstance(content, dict):
        raise InvalidInput(f"a JSON object with {sorted(required)} is expected")
    if missing := required - content.keys():
        raise InvalidInput(f"tariff document lacks {sorted(missing)}")
    if unknown := content.keys() - required - set(optional):
        raise InvalidInput(f"tariff document has unknown keys {sorted(unknown)}")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is repeated")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")
