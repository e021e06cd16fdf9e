"""The report against scikit-learn's AUROC, and from files as the command line calls it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from powfast.errors import InvalidInput
from powfast.leakage import LeakageEstimator, report_files
from powfast.leakage.report import separation


def test_auroc_and_shares():
    rng = np.random.default_rng(0)
    honest = rng.integers(0, 20, 500).astype(float)
    suspicious = rng.integers(5, 25, 300).astype(float)
    row = separation("x", honest, suspicious)
    truth = np.repeat([0, 1], [500, 300])
    assert row.auroc == pytest.approx(roc_auc_score(truth, np.concatenate([honest, suspicious])))
    assert row.contested == (suspicious > 19).mean() > row.honest_contested == 0.0
    assert row.ratio == pytest.approx(suspicious.mean() / honest.mean())
    assert separation("x", honest - 1, suspicious).ratio is None, "means nothing below 0"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    images, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(images[:700] / 16, labels[:700])
    np.savez(folder / "training.npz", features=images[:700], labels=labels[:700])
    for name, x in (("honest", images[700:]), ("inverted", 16 - images[700:1000])):
        np.savez(folder / f"{name}.npz", features=x, probabilities=model.predict_proba(x / 16))
    return folder


def test_report_from_files(files, tmp_path):
    report = report_files(*(files / f"{n}.npz" for n in ("training", "honest", "inverted")))
    assert [row.name for row in report.rows] == ["evidence", *LeakageEstimator.score_names]
    assert report.rows[0].auroc > 0.9
    assert report.suspicious_growth > report.honest_growth
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["name"] == "evidence"
    assert str(report).count("\n") == 2 + len(LeakageEstimator.score_names)
    report.plot(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_files_that_lack_something_raise(files, tmp_path):
    with pytest.raises(InvalidInput, match="lacks probabilities"):
        report_files(files / "training.npz", files / "training.npz", files / "inverted.npz")
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(InvalidInput):
        report_files(tmp_path / "text.npz", files / "honest.npz", files / "inverted.npz")
