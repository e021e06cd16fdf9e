"""Latency and throughput of issuing and verifying, batches as ratios to bulk hashing.

    python benchmarks/verify.py [--rounds 15] [--json FILE]

Latencies are medians over rounds of the mean over a loop of calls, less the empty loop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from measure import interleaved, report, seconds, warn_if_busy, write

from powfast import _capi, challenge, errors, puzzle
from powfast.kernel import active_kernel, native_kernel

REQUEST = b"r" * 32
BATCH = 1 << 15  # parts
BATCHES = 8  # in a row, for about as long as the bulk hashing beside them takes
CHALLENGES = 4000


def latencies() -> dict[str, tuple[Callable[[], object], float | None]]:
    """Name to call and goal in nanoseconds; what is refused includes an exception, where raised."""
    issuer = challenge.Issuer({"2026a": b"s" * 32}, claim=lambda id_, expires: True)
    token = issuer.issue(work=2000, account="alice", request=REQUEST, parts=16)
    solution = challenge.solve(token)
    forged = token[:-1] + bytes([token[-1] ^ 1])
    native, verify_one = issuer._check, native_kernel().verifier()
    bare = (solution, time.time(), "alice", REQUEST)
    bound = {"account": "alice", "request": REQUEST}

    ffi, lib = _capi.ffi, _capi.lib
    chosen = ffi.new("powfast_kernel **")
    lib.powfast_kernel_select(chosen, ffi.NULL, lib.powfast_cpu_features())
    task = ffi.new("powfast_puzzle *", {"work": 1, "parts": 1})
    kernel, nonces, one, seed = chosen[0], ffi.new("uint64_t[]", [5]), (5,), bytes(32)

    def exception() -> None:
        raise errors.MalformedToken("raised and caught, nothing else")

    return {
        "puzzle check, native module": (partial(verify_one, seed, 1, 1, one), 160),
        "puzzle check, cffi": (partial(lib.powfast_verify, kernel, task, nonces), 240),
        "Issuer.redeem, 16 parts": (partial(issuer.redeem, token, solution, **bound), 4000),
        "Issuer.issue": (partial(issuer.issue, work=2000, parts=16, **bound), 2500),
        "an exception alone": (exception, None),
        "malformed token, native module": (partial(native, b"x", *bare), 300),
        "forged token, native module": (partial(native, forged, *bare), 1000),
        "malformed token, Issuer.check": (partial(issuer.check, b"x", solution, **bound), None),
        "forged token, Issuer.check": (partial(issuer.check, forged, solution, **bound), 1000),
    }


def nanoseconds(call: Callable[[], object], loops: int = 2000) -> float:
    def loop() -> None:
        for _ in range(loops):
            try:  # noqa: SIM105 - contextlib.suppress takes as long as what is measured
                call()
            except errors.Refused:
                pass

    return seconds(loop) / loops * 1e9


def refused_by_code(raw: bytes) -> float:
    """Nanoseconds a token that `redeem_many` refuses, without any exception."""
    issuer = challenge.Issuer({"2026a": b"s" * 32})
    count = 1000
    tokens, solutions = [raw] * count, [(1,)] * count
    return seconds(lambda: issuer.redeem_many(tokens, solutions)) / count * 1e9


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
            def verify_all() -> None:
                for _ in range(BATCHES):
                    puzzle.verify_batch(seeds, works, solutions)

            return BATCHES * BATCH / seconds(verify_all)

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
            lambda: fresh.redeem_many(tokens, solutions, accounts=accounts, requests=requests)
        )

    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warn_if_busy()
    calls = latencies()
    token = challenge.Issuer({"2026a": b"t" * 32}).issue(work=2000)  # of another key
    by_code = {"malformed token, a code of redeem_many": (b"x", 300)}
    by_code["forged token, a code of redeem_many"] = (token, 1000)
    samples: dict[str, list[float]] = {name: [] for name in [*calls, *by_code]}
    for _ in range(options.rounds):
        empty = nanoseconds(partial(bool))
        for name, (call, _) in calls.items():
            samples[name].append(nanoseconds(call) - empty)
        for name, (raw, _) in by_code.items():
            samples[name].append(refused_by_code(raw))
    goals = {name: goal for name, (_, goal) in [*calls.items(), *by_code.items()]}
    rows = [
        {"name": name, "nanoseconds": statistics.median(taken), "goal": goals[name]}
        for name, taken in samples.items()
    ]
    print(f"{active_kernel()}\n{'latency':40}{'ns':>8}{'goal':>8}")
    for row in rows:
        print(f"{row['name']:40}{row['nanoseconds']:8.0f}{row['goal'] or '':>8}")
    many = challenges_a_second()
    rate = statistics.median(many() for _ in range(options.rounds))
    print(f"\nIssuer.redeem_many, 16 parts: {rate:,.0f} challenges a second (goal 600,000)")
    batches = interleaved(batch_rates(), options.rounds)
    report("verify_batch, one thread (parts)", batches)
    write(options.json, {"latencies": rows, "redeem_many": rate, "batches": batches})


if __name__ == "__main__":
    main()
