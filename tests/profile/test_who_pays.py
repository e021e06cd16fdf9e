"""The page who-pays-what is what its benchmark writes."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def who_pays() -> ModuleType:
    file = ROOT / "benchmarks" / "who_pays.py"
    spec = importlib.util.spec_from_file_location("who_pays", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(who_pays: ModuleType) -> None:
    page = who_pays.PAGE.read_text()
    assert who_pays.written(page) == page, "run python benchmarks/who_pays.py --write"


def test_every_published_rate_has_its_source(who_pays: ModuleType) -> None:
    rows = who_pays.published()
    assert len(rows) >= 10
    for row in rows:
        assert row["source"].startswith("https://")
        assert row["kind"] in ("gpu", "sha256d")
        assert who_pays.one_block_rate(row) > 1e8


def test_double_hashes_are_two_blocks(who_pays: ModuleType) -> None:
    (s9,) = (row for row in who_pays.published() if row["device"] == "Antminer S9")
    assert who_pays.one_block_rate(s9) == 28e12
