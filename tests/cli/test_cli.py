"""The command, run as users run it."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import powfast
from powfast import keyring
from powfast.challenge import Issuer, token_to_text
from powfast.cli import parser
from powfast.http import parse_solution
from powfast.tariff import EvidenceTariff, save_traces

SECRET = bytes(range(32))


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "powfast.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=600,
    )


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_version_names_the_kernel_in_use() -> None:
    done = run("--version", POWFAST_KERNEL="scalar")
    assert done.stdout == f"powfast {powfast.__version__} (kernel scalar)\n"
    assert parsed(run("--version", "--json", POWFAST_KERNEL="scalar"))["kernel"] == "scalar"


def test_an_unknown_kernel_is_a_clear_error() -> None:
    done = run("--version", POWFAST_KERNEL="abacus")
    assert done.returncode == 2
    assert "abacus" in done.stderr
    assert "scalar" in done.stderr
    assert "Traceback" not in done.stderr
    assert parsed(run("--version", "--json", POWFAST_KERNEL="abacus"))["error"] == "kernel"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "powfast.cli", "--version"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


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
    ("arguments", "ring", "error", "status"),
    [
        (("solve", "rubbish!"), "", "malformed-token", 1),
        (("solve", "{token}", "--max-work", "100"), "", "too-much-work", 1),
        (("solve", "{token}", "--threads", "0"), "", "invalid-input", 2),
        (("verify", "{token}.AAAAAAAAAAA"), "a:1234", "invalid-input", 2),
        (("verify", "{token}.AAAAAAAAAAA"), "b:" + "00" * 32, "unknown-key", 1),
        (("verify", "{token}.AAAAAAAAAAA"), "a:" + "00" * 32, "bad-signature", 1),
        (("verify", "{token}.AAAA"), "a:" + SECRET.hex(), "malformed-solution", 1),
        (("verify", "{token}.AAAAAAAAAAA", "--request", "xy"), "a:" + SECRET.hex(), "invalid", 2),
        (("keys", "make", "/no/such/folder/ring"), "", "invalid-input", 2),
        (("profile", "show", "/no/such/file"), "", "invalid-input", 2),
        (("bench", "--out", "/no/such/folder/profile.json"), "", "invalid-input", 2),
    ],
)
def test_wrong_input_is_one_typed_error(
    arguments: tuple[str, ...], ring: str, error: str, status: int
) -> None:
    token = token_to_text(Issuer({"a": SECRET}).issue(work=1000))
    filled = [argument.format(token=token) for argument in arguments]
    done = run(*filled, POWFAST_KEYS=ring)
    assert done.returncode == status
    assert done.stderr.startswith("powfast: ")
    assert "Traceback" not in done.stderr
    assert parsed(run(*filled, "--json", POWFAST_KEYS=ring))["error"].startswith(error)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--port", "65536"), "not in 0 .. 65535"),
        (("serve", "--workers", "0"), "not in 1 .. 1024"),
        (("demo", "--serve", "--port", "-1"), "not in 0 .. 65535"),
        (("demo", "--seed", "-1"), "not in 0"),
        (("demo", "--budget", "nan"), "nan is not in"),
        (("demo", "--budget", "x"), "invalid float value: 'x'"),
        (("profile", "compare", "a.json", "--plot", "a.doc"), "does not end in .png"),
        (("account", "show", "alice", "--reset"), "unrecognized arguments: --reset"),
        (("account", "group", "lab", "--group", "x"), "unrecognized arguments: --group"),
    ],
)
def test_an_argument_out_of_range_is_refused_before_anything_runs(
    arguments: tuple[str, ...], said: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_takes_the_ring_of_a_file(tmp_path: Path) -> None:
    ring = tmp_path / "ring.toml"
    assert run("keys", "make", str(ring)).returncode == 0
    issuer = Issuer(keyring.secrets_by_id(keyring.read(ring)))
    solution = run("solve", token_to_text(issuer.issue(work=1000))).stdout
    done = run("verify", "-", stdin=solution, POWFAST_KEYS_FILE=str(ring))
    assert (done.returncode, done.stderr) == (0, "")
    unset = run("verify", "-", stdin=solution)
    assert unset.returncode == 2
    assert "keys_file" in unset.stderr


def test_serve_says_that_its_port_is_taken(tmp_path: Path) -> None:
    tariff = tmp_path / "tariff.json"
    tariff.write_text(EvidenceTariff(base_work=1000).to_json())
    settings = {"POWFAST_TARIFF": str(tariff), "POWFAST_KEYS": f"a:{SECRET.hex()}"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", str(taken.getsockname()[1]), **settings)
    assert done.returncode == 2
    assert "in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_command_shows_the_usage() -> None:
    done = run()
    assert done.returncode == 2
    assert "usage: powfast" in done.stderr


# every command, with arguments that it takes and then fails with
FAILING = {
    "solve": ["-"],
    "verify": ["-"],
    "bench": ["--out", "."],
    "profile show": ["none.json"],
    "profile compare": ["none.json"],
    "profile merge": ["none.json"],
    "profile answer": ["none.json"],
    "leakage report": ["none.npz", "none.npz", "none.npz"],
    "leakage layers": ["none.onnx"],
    "calibrate": ["none.npz", "--service-time", "1", "--hash-rate", "1"],
    "keys": ["show", "none.json"],
    "account show": ["alice"],
    "account reset": ["alice"],
    "account group": ["friends"],
    "account newcomers": [],
    "serve": [],
    "demo": ["--out", "/dev/null/none"],
    "paper": ["table2", "--data", "none"],
}


def parsers(root: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every parser below this one, by the words that lead to it."""
    found = {}
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                words = f"{name} {word}".strip()
                found |= {words: below} | parsers(below, words)
    return found


def test_every_command_is_among_those_that_are_tested() -> None:
    commands = {words for words, found in parsers(parser()).items() if found.get_default("run")}
    assert commands == set(FAILING)


@pytest.mark.parametrize("words", FAILING)
def test_json_is_asked_for_before_a_command_or_after_it(words: str) -> None:
    command = [*words.split(), *FAILING[words]]
    asked = [[*command[:at], "--json", *command[at:]] for at in range(len(words.split()) + 1)]
    heard = [vars(parser().parse_args(line)) for line in [*asked, [*command, "--json"]]]
    heard = [{name: value for name, value in found.items() if name != "run"} for found in heard]
    assert all(found == heard[0] for found in heard)
    assert heard[0]["json"] is True
    assert parser().parse_args(command).json is False


@pytest.mark.parametrize("words", FAILING)
def test_json_is_the_same_before_the_command_and_after_it(words: str) -> None:
    command = [*words.split(), *FAILING[words]]
    before, after = run("--json", *command), run(*command, "--json")
    assert parsed(before) == parsed(after)
    assert set(parsed(after)) == {"error", "detail"}
    assert (before.returncode, before.stderr) == (after.returncode, "")
    assert after.returncode in (1, 2)


@pytest.mark.parametrize("words", parsers(parser()))
def test_help_explains_every_argument(words: str) -> None:
    found = parsers(parser())[words]
    assert found.description
    for action in found._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
        if action.option_strings and action.default not in (None, False, "", argparse.SUPPRESS):
            assert "default" in action.help, action


@pytest.mark.parametrize(
    "command",
    [
        ["leakage", "report", "{file}", "{file}", "{file}"],
        ["calibrate", "{file}", "--service-time", "1", "--hash-rate", "1"],
        ["calibrate", "{traces}", "--service-time=1", "--hash-rate=1", "--suspicious", "{file}"],
        ["calibrate", "{traces}", "--service-time=1", "--hash-rate=1", "--estimator", "{file}"],
    ],
    ids=" ".join,
)
def test_a_file_that_is_no_npz_is_named_as_such(command: list[str], tmp_path: Path) -> None:
    file, traces = tmp_path / "features.csv", tmp_path / "traces.npz"
    file.write_text("0.25,0.75\n")
    save_traces(traces, [[1.0]])
    done = run(*(word.format(file=file, traces=traces) for word in command))
    said = f"powfast: {file} is not an .npz archive, as numpy.savez writes them\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_places_of_the_library() -> None:
    flags = run("--libs", "--cflags")
    assert flags.stdout == f"{powfast.get_library()} -I{powfast.get_include()}\n"
    said = {"cflags": f"-I{powfast.get_include()}", "pkgconfigdir": powfast.get_pkgconfig()}
    assert parsed(run("--json", "--cflags", "--pkgconfigdir")) == said
