"""Puzzle and token again, from hashlib, hmac and struct alone: what the C code is held to.

`python tests/reference.py` writes tests/vectors/*.json anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import struct
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"
U64 = 2**64
EDGES = [
    edge + step for edge in (0, 2**24, 2**32, 2**40) for step in (-1, 0, 1) if edge + step >= 0
]
EDGES += [2**64 - 2**24, 2**64 - 2, 2**64 - 1]


def digest64(seed: bytes, part: int, nonce: int) -> int:
    message = seed + b"powfast/v1:" + struct.pack(">IQ", part, nonce)
    assert len(message) == 55
    return int.from_bytes(hashlib.sha256(message).digest()[:8], "big")


def target(work: int, parts: int) -> int:
    """T: a part is solved by a digest below it."""
    return U64 // -(-work // parts)


def is_solved(seed: bytes, work: int, nonces: list[int] | tuple[int, ...]) -> bool:
    limit = target(work, len(nonces))
    return all(digest64(seed, part, nonce) < limit for part, nonce in enumerate(nonces))


def search(seed: bytes, work: int, parts: int, part: int, first: int, count: int) -> int | None:
    limit = target(work, parts)
    nonces = range(first, min(first + count, U64))
    return next((n for n in nonces if digest64(seed, part, n) < limit), None)


def solve(seed: bytes, work: int, parts: int) -> list[int]:
    found = [search(seed, work, parts, part, 0, U64) for part in range(parts)]
    return [nonce for nonce in found if nonce is not None]


def token(
    secret: bytes,
    *,
    challenge_id: bytes,
    work: int,
    parts: int,
    issued_ms: int,
    expires_ms: int,
    key_id: bytes,
    account: bytes,
    group: bytes,
    request: bytes,
    algorithm: int = 1,
    tag: bytes = b"powfast/c1",
) -> bytes:
    body = tag + bytes([algorithm]) + challenge_id
    body += struct.pack(">QHQQ", work, parts, issued_ms, expires_ms)
    for field in (key_id, account, group, request):
        body += bytes([len(field)]) + field
    return body + hmac.new(secret, body, hashlib.sha256).digest()


def selftest_folds() -> tuple[int, int, int]:
    """The three constants of csrc/selftest.c."""

    def fold(total: int, value: int) -> int:
        return ((total << 1 | total >> 63) & (U64 - 1)) ^ value

    seed, digests, solutions = bytes(range(32)), 0, 0
    for part in range(67):
        digests = fold(digests, digest64(seed, part, part * 0x9E3779B97F4A7C15 % U64))
    for nonce in range(2**40 - 500, 2**40 + 500):
        if digest64(seed, 7, nonce) < target(64, 1):
            solutions = fold(solutions, nonce)
    message = hashlib.sha256(bytes(range(200))).digest()
    return digests, solutions, int.from_bytes(message[:8], "big")


def puzzle_vectors() -> dict[str, Any]:
    rng = random.Random(1)
    digests = [
        {"seed": (seed := rng.randbytes(32)).hex(), "part": part, "nonce": nonce,
         "digest64": digest64(seed, part, nonce)}
        for part in (0, 1, 15, 1023)
        for nonce in [*EDGES, rng.getrandbits(64)]
    ]  # fmt: skip
    targets = [
        {"work": work, "parts": parts, "target": str(target(work, parts))}
        for work in (1, 2, 3, 255, 256, 10**6 + 1, 2**32, 2**63, 2**63 + 1, 2**64 - 1)
        for parts in (1, 2, 16, 1024)
    ]
    solutions = []
    for work, parts in [(1, 1), (2, 2), (300, 1), (1000, 3), (4096, 16), (20000, 1), (5000, 40)]:
        seed = rng.randbytes(32)
        nonces = solve(seed, work, parts)
        solutions.append({"seed": seed.hex(), "work": work, "parts": parts, "first": nonces})
    folds = [f"{value:#x}" for value in selftest_folds()]
    return {"digests": digests, "targets": targets, "solutions": solutions, "selftest": folds}


def token_vectors() -> list[dict[str, Any]]:
    rng = random.Random(2)
    shapes: list[dict[str, Any]] = [
        {},
        {"account": b"alice", "request": rng.randbytes(32)},
        {"account": "Zoë".encode(), "group": b"2001:db8::/48", "work": 900, "parts": 3},
        {"account": b"a" * 255, "group": b"g" * 255, "request": b"r" * 255, "key_id": b"k" * 255},
    ]
    vectors = []
    for shape in shapes:
        secret = rng.randbytes(32 + len(vectors) * 40)
        fields = {
            "challenge_id": rng.randbytes(16), "work": 500, "parts": 2,
            "issued_ms": 1_700_000_000_123, "expires_ms": 1_700_000_120_123,
            "key_id": b"2026a", "account": b"", "group": b"", "request": b"",
        } | shape  # fmt: skip
        raw = token(secret, **fields)
        seed = hashlib.sha256(raw).digest()
        vectors.append(
            {name: v.hex() if isinstance(v, bytes) else v for name, v in fields.items()}
            | {"secret": secret.hex(), "token": raw.hex(), "seed": seed.hex()}
            | {"solution": solve(seed, fields["work"], fields["parts"])}
        )
    return vectors


def render() -> dict[str, str]:
    """File name to content."""
    content = {"puzzle.json": puzzle_vectors(), "token.json": token_vectors()}
    return {name: json.dumps(value, indent=1) + "\n" for name, value in content.items()}


if __name__ == "__main__":
    VECTORS.mkdir(exist_ok=True)
    for name, text in render().items():
        (VECTORS / name).write_text(text)
