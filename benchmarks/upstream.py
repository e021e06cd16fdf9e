"""What a hop through `powfast serve --upstream` adds, beside nginx's proxy_pass in the same run.

python benchmarks/upstream.py [--requests 3000] [--rounds 5]

One client asks one after the other over one connection: a model server that does nothing, the same
behind nginx, behind the proxy on a path that is not guarded, and on a guarded one, where an account
that is in credit is charged for each answer. CPU is that of the process between, from /proc.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from service import KEYS

from powfast.accounts import account_of
from powfast.challenge import Issuer, solve
from powfast.http import format_solution, request_digest
from powfast.tariff import EvidenceTariff

APP = """
async def app(scope, receive, send):
    await receive()
    body = b'{"usage": {"prompt_tokens": 5, "completion_tokens": 10}}'
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
"""
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr; user root;
events {{ }}
http {{
  access_log off; keepalive_requests 10000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream model {{ server 127.0.0.1:{model}; keepalive 8; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1; proxy_set_header Connection "";
    location / {{ proxy_pass http://model; }}
  }}
}}
"""
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}'
KEY = "Bearer bench"
BOUND = (b"x-payment", b"payment-signature")
NGINX_PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process: int) -> float:
    """CPU of a process and its children so far."""
    listed = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout
    total = 0
    for each in (process, *listed.split()):
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def pay_ahead(port: int, path: str, requests: int) -> None:
    """Solve one challenge over the base price of so many answers: what is too much is credit."""
    fields = {b"host": b"127.0.0.1:%d" % port, b"content-type": b"application/json"}
    digest = request_digest("POST", path.encode() + b"?", BODY, fields.get, BOUND)
    token = Issuer(KEYS).issue(work=2 * requests, account=account_of(KEY), request=digest)
    ask(port, path, 1, {"pow-solution": format_solution(token, solve(token))})


def ask(port: int, path: str, requests: int, more: dict[str, str] | None = None) -> float:
    """Median seconds of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"content-type": "application/json", "authorization": KEY, **(more or {})}
    taken = []
    for _ in range(requests):
        begin = time.perf_counter()
        connection.request("POST", path, BODY, headers)
        answer = connection.getresponse()
        answer.read()
        taken.append(time.perf_counter() - begin)
        assert answer.status == 200, answer.status
    connection.close()
    return statistics.median(taken)


def wait_for(port: int) -> None:
    for _ in range(1000):
        try:
            http.client.HTTPConnection("127.0.0.1", port).connect()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--requests", type=int, default=3000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "model.py").write_text(APP)
        (folder / "tariff.json").write_text(EvidenceTariff(base_work=1).to_json())
        ports = {each: free_port() for each in ("model", "nginx", "proxy")}
        (folder / "nginx.conf").write_text(
            NGINX.format(folder=folder, model=ports["model"], port=ports["nginx"])
        )
        uvicorn = [sys.executable, "-m", "uvicorn", "model:app", "--log-level", "error"]
        nginx = shutil.which("nginx", path=NGINX_PATH) or "nginx"
        commands = {
            "model": [*uvicorn, "--no-access-log", "--port", str(ports["model"])],
            "nginx": [nginx, "-p", name, "-c", "nginx.conf"],
            "proxy": [sys.executable, "-m", "powfast.cli", "serve", "--port", str(ports["proxy"])],
        }
        commands["proxy"] += ["--upstream", f"http://127.0.0.1:{ports['model']}"]
        ring = ",".join(f"{key}:{secret.hex()}" for key, secret in KEYS.items())
        own = {"POWFAST_TARIFF": str(folder / "tariff.json"), "POWFAST_KEYS": ring}
        environ = {**os.environ, **own, "OPENBLAS_NUM_THREADS": "1"}
        running = {}
        for each, command in commands.items():
            running[each] = subprocess.Popen(command, env=environ, cwd=folder)
            stack.callback(running[each].wait)
            stack.callback(running[each].terminate)
            wait_for(ports[each])
        rows = {
            "the model server": ("model", "/v1/x"),
            "behind nginx, proxy_pass": ("nginx", "/v1/x"),
            "behind powfast, not guarded": ("proxy", "/free"),
            "behind powfast, guarded": ("proxy", "/v1/x"),
        }
        pay_ahead(ports["proxy"], "/v1/x", (given.rounds + 1) * given.requests)
        latency: dict[str, list[float]] = {row: [] for row in rows}
        cpu: dict[str, list[float]] = {row: [] for row in rows}
        for each, path in rows.values():
            ask(ports[each], path, given.requests // 10)
        for _ in range(given.rounds):
            for row, (each, path) in rows.items():
                before = cpu_seconds(running[each].pid)
                latency[row].append(ask(ports[each], path, given.requests))
                cpu[row].append((cpu_seconds(running[each].pid) - before) / given.requests)
        print(f"load {os.getloadavg()[0]:.1f}; {given.rounds} rounds of {given.requests}, medians")
        print(f"{'':30}{'CPU of the hop, us':>20}{'latency, us':>14}")
        for row in rows:
            used, took = statistics.median(cpu[row]), statistics.median(latency[row])
            print(f"{row:30}{used * 1e6:20.0f}{took * 1e6:14.0f}")


if __name__ == "__main__":
    main()
