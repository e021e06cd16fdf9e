"""What the middleware adds to a request: requests a second, latency, and CPU of the server.

    python benchmarks/gate.py [--seconds 3] [--rounds 3] [--stores memory,sqlite,redis]

One FastAPI endpoint on one uvicorn worker (uvloop and httptools, as `uvicorn[standard]` has them),
asked over loopback by wrk (Debian: apt install wrk): bare, behind slowapi (pip install slowapi; a
rate limiter whose limit is never met), and behind `PowMiddleware` with each store:

    challenging  a request that was never asked before: charged, its answer held, 402
    admitting    a right solution, each of another challenge: verified, claimed, 200
    garbage      a solution that is no token: refused with a fresh challenge, 402
    forged       a solution whose MAC is wrong: the same
    flooding     new requests of an account that owes too many answers: 429

The bare endpoint is asked the same requests, case by case: a new body, another account, or a
header of 300 bytes cost it something as well, and that is not the middleware's. It never computes
evidence: the middleware is given some. All cases run in turn, `rounds` times; printed are medians,
among them the CPU time of the server's process per request, and how much more that is than the bare
endpoint's for the same requests in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from measure import warn_if_busy, write
from service import KEYS

from powfast.accounts import account_of
from powfast.challenge import Issuer, solve
from powfast.http import format_solution, request_digest

CONNECTIONS = 16
ACCOUNTS = 2000
BODY = json.dumps({"images": [[0.25] * 8]})
CASES = ("challenging", "admitting", "garbage", "forged", "flooding")
STATUS = {"admitting": 200, "flooding": 429}  # else 402

SCRIPT = """
local case, sent, received, lines = "%(case)s", 0, 0, {}
wrong = 0 -- global: read from another thread
if "%(file)s" ~= "" then for line in io.lines("%(file)s") do lines[#lines + 1] = line end end
function request()
  sent = sent + 1
  local headers = {["content-type"] = "application/json"}
  local new = case == "challenging" or case == "flooding"
  local account = case == "challenging" and 1 + sent %% %(accounts)d or 0
  headers["authorization"] = "Bearer " .. account
  if #lines > 0 then headers["pow-solution"] = lines[1 + sent %% #lines] end
  local body = new and '%(open)s, "n": [%(run)d, ' .. sent .. "]}" or '%(open)s}'
  return wrk.format("POST", "/v1/predict", headers, body)
end
function response(status)
  received = received + 1
  if status ~= %(status)d then wrong = wrong + 1 end
  if received == %(most)d then wrk.thread:stop() end
end
local threads = {}
function setup(thread) threads[#threads + 1] = thread end
function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %%d, "microseconds": %%d, "failed": %%d, "wrong": %%d, "p50": %%d, "p99": %%d}',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write
    + errors.timeout, threads[1]:get("wrong"), latency:percentile(50), latency:percentile(99)))
end
"""


@contextmanager
def served(guard: str) -> Iterator[tuple[str, int]]:
    """Serve in a process of its own; give its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, Path(__file__).with_name("service.py"), guard, str(port)]
    server = subprocess.Popen(command)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if server.poll() is not None:
                    raise SystemExit(f"the service did not start: {command}") from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", server.pid
    finally:
        server.terminate()
        server.wait()


@contextmanager
def redis_serving(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def cpu_seconds(process: int) -> float:
    """CPU time of a process so far, all its threads together."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def solutions(case: str, number: int, folder: Path, lifetime: float = 3600.0) -> str:
    """Write the solutions that a case sends, one a line; return the file."""
    signer = Issuer(KEYS if case == "admitting" else {"2026a": bytes(32)}, ttl=lifetime)
    digest = request_digest("POST", b"/v1/predict?", BODY.encode())
    account = account_of("Bearer 0")
    lines = []
    for _ in range(number):
        token = signer.issue(work=1000, account=account, request=digest)
        lines.append(format_solution(token, solve(token, threads=1)))
    if case == "garbage":
        lines = ["rubbish." + "A" * 40]
    file = folder / f"{case}-{time.monotonic_ns()}"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def asked(
    url: str,
    process: int,
    case: str,
    file: str,
    seconds: int,
    *,
    most: int = 0,
    guarded: bool = True,
) -> dict[str, float]:
    """Run wrk once; return what it measured and the server's CPU per request, in microseconds.

    After `most` answers, where that is given, it asks no more and lets the rest of the time pass.
    """
    status = STATUS.get(case, 402) if guarded else 200
    script = Path(tempfile.mkstemp(suffix=".lua")[1])
    named = {"case": case, "file": file, "accounts": ACCOUNTS, "status": status}
    named |= {"open": BODY[:-1], "run": time.monotonic_ns()}  # new requests are new in every run
    named["most"] = most
    script.write_text(SCRIPT % named)
    before = cpu_seconds(process)
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script]
    done = subprocess.run(["wrk", *options, url], stdout=subprocess.PIPE, text=True, check=True)
    cpu = cpu_seconds(process) - before
    script.unlink()
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return {
        "requests": found["requests"],
        "failed": found["failed"],
        "wrong": found["wrong"],
        "per_second": 1e6 * found["requests"] / found["microseconds"],
        "p50_ms": found["p50"] / 1000,
        "p99_ms": found["p99"] / 1000,
        "cpu_us": 1e6 * cpu / found["requests"],
    }


def measured(given: argparse.Namespace, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Return the samples of each figure, by case."""
    samples: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        urls = {
            "memory": "memory://",
            "sqlite": f"sqlite:///{folder}/ledger.sqlite",
        }
        if "redis" in given.stores:
            urls["redis"] = stack.enter_context(redis_serving(folder))
        guards = {"bare": "bare", "slowapi": "slowapi"} | {
            name: urls[name] for name in given.stores
        }
        servers = {name: stack.enter_context(served(guard)) for name, guard in guards.items()}
        for each in range(given.rounds + 1):
            for name, server in servers.items():
                for case in ("challenging",) if name == "slowapi" else CASES:
                    files = case in ("admitting", "garbage", "forged")
                    file = solutions(case, given.solutions, folder) if files else ""
                    seconds, guarded = given.seconds if each else 1, name in given.stores
                    found = asked(*server, case, file, seconds, guarded=guarded)
                    if found["failed"] or found["wrong"]:
                        print(f"{name} {case}: {found}", file=sys.stderr)
                    if each:  # the round before them warms up
                        row = samples.setdefault(f"{name} {case}", {})
                        for figure, value in found.items():
                            row.setdefault(figure, []).append(value)
    return samples


def report(samples: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Print the medians of all rounds; return them."""
    rows: dict[str, dict[str, float]] = {}
    print(
        f"{'':22}{'requests/s':>11}{'x bare':>8}{'p50 ms':>8}{'p99 ms':>8}{'CPU us':>8}{'more':>7}"
    )
    for name, row in samples.items():
        found = {figure: statistics.median(values) for figure, values in row.items()}
        bare = samples[f"bare {name.split()[1]}"]
        pairs = zip(row["cpu_us"], bare["cpu_us"], strict=True)
        found["more_us"] = statistics.median(mine - other for mine, other in pairs)
        speeds = zip(row["per_second"], bare["per_second"], strict=True)
        found["x_bare"] = statistics.median(mine / other for mine, other in speeds)
        rows[name] = found
        print(
            f"{name:22}{found['per_second']:11.0f}{found['x_bare']:8.2f}{found['p50_ms']:8.2f}"
            f"{found['p99_ms']:8.2f}{found['cpu_us']:8.1f}{found['more_us']:+7.1f}"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", default="memory,sqlite,redis")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.stores = given.stores.split(",")
    given.solutions = 8000 * given.seconds
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk: apt install wrk")
    warn_if_busy()
    with tempfile.TemporaryDirectory() as folder:
        write(given.json, report(measured(given, Path(folder))))


if __name__ == "__main__":
    main()
