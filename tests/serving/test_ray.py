"""examples/ray_serve with the real Ray Serve and Redis: two replicas are one gate."""

from __future__ import annotations

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from conftest import ROOT, missing
from processes import settings, started
from stores import free_port, redis_serving

from powfast.challenge import solve
from powfast.http import challenge_in, format_solution

BASE = 1000
ALICE = {"authorization": "Bearer alice"}
ASK = {"inputs": [[1.0, 2.0]]}

# what `serve run app:model` does, on a port and within the memory of a test
SERVE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
import ray
from ray import serve
ray.init(include_dashboard=False, num_cpus=2, object_store_memory=80_000_000)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
import app
serve.run(app.model, blocking=True)
"""


def test_a_solution_may_reach_any_replica(tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        missing("Ray is not installed: pip install 'powfast[ray]'")
    port = free_port()
    with redis_serving(tmp_path) as server:
        environ = settings(tmp_path, server.url, BASE, paths="/v1/", store_timeout="30")
        environ |= {"PYTHONPATH": str(ROOT / "examples/ray_serve"), "RAY_USAGE_STATS_ENABLED": "0"}
        command = [sys.executable, "-c", SERVE, str(port)]
        with (
            started(command, port, environ=environ, folder=tmp_path) as url,
            httpx.Client(base_url=url, headers=ALICE) as client,
        ):
            await_replicas(client)
            one_gate(client)


def await_replicas(client: httpx.Client) -> None:
    deadline = time.monotonic() + 180
    while client.post("/v1/predict", json=ASK).status_code != 402:
        assert time.monotonic() < deadline, "the replicas did not start"
        time.sleep(0.2)


def one_gate(client: httpx.Client) -> None:
    """Each answer is computed by one replica; which one releases it, Ray decides."""
    replicas = set()
    for x in range(200):
        ask = {"inputs": [[x, 2.0]]}
        answer = client.post("/v1/predict", json=ask, headers=paid(client, ask))
        assert answer.status_code == 200, answer.text
        assert answer.json()["answers"] == [x + 2.0]
        replicas.add(answer.json()["replica"])
        if x > 20 and len(replicas) == 2:
            break
    assert len(replicas) == 2, "one replica answered everything"

    solution = paid(client, ASK)
    first = client.post("/v1/predict", json=ASK, headers=solution)
    with ThreadPoolExecutor(8) as pool:
        again = list(
            pool.map(lambda _: client.post("/v1/predict", json=ASK, headers=solution), range(16))
        )
    answers = [first, *again]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["replica"] for answer in answers}) == 1  # it is computed once


def paid(client: httpx.Client, ask: object) -> dict[str, str]:
    asked = client.post("/v1/predict", json=ask)
    token = challenge_in(asked.status_code, asked.headers.get("www-authenticate"))
    assert token is not None, asked.text
    return {"pow-solution": format_solution(token, solve(token))}
