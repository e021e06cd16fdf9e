"""The wire of DESIGN's exchange: what a challenge, a solution and a refusal look like in HTTP.

Servers and clients share it; it knows no framework and sends nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from powfast.challenge import (
    decode,
    solution_from_text,
    solution_to_text,
    token_from_text,
    token_to_text,
)
from powfast.errors import MalformedSolution, MalformedToken
from powfast.puzzle import Solution

SOLUTION_HEADER = "PoW-Solution"
RECEIPT_HEADER = "PoW-Receipt"
MAX_SOLUTION_HEADER = 16 * 1024

_CHALLENGE = re.compile(r'\bPoW +challenge="([A-Za-z0-9_-]+)"', re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """An HTTP response as data."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def with_header(self, name: str, value: str) -> Answer:
        """Return this answer with one more header."""
        return replace(self, headers=(*self.headers, (name, value)))


def request_digest(method: str, target: bytes, body: bytes) -> bytes:
    """SHA-256 over method, path with query, and body: what a challenge is bound to.

    Each field is preceded by its length, so that no two requests share a digest.
    """
    digest = hashlib.sha256()
    for field in (method.upper().encode("ascii", "replace"), target, body):
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return digest.digest()


def problem(status: int, code: str, title: str, detail: str, **more: Any) -> Answer:
    """Make an `application/problem+json` answer (RFC 9457) that no cache keeps."""
    document = {"type": f"urn:powfast:{code}", "title": title, "status": status, "detail": detail}
    return Answer(
        status,
        (("content-type", "application/problem+json"), ("cache-control", "no-store")),
        json.dumps({**document, **more}).encode(),
    )


def payment_required(token: bytes, detail: str, *, status: int = 402) -> Answer:
    """Ask for the work of a challenge.

    `x-should-retry: false` keeps SDKs from repeating the request without a solution.
    """
    challenge = decode(token)
    text = token_to_text(token)
    seconds = max(0, round(challenge.expires - challenge.issued))
    terms = {"challenge": text, "work": challenge.work, "parts": challenge.parts}
    answer = problem(
        status, "payment-required", "Proof of work required", detail, **terms, expires=seconds
    )
    parameters = ", ".join(f'{name}="{value}"' for name, value in terms.items())
    asking = f'PoW {parameters}, expires="{seconds}"'
    return answer.with_header("www-authenticate", asking).with_header("x-should-retry", "false")


def challenge_in(status: int, www_authenticate: str | None) -> bytes | None:
    """Return the token that a response asks to be solved, or `None`.

    Raises
    ------
    MalformedToken
        There is a PoW challenge, but it is not one.
    """
    if not 400 <= status < 500 or not www_authenticate:
        return None
    found = _CHALLENGE.search(www_authenticate)
    return token_from_text(found[1]) if found else None


def format_solution(token: bytes, solution: Solution) -> str:
    """Value of the `PoW-Solution` header."""
    return f"{token_to_text(token)}.{solution_to_text(solution)}"


def parse_solution(header: str) -> tuple[bytes, Solution]:
    """Read the `PoW-Solution` header.

    Raises
    ------
    MalformedToken, MalformedSolution
        The value is not "<token>.<nonces>" in base64url, or too long.
    """
    if len(header) > MAX_SOLUTION_HEADER:
        raise MalformedSolution(
            f"{SOLUTION_HEADER} has {len(header)} characters, at most {MAX_SOLUTION_HEADER}"
        )
    token, dot, nonces = header.partition(".")
    if not dot:
        raise MalformedToken(f"{SOLUTION_HEADER} has to be <token>.<nonces>")
    return token_from_text(token), solution_from_text(nonces)
