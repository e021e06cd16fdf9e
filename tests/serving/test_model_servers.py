"""examples/model_servers: model servers that carry the middleware in themselves.

LitServe always; BentoML where it is installed, which CI does not do (its size).
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import PATIENCE, ROOT, missing
from processes import settings
from service import ALICE, BASE, token_of
from stores import free_port

from powfast.challenge import decode
from powfast.clients.httpx import PowAuth

EXAMPLE = ROOT / "examples/model_servers"
COMMANDS = {
    "litserve": ["lit.py"],
    "bentoml": ["-m", "bentoml", "serve", "bento:Sum", "--host", "127.0.0.1", "--port"],
}
ANSWERS = {"litserve": '{"y":3}', "bentoml": "3.0"}
INSTALLED = [name for name in COMMANDS if importlib.util.find_spec(name) or name == "litserve"]


@pytest.fixture(params=INSTALLED)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    name = request.param
    if importlib.util.find_spec(name) is None:
        missing("LitServe is not installed: pip install 'powfast[litserve]'")
    store, port = f"sqlite:///{tmp_path}/ledger.db", free_port()
    environ = settings(tmp_path, store, BASE, paths="/predict") | {"BENTOML_DO_NOT_TRACK": "1"}
    command = [sys.executable, *COMMANDS[name], str(port)]
    # its children outlive it where it alone is ended
    server = subprocess.Popen(command, env=environ, cwd=EXAMPLE, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while not _is_ready(url):
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        yield name, url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code in (200, 404)
    except httpx.TransportError:
        return False


def test_an_answer_is_paid_before_it_is_read(server: tuple[str, str]) -> None:
    name, url = server
    asked = httpx.post(f"{url}/predict", json={"x": [1, 2]}, headers=ALICE)
    assert asked.status_code == 402
    assert decode(token_of(asked)).work == BASE
    with httpx.Client(auth=PowAuth(), headers=ALICE) as client:
        answer = client.post(f"{url}/predict", json={"x": [1, 2]})
        assert (answer.status_code, answer.text) == (200, ANSWERS[name])
        assert "work=" in answer.headers["pow-receipt"]
        again = client.post(f"{url}/predict", json={"x": "no list"})
        assert again.status_code >= 400  # the model's own refusal passes
        assert "www-authenticate" not in again.headers
