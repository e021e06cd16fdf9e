"""Puzzle and token again, from hashlib, hmac and struct alone: what the C code is held to.

`python tests/reference.py` writes tests/vectors/*.json anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"
U64 = 2**64
GOLDEN = 0x9E3779B97F4A7C15
EDGES = [
    edge + step for edge in (0, 2**24, 2**32, 2**40) for step in (-1, 0, 1) if edge + step >= 0
]
EDGES += [2**64 - 2**24, 2**64 - 2, 2**64 - 1]
CACHEWALK_EDGES = (0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1)
CACHEWALK_KNOWN = {  # part, nonce: digest, for the seed 00 01 .. 1f, as specified
    (0, 0): 0x608545191421D53F,
    (0, 1): 0xADD2FD42A7CE5824,
    (3, 2**24 + 5): 0xD8EF3E3097EE5F1E,
    (1023, 2**64 - 1): 0xD45AE0BDF76D411B,
}


def digest64(seed: bytes, part: int, nonce: int) -> int:
    message = seed + b"powfast/v1:" + struct.pack(">IQ", part, nonce)
    assert len(message) == 55
    return int.from_bytes(hashlib.sha256(message).digest()[:8], "big")


def rotl(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) % U64


def stir(u: list[int]) -> list[int]:
    return [(rotl(u[i], 32) + u[(i + 1) % 8]) % U64 for i in range(8)]


def big_endian(words: list[int]) -> bytes:
    return struct.pack(f">{len(words)}Q", *words)


def cachewalk(seed: bytes, part: int, nonce: int) -> dict[str, Any]:
    """Algorithm 2: the digest, and what stands in x and M on the way, big-endian."""
    h = hashlib.sha256(seed + b"powfast/v2:" + struct.pack(">IQ", part, nonce)).digest()
    x = list(struct.unpack(">8Q", h + hashlib.sha256(h).digest()))
    M: list[int] = []
    for r in range(4096):
        if r > 0 and r % 4 == 0:
            j = ((x[0] >> 32) * r) >> 32
            x = [x[i] ^ M[8 * j + i] for i in range(8)]
        x = stir([word * GOLDEN % U64 for word in x])
        M += x
    filled, filled_memory = big_endian(x), hashlib.sha256(big_endian(M))
    for s in range(2048):
        looked_up = [(x[i] ^ M[(x[i] >> 32) % 32768]) + M[x[i] % 32768] for i in range(8)]
        x = stir([word * GOLDEN % U64 for word in looked_up])
        for i in range(8):
            M[8 * s + i] ^= x[i]
    digest = hashlib.sha256(h + big_endian(x)).digest()
    return {
        "digest64": int.from_bytes(digest[:8], "big"),
        "filled": filled.hex(),
        "filled_memory": filled_memory.hexdigest(),
        "walked": big_endian(x).hex(),
        "walked_memory": hashlib.sha256(big_endian(M)).hexdigest(),
    }


def cachewalk64(seed: bytes, part: int, nonce: int) -> int:
    digest: int = cachewalk(seed, part, nonce)["digest64"]
    return digest


def target(work: int, parts: int) -> int:
    """T: a part is solved by a digest below it."""
    return U64 // -(-work // parts)


Digest = Callable[[bytes, int, int], int]


def is_solved(
    seed: bytes, work: int, nonces: list[int] | tuple[int, ...], digest: Digest = digest64
) -> bool:
    limit = target(work, len(nonces))
    return all(digest(seed, part, nonce) < limit for part, nonce in enumerate(nonces))


def search(
    seed: bytes, work: int, parts: int, part: int, first: int, count: int, digest: Digest = digest64
) -> int | None:
    limit = target(work, parts)
    nonces = range(first, min(first + count, U64))
    return next((n for n in nonces if digest(seed, part, n) < limit), None)


def solve(seed: bytes, work: int, parts: int, digest: Digest = digest64) -> list[int]:
    found = [search(seed, work, parts, part, 0, U64, digest) for part in range(parts)]
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


def fold(total: int, value: int) -> int:
    return ((total << 1 | total >> 63) & (U64 - 1)) ^ value


def selftest_folds() -> tuple[int, int, int]:
    """The constants of csrc/selftest.c, for algorithm 1."""
    seed, digests, solutions = bytes(range(32)), 0, 0
    for part in range(67):
        digests = fold(digests, digest64(seed, part, part * GOLDEN % U64))
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


def cachewalk_vectors() -> dict[str, Any]:
    rng, counting, walks = random.Random(4), bytes(range(32)), 0
    digests = [
        {"seed": seed.hex(), "part": part, "nonce": nonce} | cachewalk(seed, part, nonce)
        for seed, part, nonce in [
            *((counting, part, nonce) for part, nonce in CACHEWALK_KNOWN),
            *((rng.randbytes(32), part, nonce) for part in (0, 1023) for nonce in CACHEWALK_EDGES),
        ]
    ]
    solutions = []
    for work, parts in [(1, 1), (9, 3), (24, 1), (20, 4)]:
        seed = rng.randbytes(32)
        nonces = solve(seed, work, parts, cachewalk64)
        solutions.append({"seed": seed.hex(), "work": work, "parts": parts, "first": nonces})
    for i in range(4):
        walks = fold(walks, cachewalk64(counting, i, i * GOLDEN % U64))
    known = {"digests": digests, "solutions": solutions, "selftest": [f"{walks:#x}"]}
    return {"algorithm": 2, **known}


def token_vectors() -> list[dict[str, Any]]:
    rng = random.Random(2)
    shapes: list[dict[str, Any]] = [
        {},
        {"account": b"alice", "request": rng.randbytes(32)},
        {"account": "Zoë".encode(), "group": b"2001:db8::/48", "work": 900, "parts": 3},
        {"account": b"a" * 255, "group": b"g" * 255, "request": b"r" * 255, "key_id": b"k" * 255},
    ]
    return signed(rng, shapes, 1, digest64)


def walking_token_vectors() -> list[dict[str, Any]]:
    rng = random.Random(5)
    shapes: list[dict[str, Any]] = [
        {"work": 50, "parts": 1, "account": b"alice", "request": rng.randbytes(32)},
        {"work": 12, "parts": 3, "group": b"g"},
    ]
    return signed(rng, shapes, 2, cachewalk64)


def signed(
    rng: random.Random, shapes: list[dict[str, Any]], algorithm: int, digest: Digest
) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = []
    for shape in shapes:
        secret = rng.randbytes(32 + len(vectors) * 40)
        fields = {
            "challenge_id": rng.randbytes(16), "work": 500, "parts": 2,
            "issued_ms": 1_700_000_000_123, "expires_ms": 1_700_000_120_123,
            "key_id": b"2026a", "account": b"", "group": b"", "request": b"",
        } | shape  # fmt: skip
        raw = token(secret, algorithm=algorithm, **fields)
        seed = hashlib.sha256(raw).digest()
        vectors.append(
            {name: v.hex() if isinstance(v, bytes) else v for name, v in fields.items()}
            | {"secret": secret.hex(), "token": raw.hex(), "seed": seed.hex()}
            | {"solution": solve(seed, fields["work"], fields["parts"], digest)}
        )
    return vectors


def render() -> dict[str, str]:
    """File name to content."""
    content = {
        "puzzle.json": puzzle_vectors(),
        "cachewalk.json": cachewalk_vectors(),
        "token.json": token_vectors(),
        "walking-token.json": walking_token_vectors(),
    }
    return {name: json.dumps(value, indent=1) + "\n" for name, value in content.items()}


if __name__ == "__main__":
    VECTORS.mkdir(exist_ok=True)
    for name, text in render().items():
        (VECTORS / name).write_text(text)
