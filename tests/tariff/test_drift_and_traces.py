"""Drift is seen when it is there, and false alarms are as rare as stated; files are strict."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from powfast.errors import InvalidInput
from powfast.tariff import Calibration, calibrate, check, load_traces, save_traces
from powfast.tariff.drift import _tail


def accounts(count: int, seed: int, power: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    p = [(1 - rng.random((3, rng.integers(200, 1500)))) ** power for _ in range(count)]
    kappas = (0.05, 0.1, 0.2, 0.5)
    return [np.mean([k * q ** (k - 1) for k in kappas], axis=(0, 1)) for q in p]


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    done = calibrate(accounts(200, 1), service_time=0.005, hash_rate=40e6)
    return Calibration.from_json(done.to_json())


def test_the_same_users_do_not_raise_an_alarm(calibration: Calibration) -> None:
    alarms = [check(calibration, accounts(40, seed), level=0.05) for seed in range(2, 62)]
    # Sixty checks against one calibration: five alarms and more are a 10 % event, nine a 0.1 % one.
    assert sum(report["drifted"] for report in alarms) <= 9


@pytest.mark.parametrize("power", [1.1, 0.9], ids=["more unusual", "more usual"])
def test_other_users_do(calibration: Calibration, power: float) -> None:
    report = check(calibration, accounts(40, 99, power))
    assert report["drifted"]
    moved = report["mean_log_evidence"]["now"] - report["mean_log_evidence"]["calibrated"]
    assert np.sign(moved) == np.sign(power - 1)


def test_nothing_is_changed(calibration: Calibration) -> None:
    before = calibration.to_json()
    check(calibration, accounts(40, 99, 2.0))
    assert calibration.to_json() == before


@pytest.mark.parametrize(
    ("above", "accounts", "chosen_on"), [(0, 10, 100), (1, 50, 100), (3, 40, 150), (40, 40, 20)]
)
def test_the_tail_is_that_of_the_beta_binomial(above: int, accounts: int, chosen_on: int) -> None:
    rank = 1 + int(np.ceil(0.99 * (chosen_on - 1)))
    expected = stats.betabinom.sf(above - 1, accounts, chosen_on - rank + 1, rank)
    assert _tail(above, accounts, chosen_on, 0.99) == pytest.approx(expected, rel=1e-9)


def test_refuses_to_judge_by_nothing(calibration: Calibration) -> None:
    with pytest.raises(InvalidInput, match="at least 1 are needed"):
        check(calibration, [[1.0] * 10])


# -- files


@pytest.mark.parametrize("traces", [[], [[1.0, 2.5]], [[1.0], [], [0.0, np.inf]]], ids=repr)
def test_traces_survive_their_file(tmp_path: Path, traces: list[list[float]]) -> None:
    save_traces(tmp_path / "x.npz", traces)
    assert [trace.tolist() for trace in load_traces(tmp_path / "x.npz")] == traces


def test_the_other_kind_of_input_is_refused(tmp_path: Path) -> None:
    save_traces(tmp_path / "x.npz", [[1.0]], kind="iclr2022")
    assert len(load_traces(tmp_path / "x.npz", "iclr2022")) == 1
    with pytest.raises(InvalidInput, match="holds 'iclr2022', the tariff takes 'evidence'"):
        load_traces(tmp_path / "x.npz")


GOOD = {"kind": np.array("evidence"), "values": np.ones(3), "queries": np.array([1, 2])}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": np.array(["evidence"])},
        {"values": np.array([1.0, np.nan, 1.0])},
        {"values": np.array([None, 1, 2], dtype=object)},
        {"queries": np.array([1, 3])},
        {"queries": np.array([-1, 4])},
        {"queries": np.array([1.0, 2.0])},
        {"queries": np.array(3)},
    ],
    ids=str,
)
def test_refuses_other_archives(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "x.npz", **(GOOD | change))
    with pytest.raises(InvalidInput):
        load_traces(tmp_path / "x.npz")


@pytest.mark.parametrize("name", GOOD)
def test_refuses_members_that_are_no_arrays(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "x.npz", **{other: GOOD[other] for other in GOOD if other != name})
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr(f"{name}.npy", b"evidence")
    with pytest.raises(InvalidInput):
        load_traces(tmp_path / "x.npz")


def test_refuses_other_files(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no")
    np.save(tmp_path / "one.npy", np.ones(3))
    np.savez(tmp_path / "less.npz", values=np.ones(3))
    for name, said in {
        "text": "text is not an .npz archive",
        "one.npy": "one.npy is not an .npz archive",
        "less.npz": "less.npz lacks kind and queries: it holds values",
    }.items():
        with pytest.raises(InvalidInput, match=said):
            load_traces(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_traces(tmp_path / "absent.npz")
