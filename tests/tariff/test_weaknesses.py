"""Each weakness of the paper's defence is there in the paper's, and not in ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "weaknesses.py"


@pytest.fixture(scope="module")
def weaknesses() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weaknesses", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def defences(weaknesses: ModuleType, data: Path) -> object:
    return weaknesses.Defences(data)


@pytest.mark.parametrize(
    "name",
    [
        "replay",
        "shared_ledger",
        "merged",
        "banked",
        "cheap",
        "split",
        "burst",
        "saturation",
        "monotone",
        "whole_bits",
        "revealed",
        "unpaid",
        "pickles",
    ],
)
def test_is_repaired(weaknesses: ModuleType, defences: object, name: str) -> None:
    found = getattr(weaknesses, name)(defences)
    assert found.paper_holds and not found.powfast_holds, found


def test_the_table_is_complete(weaknesses: ModuleType) -> None:
    assert len(weaknesses.DEMONSTRATIONS) == 13
