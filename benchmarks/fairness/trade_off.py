"""What a solver of cachewalk gains that keeps less memory: bytes, multiplications, rows read, time.

    python benchmarks/fairness/trade_off.py [--rounds 5] [--json FILE]

Each variant of trade_off.c is held to the prototype's digest before it is measured. Bytes are what
one walk needs, at its end and on average over its steps: walks that are at different steps share
what is average. Rows read count the lines of a cache that a walk asks for.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROWS, STEPS, BYTES = 4096, 2048, 64
WALKS = 10
KNOWN = {4: 0x608545191421D53F}  # as specified, for seed 00 01 .. 1f, part 0, nonce 0
PLANS = [(4, stored) for stored in (1, 2, 4, 8, 12, 16)]
PLANS += [(2, stored) for stored in (1, 2, 4, 6, 8)]


class Cost(ctypes.Structure):
    """What one walk takes."""

    _fields_ = (("multiplications", ctypes.c_uint64), ("rows_read", ctypes.c_uint64))


def compiled(folder: str, fed: int, stored: int) -> Callable[..., Cost]:
    """Return walk(x) of one variant."""
    library = Path(folder, f"fed{fed}-stored{stored}.so")
    flags = ["-O3", "-std=c11", f"-DFED={fed}", f"-DSTORED={stored}", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, HERE / "trade_off.c", "-o", library], check=True)
    walk: Callable[..., Cost] = ctypes.CDLL(str(library)).walk
    walk.restype = Cost  # type: ignore[attr-defined]
    return walk


def begin(nonce: int) -> tuple[bytes, ctypes.Array[ctypes.c_uint64]]:
    """Return the first hash of a walk, and the words it begins with."""
    message = bytes(range(32)) + b"powfast/v2:" + struct.pack(">IQ", 0, nonce)
    first = hashlib.sha256(message).digest()
    words = struct.unpack(">8Q", first + hashlib.sha256(first).digest())
    return first, (ctypes.c_uint64 * 8)(*words)


def digest(walk: Callable[..., Cost], nonce: int) -> tuple[int, Cost]:
    """Return the digest of a nonce, and what it took."""
    first, words = begin(nonce)
    cost = walk(words)
    return int.from_bytes(hashlib.sha256(first + struct.pack(">8Q", *words)).digest()[:8]), cost


def kibibytes(stored: int) -> tuple[float, float]:
    """Memory of a walk at its end, and on average over its steps."""
    kept = [(ROWS - step) / stored + step for step in range(STEPS + 1)]
    return max(kept) * BYTES / 1024, statistics.fmean(kept) * BYTES / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        walks = {plan: compiled(folder, *plan) for plan in PLANS}
        found = {plan: [digest(walk, nonce) for nonce in range(WALKS)] for plan, walk in
                 walks.items()}  # fmt: skip
        times: dict[tuple[int, int], list[float]] = {plan: [] for plan in PLANS}
        for _ in range(options.rounds):
            for plan, walk in walks.items():
                started = time.process_time()
                for nonce in range(WALKS):
                    walk(begin(nonce)[1])
                times[plan].append((time.process_time() - started) / WALKS)
    for (fed, stored), each in found.items():
        same = [d for d, _ in each] == [d for d, _ in found[fed, 1]]
        if not same or each[0][0] != KNOWN.get(fed, each[0][0]):
            raise AssertionError(f"another digest: fed {fed}, stored {stored}")
        end, mean = kibibytes(stored)
        rows.append({
            "fed": fed, "stored": stored, "kib_end": end, "kib_mean": mean,
            "multiplications": statistics.fmean(c.multiplications for _, c in each),
            "rows_read": statistics.fmean(c.rows_read for _, c in each),
            "time": statistics.median(times[fed, stored]),
        })  # fmt: skip
    base = {row["fed"]: row for row in rows if row["stored"] == 1}
    print("fed  stored   KiB at the end  on average   multiplications   rows read   time")
    for row in rows:
        whole = base[row["fed"]]
        ratios = [row[name] / whole[name] for name in ("multiplications", "rows_read", "time")]
        print(f"1/{row['fed']}  1/{row['stored']:<3}  {row['kib_end']:12.0f}"
              f"  {row['kib_mean']:12.0f}"
              f"  {ratios[0]:14.2f}x  {ratios[1]:10.2f}x  {ratios[2]:6.2f}x")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
