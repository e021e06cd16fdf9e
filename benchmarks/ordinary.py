"""What an ordinary answer takes by the clock, with work that is paid ahead: guarded against bare.

    python benchmarks/ordinary.py [--requests 1000] [--clients httpx,chromium] [--json FILE]

A uvicorn process serves a model of 5 ms, bare and behind `PowMiddleware`, at the price of an
ordinary tariff: what one core of this machine solves in 5 ms. One client asks each in turn, always
with some thinking between; it solves in the background what answers bring. That is httpx, then a
page in Chromium (Debian: apt install chromium; pip install playwright), whose `powFetch` solves in
a worker. Printed are the milliseconds of an answer as its caller sees them, the guarded over the
bare ones, and how many exchanges an answer took.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from measure import need, seconds, warn_if_busy, write

from powfast import Gate, Issuer, MemoryLedger
from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.tariff import EvidenceTariff

SERVICE_TIME = 0.005

PAGE = """
async ([requests, think]) => {
  const { powFetch } = await import("/powfast/powfast.js");
  const headers = { authorization: "Bearer page" }, bare = [], guarded = [];
  const asked = async (fetching, path) => {
    const start = performance.now();
    const answer = await fetching(path, { headers });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    await answer.text();
    const taken = performance.now() - start;
    await new Promise((resolve) => setTimeout(resolve, think));
    return taken / 1000;
  };
  for (let n = 0; n < requests; n++) {
    bare.push(await asked(fetch, "/bare/predict"));
    guarded.push(await asked(powFetch, "/v1/predict"));
  }
  return [bare, guarded];
}
"""


def serve(port: int, base_work: float) -> None:
    gate = Gate(Issuer({"1": secrets.token_bytes(32)}), MemoryLedger(EvidenceTariff(base_work)))
    app = FastAPI()
    app.add_middleware(PowMiddleware, gate=gate, paths=("/v1/",))
    app.mount("/powfast", StaticFiles(packages=[("powfast", "web")]))

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return "<!doctype html><title>asks</title>"

    @app.get("/bare/predict")
    async def bare() -> str:
        await asyncio.sleep(SERVICE_TIME)
        return "answer"

    @app.get("/v1/predict")
    async def predict(pow: Charge) -> str:
        await asyncio.sleep(SERVICE_TIME)
        await pow.charge([1.0])
        return "answer"

    uvicorn.run(app, port=port, log_level="error", access_log=False)


@contextmanager
def served(base_work: float) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port), str(base_work)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if server.poll() is not None:
                    raise SystemExit("the service did not start") from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def base_price() -> float:
    """Return the work that one core of this machine solves in the service time."""
    from powfast.challenge import Issuer, solve

    token = Issuer({"1": bytes(32)}).issue(work=20_000_000, parts=1024)
    return float(round(SERVICE_TIME * 20e6 / seconds(lambda: solve(token, threads=1))))


def measure(url: str, requests: int, think: float) -> dict[str, Any]:
    """Ask bare and guarded in turn; the first answers open connections and the account."""
    from powfast.clients.httpx import PowAuth

    exchanges = 0

    def note(_: httpx.Request) -> None:
        nonlocal exchanges
        exchanges += 1

    key, hooks = {"authorization": "Bearer key"}, {"request": [note]}  # an account of its own
    with (
        httpx.Client(base_url=url, headers=key) as plain,
        httpx.Client(base_url=url, headers=key, auth=PowAuth(), event_hooks=hooks) as paying,
    ):
        bare: list[float] = []
        guarded: list[float] = []
        for _ in range(requests + 1):
            bare.append(asked(plain, "/bare/predict", think))
            guarded.append(asked(paying, "/v1/predict", think))
    return compared(bare, guarded, exchanges)


def measure_page(url: str, requests: int, think: float) -> dict[str, Any]:
    """Ask as a page does, in Chromium; its own clock counts 0.1 ms."""
    from playwright.sync_api import sync_playwright

    program, exchanges = shutil.which("chromium"), 0

    def note(request: Any) -> None:
        nonlocal exchanges
        exchanges += request.url.endswith("/v1/predict")

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page()
        page.on("request", note)
        page.goto(url)
        bare, guarded = page.evaluate(PAGE, [requests + 1, 1000 * think])
        browser.close()
    return compared(bare, guarded, exchanges)


def compared(bare: list[float], guarded: list[float], exchanges: int) -> dict[str, Any]:
    figures = {"bare": quantiles(bare[1:]), "guarded": quantiles(guarded[1:])}
    ratio = [
        mine / theirs for mine, theirs in zip(figures["guarded"], figures["bare"], strict=True)
    ]
    return {**figures, "ratio": ratio, "first": guarded[0], "exchanges": exchanges / len(bare)}


def asked(client: httpx.Client, path: str, think: float) -> float:
    """Return the seconds of one answer, and think."""
    start = time.perf_counter()
    client.get(path).raise_for_status()
    taken = time.perf_counter() - start
    time.sleep(think)
    return taken


def quantiles(times: list[float]) -> list[float]:
    """Return the median and the 99 % quantile."""
    return [statistics.median(times), statistics.quantiles(times, n=100)[98]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--think", type=float, default=0.05)
    parser.add_argument("--clients", default="httpx,chromium")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(int(options.serve[0]), float(options.serve[1]))
        return
    clients = options.clients.split(",")
    if "chromium" in clients:
        need("chromium", packages=("playwright",))
    warn_if_busy()
    price, found = base_price(), {}
    with served(price) as url:
        for client in clients:
            measuring = measure_page if client == "chromium" else measure
            found[client] = measuring(url, options.requests, options.think)
            report(client, price, found[client])
    write(options.json, {"base_work": price, **found})


def report(client: str, price: float, found: dict[str, Any]) -> None:
    print(
        f"{client}: {price:.0f} evaluations a query; {found['exchanges']:.3f} exchanges an answer"
    )
    print(f"{'ms':10}{'median':>10}{'99 %':>10}")
    for name, unit in (("bare", 1e3), ("guarded", 1e3), ("ratio", 1.0)):
        print(f"{name:10}" + "".join(f"{unit * each:10.2f}" for each in found[name]))


if __name__ == "__main__":
    main()
