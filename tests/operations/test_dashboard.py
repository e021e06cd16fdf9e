"""The Grafana dashboard: every query of it, asked of a real Prometheus after real traffic."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
from conftest import ROOT, missing
from ports import free_port
from traffic import BASE, Extraction, Traffic

from powfast.observers.metrics import Metrics

EXAMPLES = ROOT / "examples" / "grafana"
PANELS = json.loads((EXAMPLES / "powfast.json").read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def served(metrics: Metrics) -> Iterator[int]:
    with make_server("127.0.0.1", 0, metrics.wsgi, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def scraped(port: int, folder: Path) -> Iterator[httpx.Client]:
    """Run Prometheus with the example's configuration, quicker, over one server's metrics."""
    program = shutil.which("prometheus")
    if program is None:
        missing("prometheus is not installed")
    text = (EXAMPLES / "prometheus.yml").read_text()
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("15s", "200ms")
    (folder / "prometheus.yml").write_text(text)
    mine = free_port()
    flags = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{mine}",
    }
    with (folder / "prometheus.log").open("wb") as log:
        command = [program, *(f"--{name}={value}" for name, value in flags.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{mine}/api/v1") as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def values(client: httpx.Client, query: str) -> list[float]:
    """Return what a query gives now; nothing where Prometheus does not answer yet."""
    try:
        answer = client.get("/query", params={"query": query})
    except httpx.TransportError:
        return []
    if answer.status_code == 503:  # it listens, but has not read its own storage yet
        return []
    said = answer.json()
    assert said["status"] == "success", (query, said)
    return [float(each["value"][1]) for each in said["data"]["result"]]


def test_every_panel_shows_what_happened(tmp_path: Path) -> None:
    metrics = Metrics(BASE)
    traffic = Traffic(metrics)
    asyncio.run(traffic.all_kinds())  # every series exists before the first scrape
    asyncio.run(Extraction(metrics).heat())
    queries = {query.replace("$__rate_interval", "1m") for query in QUERIES}
    assert len(queries) == len(QUERIES)
    with served(metrics) as port, scraped(port, tmp_path) as client:
        end = time.monotonic() + 120
        while not values(client, "powfast_challenges_issued_total"):
            assert time.monotonic() < end, (tmp_path / "prometheus.log").read_text()
            time.sleep(0.1)
        asyncio.run(traffic.all_kinds())
        while empty := [query for query in queries if not values(client, query)]:
            assert time.monotonic() < end, empty
            time.sleep(0.1)
        paid = 'increase(powfast_redeemed_total{outcome="ok"}[1m])'
        while sum(values(client, paid)) < 1:
            assert time.monotonic() < end, "paid requests do not show"
            time.sleep(0.1)
        (share,) = values(client, next(query for query in queries if 'le="2.0"' in query))
        assert 0 < share < 1


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    metrics = Metrics(BASE)
    asyncio.run(Traffic(metrics).all_kinds())
    asyncio.run(Extraction(metrics).heat())
    text = metrics.text().decode()
    samples = {line.split("{")[0].split(" ")[0] for line in text.splitlines()}
    words = {word for query in QUERIES for word in re.findall(r"powfast_\w+", query)}
    assert len(words) > 10
    assert words <= samples, words - samples
