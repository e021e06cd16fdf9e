"""What every room's tests share: where the data is, patience, and that nothing skips in CI."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]


# A machine may stand still for seconds: that is no failure of what an example shows, nor of a
# server that a test asks without saying how long it would wait.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
PATIENCE = 120.0  # seconds
for library in ("httpx", "httpx2"):
    with suppress(ImportError):
        usual = inspect.signature(import_module(library).Client).parameters["timeout"].default
        usual.connect = usual.read = usual.write = usual.pool = PATIENCE


def missing(reason: str) -> NoReturn:
    """Skip for `reason` on a developer's machine, fail for it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def needs(*names: str) -> Any:
    """Import what only some tests need; skip the module that calls, or in CI fail, without it."""
    modules = []
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what their imports say is not ours to judge
                modules.append(import_module(name))
        except ImportError as error:
            missing(f"{name} is not installed: {error}")
    return modules if len(modules) > 1 else modules[0]


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder with MNIST, CIFAR-10 and the paper's figures."""
    folder = Path(os.environ.get("POWFAST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        missing(f"no data at {folder}: set POWFAST_DATA")
    return folder


@contextmanager
def modules_of(folder: Path) -> Iterator[None]:
    """Import from a folder meanwhile; forget its modules, whose names others have as well."""
    before = sys.path.copy()
    sys.path.insert(0, str(folder))
    invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(f"{folder}{os.sep}"):
                del sys.modules[name]
