"""Build the C library with one compiler line and run its own tests, under sanitizers too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, missing

CSRC = ROOT / "csrc"
SOURCES = [*CSRC.glob("*.c"), *CSRC.glob("kernels/*.c")]
STRICT = ["-O2", "-Wall", "-Wextra", "-Werror", f"-I{CSRC / 'include'}"]


def compiler(name: str) -> str:
    """Return the path of a compiler, in any version that is installed."""
    names = [name, *(f"{name}-{version}" for version in range(25, 12, -1))]
    return next(filter(None, map(shutil.which, names)), None) or missing(f"no {name} here")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["gcc", "clang"])
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"],
        ["-DPOWFAST_NO_SIMD", "-march=x86-64"],
    ],
    ids=["plain", "sanitized", "no-simd"],
)
def test_library_alone(tmp_path, name, flags):
    program = tmp_path / "program"
    source = Path(__file__).parent / "test_library.c"
    run(compiler(name), "-std=c11", *STRICT, *flags, source, *SOURCES, "-o", program)
    assert run(program).endswith("checks passed\n")


@pytest.mark.parametrize(
    ("name", "language"),
    [("gcc", "-xc"), ("g++", "-xc++"), ("clang", "-xc"), ("clang++", "-xc++")],
)
def test_header_compiles_alone(name, language):
    header = CSRC / "include" / "powfast.h"
    run(compiler(name), language, "-pedantic", *STRICT, "-fsyntax-only", header)
