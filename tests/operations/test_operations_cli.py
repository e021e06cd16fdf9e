"""`powfast keys` and `powfast account`, run as operators run them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from powfast import keyring
from powfast.accounts import account_of
from powfast.cli import main
from powfast.sketch import Advance
from powfast.stores import SQLiteLedger
from powfast.stores.base import AccountRecord
from powfast.tariff import EvidenceTariff

TARIFF, RUN = EvidenceTariff(base_work=1000, opening_work=5000), bytes(16)


def record_of(store: SQLiteLedger, account: str) -> AccountRecord:
    record = store.account(account)
    assert record is not None
    return record


def run(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_keys_are_made_rotated_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ring.toml"
    made = run(capsys, "keys", "make", str(path))
    assert [key["stage"] for key in made["keys"]] == ["signs", "next"]
    assert run(capsys, "keys", "show", str(path)) == made
    rotated = run(capsys, "keys", "rotate", str(path))
    assert [key["stage"] for key in rotated["keys"]] == ["retired", "signs", "next"]
    assert [key["id"] for key in rotated["keys"]][:2] == [key["id"] for key in made["keys"]]
    assert run(capsys, "keys", "make", str(path), status=2)["error"] == "invalid-input"
    assert "ago" in run(capsys, "keys", "rotate", str(path), status=2)["detail"]
    assert len(run(capsys, "keys", "rotate", str(path), "--overlap", "0")["keys"]) == 3
    assert main(["keys", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    for key in keyring.read(path):
        assert key.key_id in shown
        assert key.secret.hex() not in shown


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteLedger]:
    file = tmp_path / "powfast.toml"
    (tmp_path / "tariff.json").write_text(TARIFF.to_json())
    file.write_text(f'tariff = "{tmp_path}/tariff.json"\nstore = "sqlite:///{tmp_path}/l.sqlite"\n')
    monkeypatch.setenv("POWFAST_CONFIG", str(file))
    with closing(SQLiteLedger(tmp_path / "l.sqlite", TARIFF)) as ledger:
        yield ledger


def test_an_account_is_shown_and_pardoned(
    store: SQLiteLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "account", "show", "alice") == {"account": "alice", "known": False}
    store.charge("alice", "", b"1", RUN, [30.0] * 4)
    dear = run(capsys, "account", "show", "alice")
    assert (dear["known"], dear["queries"]) == (True, 4)
    assert dear["price"] == pytest.approx(TARIFF.price(record_of(store, "alice").state))
    assert dear["price"] > 100
    assert dear["balance"] == record_of(store, "alice").balance < 0
    assert (dear["unpaid_runs"], dear["opened"]) == (1, False)
    pardoned = run(capsys, "account", "reset", "alice")
    assert pardoned["price"] == 1
    assert (pardoned["balance"], pardoned["unpaid_runs"], pardoned["opened"]) == (0, 0, True)
    store.report("alice", "", b"1", [1.0], 0.0)  # of an answer that was read, and is not paid
    assert run(capsys, "account", "show", "alice")["unpaid_runs"] == "answers"
    assert run(capsys, "account", "reset", "alice")["balance"] == 0
    assert store.charge("alice", "", b"2", RUN, [1.0])[:3] == (1000, 1000, -1000)
    assert record_of(store, "alice").opened
    assert main(["account", "show", "alice"]) == 0
    assert "alice" in capsys.readouterr().out


def test_what_an_account_adds_up_to_is_shown(
    tmp_path: Path, store: SQLiteLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    tariff = replace(TARIFF, account_evidence=True)
    (tmp_path / "tariff.json").write_text(tariff.to_json())
    assert "sketch_queries" not in run(capsys, "account", "reset", "alice")
    with closing(SQLiteLedger(tmp_path / "l.sqlite", tariff)) as ledger:
        advance = Advance([30.0] * 4, [4.0, 1.0], [0.0, 0.0], b"\1" * 8)
        ledger.charge("alice", "", b"1", RUN, [1.0] * 4, advance=advance)
    shown = run(capsys, "account", "show", "alice")
    assert (shown["sketch_queries"], shown["sketch_version"]) == (4, "01" * 8)
    state = np.array(shown["state"])
    assert shown["account_wealth"] == pytest.approx(state[9:16].mean())
    assert shown["price"] == pytest.approx((state[1:8].mean() + shown["account_wealth"]) / 2)
    pardoned = run(capsys, "account", "reset", "alice")
    assert pardoned["price"] == 1 and "sketch_queries" not in pardoned


def test_a_group_is_shown_and_reset(
    store: SQLiteLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    store.charge("alice", "family", b"1", RUN, [30.0] * 2)
    store.charge("bob", "family", b"1", RUN, [30.0] * 2)
    assert run(capsys, "account", "group", "family")["queries"] == 4
    assert run(capsys, "account", "show", "bob", "--group", "family")["queries"] == 2
    assert run(capsys, "account", "group", "family", "--reset")["price"] == 1


def test_an_account_is_found_by_its_authorization_header(
    store: SQLiteLedger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "Bearer sk-1"
    store.charge(account_of(header), "", b"1", RUN, [1.0])
    monkeypatch.setattr("sys.stdin", io.StringIO(header + "\n"))
    assert run(capsys, "account", "show", "-")["queries"] == 1


def test_a_store_in_memory_cannot_be_looked_into(
    store: SQLiteLedger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWFAST_STORE", "memory://")
    assert "memory" in run(capsys, "account", "show", "alice", status=2)["detail"]


def test_a_pool_of_newcomers_is_shown_and_reset(
    store: SQLiteLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh: dict[str, Any] = {
        "newcomers": "",
        "known": False,
        "queries": 0,
        "price": 1.0,
        "opening": 5.0,
    }
    fresh["state"] = None
    assert run(capsys, "account", "newcomers") == fresh
    for number in range(20):
        store.charge(f"new {number}", "", b"1", RUN, [1e6] * 4, newcomers="web")
    hot = run(capsys, "account", "newcomers", "web")
    record = store.newcomers("web")
    assert record is not None
    hot_state = {"known": True, "queries": 80, "price": 5.0, "state": record.state.tolist()}
    assert hot == {**fresh, "newcomers": "web", **hot_state}
    assert run(capsys, "account", "newcomers") == fresh
    assert run(capsys, "account", "newcomers", "web", "--reset")["price"] == 1.0
