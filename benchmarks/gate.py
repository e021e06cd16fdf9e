"""What the middleware adds to a request: requests a second, latency, and CPU of the server.

    python benchmarks/gate.py [--seconds 3] [--rounds 3] [--stores memory,sqlite,redis]

One FastAPI endpoint on one uvicorn worker (uvloop and httptools, as `uvicorn[standard]` has them),
asked over loopback by wrk (Debian: apt install wrk): bare, behind slowapi (pip install slowapi; a
rate limiter whose limit is never met), and behind `PowMiddleware` with each store:

    challenging  a request that was never asked before: charged, its answer held, 402
    redeeming    the solutions of these challenges: verified, spent, the held answer, 200
    admitting    right solutions of requests that never ran: spent, the endpoint runs, is charged,
                 and a copy of its answer is held, 200
    garbage      a solution that is no token: refused with a fresh challenge, 402
    forged       a solution whose MAC is wrong: the same
    flooding     new requests of an account with too many unpaid runs: its debt is asked for, 402

The bare endpoint is asked the same requests, case by case: a new body, another account, or a
header of 300 bytes cost it something as well, and that is not the middleware's. It never computes
evidence: the middleware is given some. All cases run in turn, `rounds` times; printed are medians,
among them the CPU time of the server's process per request, and how much more that is than the bare
endpoint's for the same requests in the same round, with the least and the most of all rounds, which
tell what else the machine had to do. Whoever pays for an answer sends two requests,
one challenged, one redeeming: `paying` is their mean.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from measure import need, warn_if_busy, write
from service import KEYS

from powfast.accounts import account_of
from powfast.challenge import Issuer, solve, token_from_text
from powfast.http import format_solution, request_digest

Exchange = tuple[int, bytes]
"""The number in the body of a request, and the token that it was challenged with."""

CONNECTIONS = 16
ACCOUNTS = 2000
BODY = json.dumps({"images": [[0.25] * 8]})
NEW = ("challenging", "flooding")
"""Cases that ask what was never asked before, without a solution."""
CASES = ("challenging", "redeeming", "admitting", "garbage", "forged", "flooding")
AT_ONCE = dict.fromkeys(("garbage", "forged"), CONNECTIONS)
"""Copies of one request that meet while it runs for the first time: 409."""
STATUS = {"redeeming": 200, "admitting": 200}  # else 402

# One connection a thread, so that an answer is known to belong to the request before it.
SCRIPT = """
local case, sent, received, lines = "%(case)s", 0, 0, {}
local number, challenges
wrong = 0 -- global: read from another thread
function init()
  for line in io.lines("%(solutions)s") do lines[#lines + 1] = line end
  challenges = io.open("%(challenges)s." .. id, "w")
end
function request()
  local turn = sent * %(connections)d + id
  local headers = {["content-type"] = "application/json"}
  sent = sent + 1
  if #lines > 0 then
    number, headers["pow-solution"] = lines[1 + turn %% #lines]:match("(%%d+) (.+)")
  else
    number = string.format("%%.0f", %(first)d + turn)
  end
  local account = case == "flooding" and "flood" or tonumber(number) %% %(accounts)d
  headers["authorization"] = "Bearer " .. account
  return wrk.format("POST", "/v1/predict", headers, '%(open)s, "n": ' .. number .. "}")
end
function response(status, headers)
  received = received + 1
  if status ~= %(status)d then wrong = wrong + 1 end
  if case == "challenging" and status == 402 then
    local token = headers["www-authenticate"]:match('challenge="([^"]+)"')
    challenges:write(number, " ", token, "\\n")
  end
  if received * %(connections)d >= %(most)d then wrk.thread:stop() end
end
local threads = {}
function setup(thread)
  thread:set("id", #threads)
  threads[#threads + 1] = thread
end
function done(summary, latency)
  local errors, wrong = summary.errors, 0
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
  print(string.format(
    '{"requests": %%d, "microseconds": %%d, "failed": %%d, "wrong": %%d, "p50": %%d, "p99": %%d}',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write
    + errors.timeout, wrong, latency:percentile(50), latency:percentile(99)))
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


def issued(keys: dict[str, bytes], url: str, numbers: Sequence[int], life: float) -> list[Exchange]:
    """Return challenges of an issuer of our own, for the requests of these numbers."""
    issuer = Issuer(keys, ttl=life)
    host = url.removeprefix("http://").encode()
    headers = {b"host": host, b"content-type": b"application/json"}

    def token(number: int) -> bytes:
        body = f'{BODY[:-1]}, "n": {number}}}'.encode()
        digest = request_digest("POST", b"/v1/predict?", body, headers.get)
        account = account_of(f"Bearer {number % ACCOUNTS}")
        return issuer.issue(work=1000, account=account, request=digest)

    return [(number, token(number)) for number in numbers]


class Load:
    """Asks one server, case by case: the challenges of one are what the next can redeem."""

    def __init__(
        self, url: str, process: int, folder: Path, *, many: int, lifetime: float = 3600.0
    ) -> None:
        self._url, self._process, self._folder = url, process, folder
        self._many, self._lifetime = many, lifetime
        self._challenged: list[Exchange] = []

    def run(
        self, case: str, seconds: int, *, most: int = 10**9, guarded: bool = True
    ) -> dict[str, float]:
        """Run wrk once; return what it measured and the server's CPU per request, in microseconds.

        After `most` answers it asks no more and lets the rest of the time pass.
        """
        lines = self._solutions(case)
        if case == "redeeming":  # each once
            del lines[len(lines) // CONNECTIONS * CONNECTIONS :]
            seconds, most = (seconds + 2) // 3, min(most, len(lines))
        script = self._folder / "load.lua"
        script.write_text(SCRIPT % self._named(case, lines, most, guarded))
        threads = f"-t{CONNECTIONS}", f"-c{CONNECTIONS}"
        command = ["wrk", *threads, f"-d{seconds}s", "-s", script, self._url]
        before = cpu_seconds(self._process)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        cpu = cpu_seconds(self._process) - before
        self._challenged = list(self._read_challenges())
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

    def _solutions(self, case: str) -> list[str]:
        """Return what a case sends, a line each: the number in the body, and a solution."""
        if case in NEW:
            return []
        if case == "garbage":
            return [f"0 rubbish.{'A' * 40}"]
        exchanges = self._challenged if case == "redeeming" else []
        if not exchanges:  # a bare endpoint asks for nothing
            admitted = case == "admitting"
            keys = KEYS if admitted else {"2026a": bytes(32)}
            first = time.monotonic_ns() // 1000  # never asked before
            numbers = range(first, first + self._many) if admitted else [0] * self._many
            exchanges = issued(keys, self._url, numbers, self._lifetime)
        return [f"{n} {format_solution(token, solve(token, threads=1))}" for n, token in exchanges]

    def _named(self, case: str, lines: list[str], most: int, guarded: bool) -> dict[str, object]:
        file = self._folder / "solutions"
        file.write_text("".join(f"{line}\n" for line in lines))
        return {
            "case": case,
            "solutions": file,
            "challenges": self._folder / "challenges",
            "connections": CONNECTIONS,
            "first": time.monotonic_ns() // 1000,  # new requests are new in every run
            "accounts": ACCOUNTS,
            "open": BODY[:-1],
            "status": STATUS.get(case, 402) if guarded else 200,
            "most": most,
        }

    def _read_challenges(self) -> Iterator[Exchange]:
        for file in self._folder.glob("challenges.*"):
            for line in file.read_text().splitlines():
                number, token = line.split()
                yield int(number), token_from_text(token)


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
        many = 8000 * given.seconds
        loads = {
            name: Load(*stack.enter_context(served(guard)), folder, many=many)
            for name, guard in guards.items()
        }
        for each in range(given.rounds + 1):
            for name, load in loads.items():
                for case in ("challenging",) if name == "slowapi" else CASES:
                    seconds = given.seconds if each else 1
                    found = load.run(case, seconds, guarded=name in given.stores)
                    if found["failed"] or found["wrong"] > AT_ONCE.get(case, 0):
                        print(f"{name} {case}: {found}", file=sys.stderr)
                    if each:  # the round before them warms up
                        row = samples.setdefault(f"{name} {case}", {})
                        for figure, value in found.items():
                            row.setdefault(figure, []).append(value)
    return samples


def report(
    samples: dict[str, dict[str, list[float]]], stores: list[str]
) -> dict[str, dict[str, float]]:
    """Print the medians of all rounds; return them."""
    rows: dict[str, dict[str, float]] = {}
    print(
        f"{'':22}{'requests/s':>11}{'x bare':>8}{'p50 ms':>8}{'p99 ms':>8}{'CPU us':>8}{'more':>7}"
        "   least .. most"
    )
    for name, row in samples.items():
        found = {figure: statistics.median(values) for figure, values in row.items()}
        bare = samples[f"bare {name.split()[1]}"]
        pairs = zip(row["cpu_us"], bare["cpu_us"], strict=True)
        more = [mine - other for mine, other in pairs]
        found |= {"more_us": statistics.median(more), "least_us": min(more), "most_us": max(more)}
        speeds = zip(row["per_second"], bare["per_second"], strict=True)
        found["x_bare"] = statistics.median(mine / other for mine, other in speeds)
        rows[name] = found
        print(
            f"{name:22}{found['per_second']:11.0f}{found['x_bare']:8.2f}{found['p50_ms']:8.2f}"
            f"{found['p99_ms']:8.2f}{found['cpu_us']:8.1f}{found['more_us']:+7.1f}"
            f"   {min(more):+.1f} .. {max(more):+.1f}"
        )
    for name in stores:
        paying = [rows[f"{name} {case}"]["more_us"] for case in ("challenging", "redeeming")]
        print(f"{name + ' paying':22}{'':43}{statistics.mean(paying):+7.1f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", default="memory,sqlite,redis")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.stores = given.stores.split(",")
    need("wrk", *["redis-server"] * ("redis" in given.stores), packages=("slowapi", "uvicorn"))
    warn_if_busy()
    with tempfile.TemporaryDirectory() as folder:
        write(given.json, report(measured(given, Path(folder)), given.stores))


if __name__ == "__main__":
    main()
