"""The command, run as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import powfast
from powfast.challenge import Issuer, token_to_text
from powfast.http import parse_solution

SECRET = bytes(range(32))


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "powfast.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=120,
    )


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_version_names_the_kernel_in_use() -> None:
    done = run("--version", POWFAST_KERNEL="scalar")
    assert done.stdout == f"powfast {powfast.__version__} (kernel scalar)\n"
    assert parsed(run("--version", "--json", POWFAST_KERNEL="scalar"))["kernel"] == "scalar"


def test_an_unknown_kernel_is_a_clear_error() -> None:
    done = run("--version", POWFAST_KERNEL="abacus")
    assert done.returncode == 1
    assert "abacus" in done.stderr
    assert "scalar" in done.stderr
    assert "Traceback" not in done.stderr
    assert parsed(run("--version", "--json", POWFAST_KERNEL="abacus"))["error"] == "kernel"


def test_what_solve_prints_verify_accepts() -> None:
    token = Issuer({"a": SECRET}).issue(work=20_000, account="alice", request=b"\x01\x02")
    text = token_to_text(token)
    solved = run("solve", text)
    assert solved.returncode == 0
    assert solved.stderr == ""
    assert parse_solution(solved.stdout.strip())[0] == token
    as_json = parsed(run("solve", "--json", "-", stdin=text))
    assert as_json["work"] == 20_000
    assert as_json["evaluations"] > 0

    ring = f"a:{SECRET.hex()}"
    who = ("--account", "alice", "--request", "0102")
    done = run("verify", "-", *who, stdin=solved.stdout, POWFAST_KEYS=ring)
    assert (done.returncode, done.stderr) == (0, "")
    assert parsed(run("verify", as_json["solution"], "--json", *who, POWFAST_KEYS=ring))["admitted"]


@pytest.mark.parametrize(
    ("arguments", "ring", "error"),
    [
        (("solve", "rubbish!"), "", "malformed-token"),
        (("solve", "{token}", "--max-work", "100"), "", "too-much-work"),
        (("solve", "{token}", "--threads", "0"), "", "invalid-input"),
        (("verify", "{token}.AAAAAAAAAAA"), "", "invalid-input"),
        (("verify", "{token}.AAAAAAAAAAA"), "a:1234", "invalid-input"),
        (("verify", "{token}.AAAAAAAAAAA"), "b:" + "00" * 32, "unknown-key"),
        (("verify", "{token}.AAAAAAAAAAA"), "a:" + "00" * 32, "bad-signature"),
        (("verify", "{token}.AAAA"), "a:" + SECRET.hex(), "malformed-solution"),
        (("verify", "{token}.AAAAAAAAAAA", "--request", "xy"), "a:" + SECRET.hex(), "invalid"),
    ],
)
def test_wrong_input_is_one_typed_error(arguments: tuple[str, ...], ring: str, error: str) -> None:
    token = token_to_text(Issuer({"a": SECRET}).issue(work=1000))
    filled = [argument.format(token=token) for argument in arguments]
    done = run(*filled, POWFAST_KEYS=ring)
    assert done.returncode == 1
    assert done.stderr.startswith("powfast: ")
    assert done.stderr.count("\n") == 1
    assert parsed(run(*filled, "--json", POWFAST_KEYS=ring))["error"].startswith(error)


def test_no_command_shows_the_usage() -> None:
    done = run()
    assert done.returncode == 2
    assert "usage: powfast" in done.stderr
