"""Hash rates of every kernel this CPU runs, as ratios to OpenSSL's bulk hashing per block.

    python benchmarks/kernels.py [--rounds 15] [--json FILE] [--wasm FILE] [--node-modules FOLDER]

Peers that are installed run beside it, each in a process of its own: a hashlib loop, altcha,
hashcash and stringzilla from PyPI, Debian's hashcash(1), hash-wasm and mCaptcha's solver from npm
(--node-modules). --wasm is what `sh csrc/wasm/build.sh FILE` made. Every hash is of one block.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from measure import Row, interleaved, report, seconds, warn_if_busy, write

from powfast import _capi, _native, errors, puzzle
from powfast.kernel import active_kernel, native_kernel

ffi, lib = _capi.ffi, _capi.lib
NONCES = 1 << 19
ENDLESS = puzzle.Puzzle(bytes(32), 2**64 - 1, 16)

PEERS = {
    "hashlib loop": """
import hashlib
prefix = b"p" * 47
def work():
    for nonce in range(100_000):
        hashlib.sha256(prefix + nonce.to_bytes(8, "big")).digest()[:8] < b"\\0"
    return 100_000
""",
    "stringzilla loop": """
import stringzilla
prefix = b"p" * 47
def work():
    for nonce in range(100_000):
        stringzilla.sha256(prefix + nonce.to_bytes(8, "big"))[:8] < b"\\0"
    return 100_000
""",
    "altcha": """
from altcha import v1
task = v1.Challenge("SHA-256", "0" * 64, 100_000, "salt", "")
def work():
    v1.solve_challenge(task.challenge, task.salt, task.algorithm, 100_000, 0)
    return 100_000
""",
    "hashcash (PyPI, SHA-1)": """
import hashcash
def work():
    for _ in range(16):
        hashcash.mint("resource", bits=13)
    return 16 * 2**13
""",
}
TIMED = """
import time
work()
start = time.perf_counter(); done = work(); print(done / (time.perf_counter() - start))
"""
HASH_WASM = """
const { createSHA256 } = require(process.argv[1] + "/hash-wasm");
createSHA256().then((sha) => {
  const message = new Uint8Array(55), count = 200000, start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) { message[54] = i; sha.init().update(message).digest("binary"); }
  console.log(count / (Number(process.hrtime.bigint() - start) / 1e9));
});
"""
# Each takes its module's file or the folder of modules, and prints hashes a second.
POWFAST_WASM = """
const module = new WebAssembly.Module(require("fs").readFileSync(process.argv[1]));
const { setup, search } = new WebAssembly.Instance(module).exports;
const count = 4000000n;
setup(1, 2n ** 64n - 1n, 1);
search(0, 0n, count);
const start = process.hrtime.bigint();
search(0, 0n, count);
console.log(Number(count) / (Number(process.hrtime.bigint() - start) / 1e9));
"""
MCAPTCHA_WASM = """
const { readFileSync } = require("fs");
const solver = process.argv[1] + "/@mcaptcha/pow-wasm/pow_wasm_bg";
import("data:text/javascript," + encodeURIComponent(readFileSync(solver + ".js"))).then((glue) => {
  const module = new WebAssembly.Module(readFileSync(solver + ".wasm"));
  glue.__wbg_set_wasm(new WebAssembly.Instance(module, { "./pow_wasm_bg.js": glue }).exports);
  let count = 0, start;
  for (let i = 0; i < 24; i++) {
    if (i === 4) { count = 0; start = process.hrtime.bigint(); }
    count += JSON.parse(glue.gen_pow("saltsaltsalt", "phrase" + i, 50000)).nonce;
  }
  console.log(count / (Number(process.hrtime.bigint() - start) / 1e9));
});
"""


def printed(*command: str | Path) -> float | None:
    """Return the first number a command prints, None where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    number = re.search(r"\d+(\.\d+)?", done.stdout + done.stderr)
    return float(number.group()) if done.returncode == 0 and number else None


def peers(node_modules: Path | None, wasm: Path | None) -> dict[str, Callable[[], float]]:
    commands: dict[str, list[str | Path]] = {
        name: [sys.executable, "-c", code + TIMED] for name, code in PEERS.items()
    }
    debian = shutil.which("hashcash", path=os.defpath)  # PyPI has a command of this name
    if debian:
        commands["hashcash(1) (Debian, SHA-1)"] = [debian, "-s"]
    node = shutil.which("node")
    if node and wasm:
        commands["powfast, WebAssembly in Node"] = [node, "-e", POWFAST_WASM, wasm.resolve()]
    if node and node_modules:
        folder = node_modules.resolve()
        commands["mCaptcha, WebAssembly in Node"] = [node, "-e", MCAPTCHA_WASM, folder]
        commands["hash-wasm loop in Node"] = [node, "-e", HASH_WASM, folder]
    found = {}
    for name, command in commands.items():
        if printed(*command) is None:
            print(f"{name}: not installed here, left out", file=sys.stderr)
        else:
            found[name] = lambda command=command: printed(*command)
    return found


def kernels() -> dict[str, Callable[[], float]]:
    features = lib.powfast_cpu_features()
    every = [lib.powfast_kernel_at(i) for i in range(lib.powfast_kernel_count())]
    return {
        ffi.string(lib.powfast_kernel_name(kernel)).decode(): lambda kernel=kernel: search(kernel)
        for kernel in every
        if lib.powfast_kernel_supported(kernel, features)
    }


def search(kernel, nonces: int = NONCES) -> float:
    """Nonces a second of one thread."""
    task = ffi.new("powfast_puzzle *", {"work": 2**64 - 1, "parts": 1})
    nonce = ffi.new("uint64_t *")
    return nonces / seconds(lambda: lib.powfast_search(nonce, kernel, task, 0, 0, nonces))


def solver_rate(threads: int, duration: float = 0.3) -> float:
    """Evaluations a second of the solver behind `puzzle.solve`."""
    solver = _native.Solver(native_kernel(), ENDLESS.seed, ENDLESS.work, ENDLESS.parts)
    elapsed = seconds(lambda: solver.run(duration, threads))
    rate = solver.evaluations / elapsed
    solver.stop()
    return rate


def cancel_latency() -> float:
    """Seconds from setting `cancel` to the return of `puzzle.solve`."""
    cancel, at = threading.Event(), []

    def stop() -> None:
        at.append(time.perf_counter())
        cancel.set()

    threading.Timer(0.1, stop).start()
    try:
        puzzle.solve(ENDLESS, max_work=2**64, cancel=cancel)
    except errors.Cancelled:
        return time.perf_counter() - at[0]
    raise AssertionError("solved what nobody can")


def dirty_upper(rounds: int) -> float | None:
    """Time of short SHA-NI searches right after AVX2 ones, over their time alone: 1 if clean."""
    by_name = {
        ffi.string(lib.powfast_kernel_name(kernel)).decode(): kernel
        for kernel in map(lib.powfast_kernel_at, range(lib.powfast_kernel_count()))
        if lib.powfast_kernel_supported(kernel, lib.powfast_cpu_features())
    }
    if not {"shani", "avx2"} <= by_name.keys():
        return None
    alone, after = [], []
    for _ in range(200 * rounds):
        search(by_name["shani"], 256)
        alone.append(1 / search(by_name["shani"], 256))
        search(by_name["avx2"], 256)
        after.append(1 / search(by_name["shani"], 256))
    return statistics.median(after) / statistics.median(alone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--wasm", type=Path)
    parser.add_argument("--node-modules", type=Path)
    options = parser.parse_args()
    warn_if_busy()
    rows: list[Row] = interleaved(kernels(), options.rounds)
    report("kernels, one thread (hashes)", rows)
    others = interleaved(peers(options.node_modules, options.wasm), max(3, options.rounds // 5))
    report("in processes of their own, one thread (hashes)", others)

    cores = len(os.sched_getaffinity(0))
    pairs = [(solver_rate(cores), solver_rate(1)) for _ in range(options.rounds)]
    scaling = statistics.median(many / one for many, one in pairs)
    first = statistics.median(
        seconds(lambda: puzzle.solve(puzzle.Puzzle(bytes(32), 1, 1))) for _ in range(999)
    )
    cancel = max(cancel_latency() for _ in range(options.rounds))
    dirty = dirty_upper(options.rounds)
    print(f"\nactive kernel {active_kernel()}; {cores} threads over one: {scaling:.2f}x")
    print(f"call to first hash and back {first * 1e6:.1f} us; slowest cancel {cancel * 1e3:.1f} ms")
    if dirty is not None:
        print(f"shani right after avx2, over shani alone: {dirty:.2f}x the time")
    write(
        options.json,
        {
            "active": active_kernel(),
            "kernels": rows,
            "peers": others,
            "threads": {"count": cores, "over_one": scaling},
            "first_hash_seconds": first,
            "slowest_cancel_seconds": cancel,
            "dirty_upper": dirty,
        },
    )


if __name__ == "__main__":
    main()
