"""`powfast demo`: what it promises holds, and a rerun gives the same prices."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from powfast.cli import main

NAMES = {
    "honest": 3,
    "extractor": 4,
}
KEYS = {
    "name", "kind", "accounts", "queries", "accuracy", "fidelity", "mean_leakage", "work",
    "seconds", "undefended_seconds", "multiple", "solved",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp(f"demo{i}") for i in range(2)]
    for folder in folders:
        assert main(["demo", "--budget", "0.5", "--out", str(folder)]) == 0
    return folders


@pytest.fixture(scope="module")
def shown(runs: list[Path]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((runs[0] / "demo.json").read_text())
    return document


def row(shown: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in shown["rows"] if name in row["name"])
    return found


def test_the_rows_are_whole(shown: dict[str, Any]) -> None:
    assert 0.9 < shown["victim_accuracy"] <= 1.0
    kinds = [row["kind"] for row in shown["rows"]]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == NAMES
    for entry in shown["rows"]:
        assert set(entry) >= KEYS
        assert entry["queries"] == 2048
        assert math.isclose(
            entry["multiple"], entry["seconds"] / entry["undefended_seconds"], rel_tol=1e-9
        )
        if entry["kind"] == "extractor":
            assert 0.3 < entry["accuracy"] <= 1.0
            assert 0.3 < entry["fidelity"] <= 1.0


def test_honest_users_solve_for_no_longer_than_they_are_served(shown: dict[str, Any]) -> None:
    # by the demo's own rates: the clock of a busy machine is no test
    served = shown["service_time"] * 2048
    for entry in shown["rows"]:
        if entry["kind"] == "honest":
            assert entry["solved"] == "all"
            assert 0 < entry["work"] / shown["hash_rate"] <= served


def test_new_honest_accounts_pay_no_opening_with_their_first_request(shown: dict[str, Any]) -> None:
    first = row(shown, "first request")
    assert first["accounts"] == 32
    assert 2048 <= first["work"] / shown["base_work"] < 1.05 * 2048
    assert shown["opening_work"] > 100 * first["work"] / 32


def test_extractors_pay(shown: dict[str, Any]) -> None:
    # by the demo's own rates, as above
    def multiple(name: str) -> float:
        seconds: float = row(shown, name)["work"] / shown["hash_rate"]
        return seconds / (shown["service_time"] * 2048)

    assert multiple("photographs (CopyCat)") >= 20
    assert multiple("noise") >= 20
    assert multiple("split") >= 5
    assert row(shown, "split")["accounts"] > 100


def test_a_rerun_gives_the_same_prices_in_base_prices(runs: list[Path]) -> None:
    first, second = (json.loads((folder / "demo.json").read_text()) for folder in runs)
    for one, other in zip(first["rows"], second["rows"], strict=True):
        assert one["accuracy"] == other["accuracy"]
        assert one["mean_leakage"] == other["mean_leakage"]
        prices = [row["work"] / run["base_work"] for row, run in ((one, first), (other, second))]
        assert math.isclose(*prices, rel_tol=1e-3), one["name"]


def test_the_picture_is_a_picture(runs: list[Path]) -> None:
    assert (runs[0] / "demo.png").read_bytes().startswith(b"\x89PNG")
