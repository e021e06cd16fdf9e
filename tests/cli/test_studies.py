"""The commands of operators and researchers: calibrate, leakage report, paper table2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import profiles
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from powfast.cli import main
from powfast.leakage import LeakageEstimator
from powfast.tariff import from_json, save_traces

Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture) -> Any:
    return json.loads(capsys.readouterr().out)


def honest_accounts(file: Path, scale: float = 0.8, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    save_traces(file, [rng.exponential(scale, 1000) for _ in range(40)])
    return file


def test_calibrate_writes_a_tariff_with_its_report(tmp_path: Path, capsys: Capture) -> None:
    honest, out = honest_accounts(tmp_path / "honest.npz"), tmp_path / "tariff.json"
    save_traces(tmp_path / "bad.npz", [np.full(50, 20.0)])
    base = ["calibrate", str(honest), "--service-time", "0.005", "--out", str(out)]
    rate = ["--hash-rate", "4e7", "--suspicious", str(tmp_path / "bad.npz")]
    assert main([*base, *rate]) == 0
    text = capsys.readouterr().out
    assert "held-out honest accounts" in text
    assert "best split" in text
    assert "warning: " in text  # forty accounts cannot support a 99 % quantile
    first = from_json(out.read_text())
    assert first.input == "evidence"

    profile = tmp_path / "profile.json"
    profile.write_text(profiles.example(hash_rate=4e7).to_json())
    profiled = ["--profile", str(profile), "--suspicious", str(tmp_path / "bad.npz"), "--json"]
    assert main([*base, *profiled]) == 0
    assert printed(capsys)["honest"]["quantiles"]["50%"]["overhead"] <= 2.0
    assert from_json(out.read_text()) == first  # the same 4e7 evaluations a second


def test_calibrate_ends_with_a_verdict(tmp_path: Path, capsys: Capture) -> None:
    honest, out = honest_accounts(tmp_path / "honest.npz"), tmp_path / "tariff.json"
    save_traces(tmp_path / "odd.npz", [np.full(50, 20.0), np.full(50, 0.3)])
    save_traces(tmp_path / "usual.npz", [np.full(50, 0.3)])
    base = ["calibrate", str(honest), "--service-time", "0.005", "--hash-rate", "4e7"]
    base += ["--out", str(out)]
    assert main([*base, "--suspicious", str(tmp_path / "odd.npz")]) == 0
    text = capsys.readouterr().out
    assert "Not defended, at honest prices: extractor 2" in text
    assert "Defended, dearer than honest use: extractor 1" in text
    assert main([*base, "--suspicious", str(tmp_path / "usual.npz")]) == 1
    assert "Nothing is defended" in capsys.readouterr().out
    assert main([*base, "--suspicious", str(tmp_path / "usual.npz"), "--json"]) == 1
    assert printed(capsys)["verdict"]["separates"] is False


def test_calibrate_makes_attacks_of_honest_features(tmp_path: Path, capsys: Capture) -> None:
    images, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=2000).fit(images[:800], labels[:800])
    answers = model.predict_proba(images)
    estimator = LeakageEstimator().fit(images[:800], labels[:800])
    estimator.calibrate(images[800:1500], answers[800:1500]).save(tmp_path / "estimator.npz")
    np.savez(tmp_path / "features.npz", features=images[1500:])
    evidence = estimator.evidence(images[1500:], answers[1500:])
    rng = np.random.default_rng(0)
    save_traces(tmp_path / "honest.npz", [rng.permutation(evidence) for _ in range(40)])
    arguments = ["calibrate", str(tmp_path / "honest.npz"), "--service-time", "0.005"]
    arguments += ["--hash-rate", "4e7", "--out", str(tmp_path / "tariff.json"), "--json"]
    features = ["--features", str(tmp_path / "features.npz")]
    assert main([*arguments, *features]) == 2  # of which estimator?
    capsys.readouterr()
    assert main([*arguments, *features, "--estimator", str(tmp_path / "estimator.npz")]) == 0
    verdict = printed(capsys)["verdict"]
    assert {*verdict["defended"], *verdict["undefended"]} == {
        "columns resampled",
        "pairs mixed",
        "noise",
    }
    assert verdict["honest_queries_missing"] > 0


def test_check_reports_drift_and_changes_nothing(tmp_path: Path, capsys: Capture) -> None:
    honest, out = honest_accounts(tmp_path / "honest.npz"), tmp_path / "tariff.json"
    arguments = ["--service-time", "0.005", "--hash-rate", "4e7", "--out", str(out)]
    assert main(["calibrate", str(honest), *arguments]) == 0
    before = out.read_bytes()
    capsys.readouterr()
    alike = honest_accounts(tmp_path / "alike.npz", seed=1)
    assert main(["calibrate", str(alike), "--check", str(out)]) == 0
    assert "no drift" in capsys.readouterr().out
    drifted = honest_accounts(tmp_path / "drifted.npz", scale=1.0, seed=2)
    assert main(["calibrate", str(drifted), "--check", str(out), "--json"]) == 1
    assert printed(capsys)["drifted"] is True
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["calibrate", "missing.npz", "--service-time", "1", "--hash-rate", "1e6"],
        ["calibrate", "{honest}", "--hash-rate", "1e6"],
        ["calibrate", "{honest}", "--service-time", "1"],
        ["calibrate", "{honest}", "--service-time", "-1", "--hash-rate", "1e6"],
        ["calibrate", "{honest}", "--service-time", "1", "--profile", "{honest}"],
        ["calibrate", "{honest}", "--check", "missing.json"],
        ["leakage", "report", "{honest}", "{honest}", "{honest}"],
        ["paper", "table2", "--data", "missing"],
    ],
)
def test_wrong_input_is_one_clear_line(
    arguments: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    honest = honest_accounts(tmp_path / "honest.npz")
    assert main([argument.format(honest=honest) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("powfast: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "tariff.json").exists()


def test_leakage_report_separates_noise_from_digits(tmp_path: Path, capsys: Capture) -> None:
    images, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=2000).fit(images[:800], labels[:800])
    noise = np.random.default_rng(0).uniform(0.0, 16.0, (300, 64))
    files = {name: tmp_path / f"{name}.npz" for name in ("training", "honest", "suspicious")}
    np.savez(files["training"], features=images[:800], labels=labels[:800])
    for name, inputs in (("honest", images[800:]), ("suspicious", noise)):
        np.savez(files[name], features=inputs, probabilities=model.predict_proba(inputs))
    plot = tmp_path / "report.png"
    arguments = ["leakage", "report", *map(str, files.values())]
    assert main([*arguments, "--json", "--plot", str(plot)]) == 0
    found = printed(capsys)
    assert found["suspicious_growth"] > 1.0 > 0.0 > found["honest_growth"]
    assert max(row["auroc"] for row in found["rows"]) > 0.95
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(arguments) == 0
    assert "AUROC" in capsys.readouterr().out


def test_table_2_is_the_paper_s(data: Path, tmp_path: Path, capsys: Capture) -> None:
    plot = tmp_path / "figures.png"
    base = ["paper", "table2", "--data", str(data)]
    assert main([*base, "--json", "--plot", str(plot)]) == 0
    rows = printed(capsys)["rows"]
    assert len(rows) == 23
    assert all(abs(row["deviation"]) <= 1e-3 for row in rows)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(base) == 0
    assert "mnist CopyCat" in capsys.readouterr().out
