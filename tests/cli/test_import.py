"""What `import powfast` costs, and what a missing extra says."""

from __future__ import annotations

import subprocess
import sys

import pytest

import powfast

HEAVY = ("numba", "fastapi", "starlette", "httpx", "httpx2", "sklearn", "rich", "matplotlib")


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_no_optional_dependency() -> None:
    loaded = python("import sys, powfast; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)
    assert "numpy" not in loaded


def test_every_public_name_exists() -> None:
    assert all(getattr(powfast, name) is not None for name in powfast.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = powfast.nonsense


@pytest.mark.parametrize(
    ("module", "without", "extra"),
    [
        ("powfast.servers.fastapi", "fastapi", "server"),
        ("powfast.clients.httpx", "httpx", "client"),
        ("powfast.clients.httpx2", "httpx2", "client"),
        ("powfast.servers.grpc", "grpc", "grpc"),
        ("powfast.clients.grpc", "grpc", "grpc"),
        ("powfast.servers.gateway", "starlette", "server"),
    ],
)
def test_a_missing_extra_is_named(module: str, without: str, extra: str) -> None:
    code = f"""
import sys; sys.modules[{without!r}] = None
from powfast.errors import MissingExtra
try: import {module}
except MissingExtra as error: print(error)
"""
    assert f"pip install 'powfast[{extra}]'" in python(code)


@pytest.mark.parametrize(
    ("command", "without", "extra"),
    [("bench", "rich", "cli"), ("demo", "sklearn", "demo"), ("serve", "uvicorn", "server")],
)
def test_a_missing_extra_of_a_command_is_named(command: str, without: str, extra: str) -> None:
    code = f"""
import sys, io; sys.modules[{without!r}] = None; sys.stderr = sys.stdout
from powfast.cli import main
main([{command!r}])
"""
    assert f"pip install 'powfast[{extra}]'" in python(code)
