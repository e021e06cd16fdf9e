"""Is the first request after warm-up as fast as the tenth? Every run in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/first_request.py [--processes 9] [--json FILE]

No two requests are alike, and before each of them the process does what a server does: it reads a
body, runs a model and writes an answer. Whatever comes right after its like is many times as fast,
be it the second request or the thousandth. "serving": the caches keep what they can. "cold": they
are emptied as well before each request. What is done once would show in both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from measure import write

from powfast import leakage

BEYOND_CACHES = 1 << 28  # bytes
WIDTH = 1024  # of the model's input and output

Request = Callable[[], object]


def votes(rng: np.random.Generator, saved: Path) -> Callable[[], Request]:
    leakage.warmup(10.0, "rdp", exact=False)

    def make() -> Request:
        batch = rng.multinomial(250, rng.dirichlet(np.full(10, 0.05)), 64)
        return partial(leakage.from_votes, batch, 10.0, "rdp", exact=False)

    return make


def evidence(queries: int, rng: np.random.Generator, saved: Path) -> Callable[[], Request]:
    estimator = leakage.LeakageEstimator.load(saved).warmup()

    def make() -> Request:
        features = rng.normal(size=(queries, 64))
        return partial(estimator.evidence, features, rng.dirichlet(np.ones(10), queries))

    return make


WARMED = {
    "64 votes, rdp table": votes,
    "64 queries, evidence": partial(evidence, 64),
    "one query, evidence": partial(evidence, 1),
}


class Server:
    """What else the process of a model does; it has done all of it once."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._layers = [
            rng.normal(size=shape).astype(np.float32) / WIDTH
            for shape in ((WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))
        ]
        self._inputs = rng.normal(size=(16, WIDTH)).tolist()
        self._large = np.ones(BEYOND_CACHES // 8)
        self.serve()
        self.empty_caches()

    def serve(self) -> str:
        rows = np.array(json.loads(json.dumps(self._inputs)), dtype=np.float32)
        for layer in self._layers:
            rows = np.maximum(rows @ layer, 0.0)
        return json.dumps(rows.tolist())

    def empty_caches(self) -> None:
        self._large += 1.0


def timed(request: Request) -> float:
    """Return microseconds of the processor."""
    start = time.thread_time()
    request()
    return (time.thread_time() - start) * 1e6


def run(name: str, cold: bool, saved: Path) -> None:
    """Print the microseconds of ten requests: what each process does."""
    rng = np.random.default_rng()
    server = Server(rng)
    make = WARMED[name](rng, saved)
    times = []
    for _ in range(10):
        request = make()
        server.serve()
        if cold:
            server.empty_caches()
        times.append(timed(request))
    print(json.dumps(times))


def trained(path: Path) -> None:
    """Save an estimator with 5000 honest queries."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 9000)
    features = rng.normal(size=(10, 64))[labels] + rng.normal(size=(9000, 64))
    estimator = leakage.LeakageEstimator().fit(features[:4000], labels[:4000])
    estimator.calibrate(features[4000:], np.eye(10)[labels[4000:]] * 0.9 + 0.01)
    estimator.save(path)


def measure(processes: int) -> dict[str, list[list[float]]]:
    """Print a line per kind of request and state of the caches; return all times."""
    results = {}
    print(f"{'us, medians (quartiles)':40} {'first':>24} {'tenth':>24}   first / tenth")
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "estimator.npz")
        trained(saved)
        for name in WARMED:
            for caches in ("serving", "cold"):
                command = [sys.executable, __file__, "--one", name, caches, str(saved)]
                runs = [json.loads(subprocess.check_output(command)) for _ in range(processes)]
                first, tenth = ([times[at] for times in runs] for at in (0, 9))
                ratio = statistics.median(first) / statistics.median(tenth)
                row = f"{name}, {caches}"
                print(f"{row:40} {shown(first):>24} {shown(tenth):>24}   {ratio:.2f}", flush=True)
                results[row] = runs
    return results


def shown(times: list[float]) -> str:
    low, median, high = statistics.quantiles(times, n=4)
    return f"{median:.1f} ({low:.1f} .. {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # what each process is told
    options = parser.parse_args()
    if options.one:
        name, caches, saved = options.one
        run(name, caches == "cold", Path(saved))
    else:
        write(options.json, measure(options.processes))


if __name__ == "__main__":
    main()
