"""What the kernel benchmarks share: interleaved rounds, ratios to bulk hashing, the table."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BULK_PIECE = bytes(range(256)) * 4096  # stays in a cache: what is measured is hashing, not memory
BULK_PIECES = 16

Row = dict[str, Any]


def need(*programs: str, packages: tuple[str, ...] = ()) -> None:
    """End before anything is measured where something to measure with or against is missing."""
    missing = [f"the program {name}" for name in programs if shutil.which(name) is None]
    missing += [f"PyPI's {name}" for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"this benchmark needs {', '.join(missing)}")


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def bulk_rate() -> float:
    """Blocks of 64 bytes a second of OpenSSL's SHA-256 over 16 MiB."""
    digest = hashlib.sha256()

    def hash_all() -> None:
        for _ in range(BULK_PIECES):
            digest.update(BULK_PIECE)

    return BULK_PIECES * len(BULK_PIECE) / 64 / seconds(hash_all)


def interleaved(rates: dict[str, Callable[[], float]], rounds: int) -> list[Row]:
    """Measure all in turn, `rounds` times, each beside bulk hashing; medians and quartiles."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in rates}
    for _ in range(rounds):
        for name, rate in rates.items():
            bulk = bulk_rate()
            samples[name].append((rate(), (bulk + bulk_rate()) / 2))
    rows = []
    for name, pairs in samples.items():
        low, median, high = statistics.quantiles([rate / bulk for rate, bulk in pairs], n=4)
        rate = statistics.median(rate for rate, _ in pairs)
        rows.append({"name": name, "rate": rate, "ratio": median, "quartiles": [low, high]})
    return rows


def report(title: str, rows: list[Row]) -> None:
    print(f"\n{title}\n{'':34}{'million/s':>10}{'x bulk':>8}   quartiles")
    for row in rows:
        low, high = row["quartiles"]
        name, rate, ratio = row["name"], row["rate"] / 1e6, row["ratio"]
        print(f"{name:34}{rate:10.2f}{ratio:8.2f}   {low:.2f} .. {high:.2f}")


def warn_if_busy() -> None:
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the load is {load:.1f}, so these figures are too low", file=sys.stderr)


def write(path: Path | None, result: object) -> None:
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")
