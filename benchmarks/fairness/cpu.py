"""What a core of this CPU does in a second: hashes, walks, and argon2id with a walk's memory.

    python benchmarks/fairness/cpu.py [--rounds 9] [--json benchmarks/fairness/cpu.json]

All are measured in turn, round after round, on one thread and on all: medians of what is done in a
second of a core's own time, whatever else the machine does. argon2id has 256 KiB, one pass and one
lane, through argon2-cffi. WebAssembly runs in Node.js.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from argon2.low_level import Type, hash_secret_raw

from powfast import _native
from powfast.kernel import active_kernel, walking_kernel
from powfast.profile.machine import this_device
from powfast.puzzle import MAX_WORK, Algorithm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from measure import need, warn_if_busy, write  # noqa: E402

SECONDS = 0.4
MODULE = ROOT / "powfast" / "web" / "powfast.wasm"
WEBASSEMBLY = """
const module = new WebAssembly.Module(require("fs").readFileSync(process.argv[1]));
const { setup, search } = new WebAssembly.Instance(module).exports;
const count = BigInt(process.argv[3]);
setup(Number(process.argv[2]), 2n ** 64n - 1n, 1);
search(0, 0n, count); // until the engine has optimized it
const start = process.cpuUsage();
search(0, 0n, count);
console.log(Number(count) / process.cpuUsage(start).user * 1e6);
"""
Rate = Callable[[], float]


def solver(algorithm: Algorithm, threads: int) -> Rate:
    """Digests of the solver behind `puzzle.solve`."""

    def rate() -> float:
        searching = _native.Solver(walking_kernel(), bytes(32), MAX_WORK, 1, algorithm)
        started = time.process_time()
        searching.run(SECONDS, threads)
        done = searching.evaluations / (time.process_time() - started)
        searching.stop()
        return done

    return rate


def argon2id(threads: int) -> Rate:
    def hashed(first: int) -> int:
        ends, count = time.perf_counter() + SECONDS, 0
        while time.perf_counter() < ends:
            nonce = (first + count).to_bytes(8, "big")
            hash_secret_raw(nonce, bytes(16), 1, 256, 1, 8, Type.ID)
            count += 1
        return count

    def rate() -> float:
        started = time.process_time()
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(hashed, range(threads))) / (time.process_time() - started)

    return rate


def webassembly(algorithm: Algorithm, count: int) -> Rate:
    def rate() -> float:
        command = ["node", "-e", WEBASSEMBLY, MODULE, str(int(algorithm)), str(count)]
        return float(subprocess.run(command, capture_output=True, check=True).stdout)

    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    need("node")
    warn_if_busy()
    cores = len(os.sched_getaffinity(0))
    rates = {}
    for threads, where in ((1, "one thread"), (cores, "all threads")):
        rates[f"hashes, {where}"] = solver(Algorithm.SHA256, threads)
        rates[f"walks, {where}"] = solver(Algorithm.CACHEWALK, threads)
        rates[f"argon2id, {where}"] = argon2id(threads)
    rates["hashes, WebAssembly"] = webassembly(Algorithm.SHA256, 2_000_000)
    rates["walks, WebAssembly"] = webassembly(Algorithm.CACHEWALK, 2000)
    samples = [{name: rate() for name, rate in rates.items()} for _ in range(options.rounds)]
    found = {name: statistics.median(sample[name] for sample in samples) for name in rates}
    for name, rate in found.items():
        print(f"{name:24}{rate:14,.0f} a second")
    write(
        options.json,
        {
            "cpu": this_device().cpu,
            "kernel": active_kernel(),
            "cores": cores,
            "measured": time.strftime("%Y-%m-%d"),
            "rates": {name: round(rate) for name, rate in found.items()},
        },
    )


if __name__ == "__main__":
    main()
