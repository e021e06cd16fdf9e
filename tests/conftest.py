"""What every room's tests share: where the data is, and that nothing skips in CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]


def missing(reason: str) -> NoReturn:
    """Skip for `reason` on a developer's machine, fail for it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder with MNIST, CIFAR-10 and the paper's figures."""
    folder = Path(os.environ.get("POWFAST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        missing(f"no data at {folder}: set POWFAST_DATA")
    return folder
