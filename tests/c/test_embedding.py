"""Programs in four languages on the library that the package ships, by what it says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from toolchain import run, tool

import powfast
from powfast import kernel

EXAMPLES = ROOT / "examples" / "embedding"
SOLVED = f"solved and verified by {kernel.active_kernel()}\n"


def said(*options: str) -> list[str]:
    return run(sys.executable, "-m", "powfast", *options).split()


def from_pkg_config() -> list[str]:
    folder = said("--pkgconfigdir")
    assert folder == [powfast.get_pkgconfig()]
    done = subprocess.run(
        [tool("pkg-config"), "--cflags", "--libs", "powfast"],
        env=os.environ | {"PKG_CONFIG_PATH": folder[0]},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("places", [lambda: said("--cflags", "--libs"), from_pkg_config])
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_c(tmp_path: Path, name: str, places) -> None:
    program = tmp_path / "embed"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    run(tool(name), *strict, EXAMPLES / "embed.c", *places(), "-o", program)
    assert run(program).endswith("admitted after 2000000 expected evaluations\n")


def test_cpp(tmp_path: Path) -> None:
    program = tmp_path / "solve"
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread"]
    places = said("--cflags", "--libs")
    run(tool("g++"), *strict, EXAMPLES / "solve.cpp", *places, "-o", program)
    assert run(program) == SOLVED


def test_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tool("go")
    monkeypatch.setenv("GOCACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CGO_CFLAGS", *said("--cflags"))
    monkeypatch.setenv("CGO_LDFLAGS", *said("--libs"))
    run(go, "vet", EXAMPLES / "solve.go")
    assert run(go, "run", EXAMPLES / "solve.go") == SOLVED


def test_rust(tmp_path: Path) -> None:
    program, (library,) = tmp_path / "solve", said("--libs")
    checked = ["--edition=2021", "-O", "-D", "warnings"]
    run(tool("rustc"), *checked, "-C", f"link-arg={library}", EXAMPLES / "solve.rs", "-o", program)
    assert run(program) == SOLVED
