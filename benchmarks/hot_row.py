"""What the pool of newcomers costs a store, whose one record every newcomer's charge writes.

    python benchmarks/hot_row.py [--seconds 2] [--rounds 5] [--stores sqlite,redis] [--json FILE]

Clients, each a process of its own, enter and charge requests of 2000 accounts in turn, each with
credit: once on probation, so that every charge advances the one pool, and once with openings that
are paid, so that none does. Both in turn, `rounds` times, with 1, 4 and 16 clients. Both stores
write one after the other, so that what a request costs them in CPU time bounds how many they serve:
that of the clients over SQLite, which runs in them, and that of the server of Redis. Printed are
requests a second, CPU microseconds of a request, and the median of the latter's ratios without and
with the pool, which other load on the machine changes little, with the least and the most of all.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import redis
from gate import redis_serving
from measure import need, warn_if_busy, write

from powfast.stores import open_ledger
from powfast.stores.base import Limits
from powfast.tariff import EvidenceTariff

CLIENTS = (1, 4, 16)
ACCOUNTS = 2000
LIMITS = Limits(0.0, math.inf, 60.0)


def tariff(*, probation: bool) -> EvidenceTariff:
    return EvidenceTariff(base_work=1000, opening_work=1e6, probation=probation)


def cpu_seconds(store: str) -> float:
    if store.startswith("sqlite"):
        return time.process_time()
    with closing(redis.Redis.from_url(store)) as client:
        said = client.info("cpu")
    return float(said["used_cpu_user"] + said["used_cpu_sys"])


def ask(
    store: str, probation: bool, client: int, start: float, seconds: float
) -> tuple[int, float]:
    """Ask as one client from a moment on; return how many requests it made, and the CPU seconds."""
    with closing(open_ledger(store, tariff(probation=probation), timeout=60)) as ledger:
        names = [f"{client}.{number}" for number in range(ACCOUNTS // max(CLIENTS))]
        for name in names:
            if not probation:
                ledger.reset(name)
            ledger.redeem(name, "", b"", os.urandom(16), time.time() + 60, 10**12)
        time.sleep(max(0.0, start - time.time()))
        begun, before, done = time.perf_counter(), cpu_seconds(store), 0
        while time.perf_counter() - begun < seconds:
            whose = names[done % len(names)], "", os.urandom(32)
            run = os.urandom(16)
            ledger.enter(*whose, run, LIMITS)
            charged = ledger.charge(*whose, run, [1.0])
            if charged.due or bool(charged.newcomers) is not probation:
                raise SystemExit(f"that is not what is to be measured: {charged}")
            done += 1
        return done, cpu_seconds(store) - before


def rate(
    pool: ProcessPoolExecutor, store: str, probation: bool, clients: int, seconds: float
) -> tuple[float, float]:
    """Return requests a second, and CPU microseconds of a request."""
    start = time.time() + 1.0 + 0.1 * clients
    asking = [
        pool.submit(ask, store, probation, client, start, seconds) for client in range(clients)
    ]
    done, cpu = zip(*[each.result() for each in asking], strict=True)
    used = sum(cpu) if store.startswith("sqlite") else statistics.median(cpu)
    return sum(done) / seconds, 1e6 * used / sum(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stores", default="sqlite,redis")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    stores = given.stores.split(",")
    need(*["redis-server"] * ("redis" in stores))
    warn_if_busy()
    rows = []
    print(
        f"{'':8}{'clients':>8}{'no pool/s':>11}{'pool/s':>9}{'no pool us':>12}{'pool us':>9}  ratio"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(redis_serving(folder)) if "redis" in stores else ""
        workers = stack.enter_context(ProcessPoolExecutor(max(CLIENTS)))
        for store in stores:
            for clients in CLIENTS:
                pairs = []
                for each in range(given.rounds):
                    urls = [f"sqlite:///{folder}/{store}{clients}{each}{on}.sqlite" for on in "01"]
                    if store == "redis":
                        urls = [f"{server}/{on}" for on in (0, 1)]
                    pairs.append(
                        [
                            rate(workers, url, probation, clients, given.seconds)
                            for url, probation in zip(urls, (False, True), strict=True)
                        ]
                    )
                ratios = [off[1] / on[1] for off, on in pairs]
                row = [
                    statistics.median(pair[k][i] for pair in pairs) for i in (0, 1) for k in (0, 1)
                ]
                ratio = statistics.median(ratios)
                rows.append({"store": store, "clients": clients, "row": row, "ratios": ratios})
                print(
                    f"{store:8}{clients:8}{row[0]:11.0f}{row[1]:9.0f}{row[2]:12.1f}{row[3]:9.1f}"
                    f"{ratio:7.2f}   {min(ratios):.2f} .. {max(ratios):.2f}",
                    flush=True,
                )
    write(given.json, rows)


if __name__ == "__main__":
    main()
