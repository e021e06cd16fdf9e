"""`powfast serve` as a process of its own: its workers are one gate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from conftest import PATIENCE
from gateway_service import ASK, REQUEST, SECRET, paid, report, token_of, work_of
from processes import program, settings, started
from service import BASE
from stores import free_port


def test_the_command_serves(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "ours.py").write_text("from powfast.accounts import bearer as account")
    given = {"report_secret": SECRET, "metrics": "true", "account": "ours:account"}
    environ = settings(tmp_path, f"sqlite:///{tmp_path}/ledger.db", **given)
    command = [program("powfast"), "serve", "--port", str(port), "--workers", "2"]
    with (
        started(command, port, environ=environ, folder=tmp_path) as url,
        httpx.Client(base_url=url) as client,
    ):
        solution = paid(token_of(client.get("/check", headers=ASK)))
        headers = {**ASK, **solution}
        answers = [httpx.get(f"{url}/check", headers=headers).status_code for _ in range(6)]
        assert sorted(answers) == [200] + [401] * 5
        assert report(client, REQUEST, evidence=[50.0] * 5).status_code == 204
        assert work_of(client, **{"x-forwarded-uri": "/v1/next"}) > 2 * BASE
        assert client.get("/healthz").status_code == 200
        for _ in range(6):  # whichever worker says it
            metrics = httpx.get(f"{url}/metrics").text
            assert 'powfast_redeemed_total{outcome="ok"} 1.0' in metrics
            assert 'powfast_redeemed_total{outcome="already-redeemed"} 5.0' in metrics
        assert "server" not in client.get("/healthz").headers


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"report_secret": "short", "ttl": "x"}, ["POWFAST_REPORT_SECRET", "16", "POWFAST_TTL"]),
        ({}, ["memory serves one worker"]),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, given: dict[str, str], said: list[str]
) -> None:
    command = [sys.executable, "-m", "powfast.cli", "serve", "--workers", "2"]
    environ = settings(tmp_path, "memory://", **given)
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert all(word in ended.stderr for word in said)
    assert "short" not in ended.stderr
    assert "Traceback" not in ended.stderr
