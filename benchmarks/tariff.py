"""How fast the evidence tariff prices queries, on one core, against peers in the same run.

    python benchmarks/tariff.py [--queries 5000000] [--json]

Peers: the same recursion as plain Python, and NumPy filling an array of the same size with one
exponential per query, as a yardstick of the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from powfast.stores import MemoryLedger
from powfast.tariff import LAMBDAS, EvidenceTariff

ROUNDS = 7
DIGEST = bytes(32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=5_000_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    evidence = np.random.default_rng(0).exponential(0.7, arguments.queries)
    few, one = evidence[: len(evidence) // 100], evidence[:1]
    tariff = EvidenceTariff(1e5)
    _, state = tariff.work(few)
    ledger, request = MemoryLedger(tariff), one.tolist()
    contenders: dict[str, tuple[Callable[[], object], int]] = {
        "batches": (lambda: tariff.work(evidence), len(evidence)),
        "batches, plain Python": (lambda: plain(tariff, few.tolist()), len(few)),
        "one query a call": (lambda: [tariff.work(one, state) for _ in range(10_000)], 10_000),
        "one query of a ledger": (
            lambda: [ledger.charge("x", "", DIGEST, DIGEST[:16], request) for _ in range(10_000)],
            10_000,
        ),
        "numpy.exp": (lambda: np.exp(evidence), len(evidence)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):  # interleaved, so that a busy moment hits everybody
        for name, (run, queries) in contenders.items():
            started = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - started) / queries)
    yardstick = statistics.median(seconds["numpy.exp"])
    rows = [
        {
            "name": name,
            "queries_per_second": 1 / statistics.median(times),
            "spread": max(times) / min(times),
            "times_numpy_exp": statistics.median(times) / yardstick,
        }
        for name, times in seconds.items()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'':24}{'queries/s':>14}{'max/min':>9}{'x numpy.exp':>13}")
    for row in rows:
        print(
            f"{row['name']:24}{row['queries_per_second']:>14,.0f}{row['spread']:>9.2f}"
            f"{row['times_numpy_exp']:>13.1f}"
        )


def plain(tariff: EvidenceTariff, evidence: list[float]) -> float:
    """Return what a new account owes for these queries."""
    wealth, owed = [0.0] * len(LAMBDAS), tariff.opening_work
    for n, e in enumerate(evidence, 1):
        restart = 1.0 / (n * (n + 1.0))
        for k, bet in enumerate(LAMBDAS):
            wealth[k] = (wealth[k] + restart) * (1.0 + bet * (e - 1.0))
        owed += min(tariff.base_work * max(sum(wealth) / len(wealth), 1.0), tariff.max_work)
    return owed


if __name__ == "__main__":
    main()
