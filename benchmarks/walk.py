"""Walks of algorithm 2: the library against a prototype, its threads, verification, memory.

    python benchmarks/walk.py [--rounds 21] [--json FILE]

The prototype, benchmarks/walk_prototype.c, is the specification line by line; `cc -O3` compiles it.
All are measured in turn, round after round. A walk is also given in blocks of 64 bytes: what
OpenSSL's bulk hashing on the same core hashes meanwhile.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import Row, bulk_rate, need, seconds, warn_if_busy, write

from powfast import _capi, _native
from powfast.kernel import active_kernel, native_kernel
from powfast.puzzle import Algorithm, Puzzle, solve, verify

ffi, lib = _capi.ffi, _capi.lib
HERE = Path(__file__).parent
WALKS = 200
WASM = "WebAssembly, Node.js"
SEED = bytes(range(32))
KNOWN = 0x608545191421D53F  # of the seed's part 0, nonce 0
WORD = 8  # bytes
PAGE, HUGE = 4096, 2 << 20
WEBASSEMBLY = """
const module = new WebAssembly.Module(require("fs").readFileSync(process.argv[1]));
const { setup, search } = new WebAssembly.Instance(module).exports;
const count = BigInt(process.argv[2]);
setup(2, 2n ** 64n - 1n, 1);
search(0, 0n, 4n * count); // until the engine has optimized it
const start = process.cpuUsage();
search(0, 0n, count);
console.log(process.cpuUsage(start).user / 1e6);
"""
Time = Callable[[], float]


def cpu_seconds(call: Callable[[], object]) -> float:
    """Seconds of this process alone: nothing else on the machine counts."""
    started = time.process_time()
    call()
    return time.process_time() - started


def prototype(folder: str, fed: int) -> Time:
    """Seconds a walk of the prototype, with one row in `fed` fed from an earlier one."""
    library = Path(folder, f"fed{fed}.so")
    flags = ["-O3", "-std=c11", f"-DFED={fed}", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, HERE / "walk_prototype.c", "-o", library], check=True)
    sum_of_walks = ctypes.CDLL(str(library)).sum_of_walks
    sum_of_walks.restype = ctypes.c_uint64
    sum_of_walks.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_uint32,
        *[ctypes.c_uint64] * 2,
    ]
    memory, address = mapped()
    if fed == 4 and sum_of_walks(address, SEED, 0, 0, 1) != KNOWN:
        raise AssertionError("the prototype gives another answer")

    def taken() -> float:
        assert memory is not None  # mapped as long as it is written to
        return cpu_seconds(lambda: sum_of_walks(address, SEED, 0, 0, WALKS)) / WALKS

    return taken


def webassembly() -> Time:
    """Seconds a walk of the browser's module in Node.js, start and compilation aside."""
    module = HERE.parent / "powfast" / "web" / "powfast.wasm"

    def taken() -> float:
        command = ["node", "-e", WEBASSEMBLY, str(module), str(WALKS)]
        return float(subprocess.run(command, capture_output=True, check=True).stdout) / WALKS

    return taken


def library(kernel, offset: int = 0, huge: bool = False) -> Time:
    """Seconds a walk of a search with a kernel, its scratch so many bytes behind a page's begin."""
    memory, address = mapped(huge)
    scratch = ffi.cast("uint64_t *", address + offset)
    task = ffi.new("powfast_puzzle *", {"seed": SEED, "work": 2**64 - 1, "parts": 1})
    nonce = ffi.new("uint64_t *")
    if lib.powfast_walk_selftest(scratch, kernel) != lib.POWFAST_OK:
        raise AssertionError("wrong answers")

    def taken() -> float:
        assert memory is not None
        search = (nonce, scratch, kernel, task, 0, 0, WALKS)
        return cpu_seconds(lambda: lib.powfast_walk_search(*search)) / WALKS

    return taken


def mapped(huge: bool = False) -> tuple[mmap.mmap, int]:
    """Memory of its own for two walks, and its address: at a huge page's begin, if asked for."""
    memory = mmap.mmap(-1, 2 * HUGE)
    memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return memory, -(-address // HUGE) * HUGE


def interleaved(times: dict[str, Time], rounds: int, against: str) -> list[Row]:
    """Measure all in turn, `rounds` times: medians and quartiles, ratios to `against`, blocks."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in times}
    for _ in range(rounds):
        for name, taken in times.items():
            bulk = bulk_rate()
            samples[name].append((taken(), (bulk + bulk_rate()) / 2))
    base = [taken for taken, _ in samples[against]]
    rows = []
    for name, pairs in samples.items():
        low, middle, high = statistics.quantiles([taken for taken, _ in pairs], n=4)
        ratio = statistics.median(t / b for (t, _), b in zip(pairs, base, strict=True))
        blocks = statistics.median(taken * bulk for taken, bulk in pairs)
        rows.append({"name": name, "seconds": middle, "quartiles": [low, high], "ratio": ratio,
                     "blocks": blocks})  # fmt: skip
    return rows


def report(title: str, rows: list[Row], against: str) -> None:
    print(f"\n{title}\n{'':34}{'us':>8}   quartiles        {'blocks':>8}   x {against}")
    for row in rows:
        low, high = (1e6 * value for value in row["quartiles"])
        spread = f"{low:.2f} .. {high:.2f}"
        print(f"{row['name']:34}{1e6 * row['seconds']:8.2f}   {spread:16} {row['blocks']:8.0f}"
              f"   {row['ratio']:.2f}")  # fmt: skip


def kernels() -> dict[str, object]:
    every = map(lib.powfast_kernel_at, range(lib.powfast_kernel_count()))
    return {
        ffi.string(lib.powfast_kernel_name(kernel)).decode(): kernel
        for kernel in every
        if lib.powfast_kernel_supported(kernel, lib.powfast_cpu_features())
    }


def solver_rate(threads: int, duration: float = 0.3) -> float:
    """Walks a second of the solver behind `puzzle.solve`."""
    solver = _native.Solver(native_kernel(), SEED, 2**64 - 1, 16, Algorithm.CACHEWALK)
    elapsed = seconds(lambda: solver.run(duration, threads))
    rate = solver.evaluations / elapsed
    solver.stop()
    return rate


def verification(rounds: int) -> list[float]:
    """Seconds that `puzzle.verify` takes for 16 right parts, in quartiles."""
    given = Puzzle(SEED, 64, 16, Algorithm.CACHEWALK)
    solution = solve(given)
    return statistics.quantiles(
        [seconds(lambda: verify(given, solution)) for _ in range(20 * rounds)], n=4
    )


def targets(walks: list[Row], threads: int, over_one: float, verified: float) -> list[Row]:
    """What algorithm 2 is held to; a ratio is one of medians of this run."""
    taken = {row["name"]: row["seconds"] for row in walks}
    rows = [
        ("one thread over the prototype", taken[active_kernel()] / taken["prototype"], 1.1, "x"),
        ("milliseconds to verify 16 parts", 1e3 * verified, 1.0, ""),
    ]
    if (module := taken.get(WASM)) is not None:
        rows.append(("WebAssembly over the scalar kernel", module / taken["scalar"], 1.5, "x"))
    found = [
        {"what": what, "measured": f"{value:.2f}{unit}", "bound": f"at most {bound}{unit}",
         "met": value <= bound}
        for what, value, bound, unit in rows
    ]  # fmt: skip
    if threads == 2:
        scaling = {"measured": f"{over_one:.2f}x", "bound": "at least 1.8x", "met": over_one >= 1.8}
        found.append({"what": "two threads over one", **scaling})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    need("cc")
    warn_if_busy()
    found = kernels()
    with tempfile.TemporaryDirectory() as folder:
        times = {"prototype": prototype(folder, 4)}
        times["prototype, every second row fed"] = prototype(folder, 2)
        times |= {name: library(kernel) for name, kernel in found.items()}
        if shutil.which("node"):
            times[WASM] = webassembly()
        walks = interleaved(times, options.rounds, "prototype")
    report("one thread, a walk", walks, "prototype")
    active = found[active_kernel()]
    places = {
        "8 bytes off a line": library(active, WORD),
        "a line": library(active, 64),
        "a page": library(active),
        "a huge page": library(active, huge=True),
    }
    scratch = interleaved(places, options.rounds, "a page")
    report(f"{active_kernel()}, where scratch begins at", scratch, "a page")

    cores = len(os.sched_getaffinity(0))
    pairs = [(solver_rate(cores), solver_rate(1)) for _ in range(options.rounds)]
    scaling = statistics.quantiles([many / one for many, one in pairs], n=4)
    verified = verification(options.rounds)
    low, middle, high = scaling
    print(f"\nactive kernel {active_kernel()}; {cores} threads over one: "
          f"{middle:.2f}x ({low:.2f} .. {high:.2f})")  # fmt: skip
    low, middle, high = (1e3 * value for value in verified)
    print(f"verification of 16 parts: {middle:.3f} ms ({low:.3f} .. {high:.3f})")
    held_to = targets(walks, cores, scaling[1], verified[1])
    for row in held_to:
        met = "met" if row["met"] else "MISSED"
        print(f"{row['what']:36}{row['measured']:>8}   {row['bound']:14}  {met}")
    write(
        options.json,
        {
            "active": active_kernel(),
            "walks": walks,
            "scratch": scratch,
            "threads": {"count": cores, "over_one": scaling},
            "verification_seconds": verified,
            "targets": held_to,
        },
    )


if __name__ == "__main__":
    main()
