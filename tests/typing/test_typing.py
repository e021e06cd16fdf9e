"""What type checkers make of the package, as its users see it, and of the native module's stub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, needs

needs("mypy", "pyright")
HERE = Path(__file__).parent


def checked(*command: str | Path) -> None:
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": here}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_sees_what_users_should() -> None:
    checked("mypy", HERE / "surface.py")  # an ignored error that is none is an error


def test_pyright_sees_what_users_should() -> None:
    checked("pyright", "--pythonpath", sys.executable, HERE / "surface.py")


def test_pyright_finds_nothing_wrong_in_the_package() -> None:
    checked("pyright", "--pythonpath", sys.executable, ROOT / "powfast")


def test_every_public_name_has_a_type() -> None:
    checked("pyright", "--verifytypes", "powfast", "--ignoreexternal")


def test_the_stub_describes_the_native_module() -> None:
    allowed = ["--allowlist", HERE / "stubtest.txt", "--ignore-unused-allowlist"]
    checked("mypy.stubtest", "powfast._native", "--mypy-config-file", "pyproject.toml", *allowed)
