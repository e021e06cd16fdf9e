"""Latency and throughput of issuing and verifying, batches as ratios to bulk hashing.

    python benchmarks/verify.py [--rounds 15] [--json FILE]

Latencies are medians over rounds of the mean over a loop of calls, less the empty loop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import interleaved, report, seconds, warn_if_busy, write

from powfast import _capi, challenge, errors, puzzle

REQUEST = b"r" * 32
BATCH = 1 << 15
CHALLENGES = 4000


def latencies() -> dict[str, tuple[Callable[[], object], float]]:
    """Name to call and goal in nanoseconds."""
    issuer = challenge.Issuer({"2026a": b"s" * 32}, claim=lambda id_, expires: True)
    token = issuer.issue(work=2000, account="alice", request=REQUEST, parts=16)
    solution = challenge.solve(token)
    forged = token[:-1] + bytes([token[-1] ^ 1])
    now = time.time()
    native, verify_one = issuer._check, puzzle.native_kernel().verifier()
    bare = (now, "alice", REQUEST)
    bound = {"account": "alice", "request": REQUEST}

    ffi, lib = _capi.ffi, _capi.lib
    chosen = ffi.new("powfast_kernel **")
    lib.powfast_kernel_select(chosen, ffi.NULL, lib.powfast_cpu_features())
    task = ffi.new("powfast_puzzle *", {"work": 1, "parts": 1})
    kernel, nonces, one, seed = chosen[0], ffi.new("uint64_t[]", [5]), (5,), bytes(32)

    def refused(check: Callable[..., object], raw: bytes, *rest: object) -> None:
        try:  # noqa: SIM105 - contextlib.suppress takes as long as what is measured
            check(raw, solution, *rest)
        except errors.Refused:
            pass

    def bare_exception(*_: object) -> None:
        raise errors.MalformedToken("raised and caught, nothing else")

    return {
        "puzzle check, native module": (lambda: verify_one(seed, 1, 1, one), 160),
        "puzzle check, cffi": (lambda: lib.powfast_verify(kernel, task, nonces), 240),
        "Issuer.verify, 16 parts": (lambda: issuer.verify(token, solution, **bound), 4000),
        "Issuer.issue": (lambda: issuer.issue(work=2000, parts=16, **bound), 2500),
        "an exception alone": (lambda: refused(bare_exception, b""), float("nan")),
        "malformed token, native module": (lambda: refused(native, b"x", *bare), 300),
        "forged token, native module": (lambda: refused(native, forged, *bare), 1000),
        "malformed token, Issuer.check": (lambda: refused(issuer.check, b"x"), 300),
        "forged token, Issuer.check": (lambda: refused(issuer.check, forged), 1000),
    }


def nanoseconds(call: Callable[[], object], loops: int = 2000) -> float:
    def loop() -> None:
        for _ in range(loops):
            call()

    return seconds(loop) / loops * 1e9


def batch_rates() -> dict[str, Callable[[], float]]:
    """Name to a function that returns parts a second."""
    rng = np.random.default_rng(1)
    rates: dict[str, Callable[[], float]] = {}
    for parts in (1, 2, 4, 16, 64):
        count = BATCH // parts
        seeds = rng.integers(0, 256, (count, 32), np.uint8)
        works = np.full(count, parts, np.uint64)
        nonces = rng.integers(0, 2**64, (count, parts), np.uint64)
        tuples = [tuple(row) for row in nonces.tolist()]

        def rate(seeds=seeds, works=works, solutions=nonces) -> float:
            return BATCH / seconds(lambda: puzzle.verify_batch(seeds, works, solutions))

        rates[f"arrays, {parts} parts"] = rate
        rates[f"tuples, {parts} parts"] = lambda rate=rate, tuples=tuples: rate(solutions=tuples)
    return rates


def challenges_a_second() -> Callable[[], float]:
    keys = {"2026a": b"s" * 32}
    issuer = challenge.Issuer(keys)
    tokens = [
        issuer.issue(work=16, parts=16, account="alice", request=REQUEST) for _ in range(CHALLENGES)
    ]
    solutions = [challenge.solve(token, threads=1) for token in tokens]
    accounts, requests = ["alice"] * CHALLENGES, [REQUEST] * CHALLENGES

    def rate() -> float:
        fresh = challenge.Issuer(keys)  # that has redeemed nothing yet
        return CHALLENGES / seconds(
            lambda: fresh.verify_many(tokens, solutions, accounts=accounts, requests=requests)
        )

    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warn_if_busy()
    calls = latencies()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        empty = nanoseconds(lambda: None)
        for name, (call, _) in calls.items():
            samples[name].append(nanoseconds(call) - empty)
    rows = [
        {"name": name, "nanoseconds": statistics.median(taken), "goal": calls[name][1]}
        for name, taken in samples.items()
    ]
    print(f"{puzzle.active_kernel()}\n{'latency':34}{'ns':>8}{'goal':>8}")
    for row in rows:
        print(f"{row['name']:34}{row['nanoseconds']:8.0f}{row['goal']:8.0f}")
    many = challenges_a_second()
    rate = statistics.median(many() for _ in range(options.rounds))
    print(f"\nIssuer.verify_many, 16 parts: {rate:,.0f} challenges a second (goal 600,000)")
    batches = interleaved(batch_rates(), options.rounds)
    report("verify_batch, one thread (parts)", batches)
    write(options.json, {"latencies": rows, "verify_many": rate, "batches": batches})


if __name__ == "__main__":
    main()
