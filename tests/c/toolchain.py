"""Compilers and emulators for the tests of the C library."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from conftest import ROOT, missing

HERE = Path(__file__).parent
CSRC = ROOT / "csrc"
SOURCES = [*CSRC.glob("*.c"), *CSRC.glob("kernels/*.c")]
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{CSRC / 'include'}"]
PASSED = "checks passed\n"


def tool(name: str) -> str:
    """Return the path of a program, in any version that is installed."""
    names = [name, *(f"{name}-{version}" for version in range(25, 12, -1))]
    return next(filter(None, map(shutil.which, names)), None) or missing(f"no {name} here")


def run(*command: str | Path, status: int = 0) -> str:
    """Run to the end, demand its exit status, return what it printed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, name: str, *flags: str, source: str = "test_library.c") -> Path:
    """Compile the library and a program on it with one line."""
    program = folder / "program"
    command = [tool(name), "-std=c11", "-O1", *STRICT, *flags, HERE / source, *SOURCES]
    run(*command, "-o", program)
    return program


def wasi_flags() -> list[str]:
    """Return what Node before 20 wants to hear before it runs WASI."""
    node = shutil.which("node")
    major = int(run(node, "--version").lstrip("v").split(".")[0]) if node else 20
    return ["--experimental-wasi-unstable-preview1"] if major < 20 else []
