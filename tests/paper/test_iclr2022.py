"""The paper's tariff and evaluation against what its authors' unmodified code computed."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from powfast.errors import InvalidInput
from powfast.paper import figures
from powfast.tariff import EvidenceTariff, Iclr2022Tariff, from_json, simulate

MNIST = Iclr2022Tariff(0.2586694998187879, -16.497578873333396)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("dataset", figures.DATASETS)
def test_fit(data: Path, dataset: str) -> None:
    golden = json.loads((data / "paper/golden/golden_constants.json").read_text())[dataset]
    fitted = figures.tariff(data, dataset)
    assert fitted.slope == pytest.approx(golden["privacy_slope"], rel=1e-9)
    assert fitted.intercept == pytest.approx(golden["privacy_intercept"], rel=1e-9)


@pytest.mark.parametrize("dataset", figures.DATASETS)
def test_every_published_row(data: Path, dataset: str) -> None:
    golden = [
        row
        for row in rows(data / "paper/golden/golden_recompute_timings_rows.csv")
        if row["dataset"] == dataset
    ]
    points = figures.evaluate(data, dataset)
    assert [(p.mode, p.row) for p in points] == [(g["mode"], int(g["row"])) for g in golden]
    assert [p.bits for p in points] == [int(g["pow_bits"]) for g in golden]
    for ours, theirs in (
        ("accuracy", "accuracy"),
        ("queries", "queries_code"),
        ("cost", "privacy_cost_used"),
        ("expected", "expected_privacy"),
        ("puzzle_seconds", "pow_increment_s"),
        ("seconds", "raw_time_s"),
        ("pow_seconds", "pow_time_s"),
    ):
        np.testing.assert_allclose(
            [getattr(p, ours) for p in points], [float(g[theirs]) for g in golden], rtol=1e-6
        )


def test_table_2_as_printed(data: Path) -> None:
    table = figures.table2(data)
    assert len(table) == 23
    for row in table:
        assert abs(row.deviation) < 1e-3, row


def test_seconds_and_bits(data: Path) -> None:
    for row in rows(data / "paper/golden/diff_to_bits.csv"):
        seconds = MNIST.seconds(0.0, MNIST.intercept + float(row["abs_diff"]))
        assert seconds == pytest.approx(float(row["timing_s"]), rel=1e-9)
        assert MNIST.bits(seconds) == int(row["bits_int"])


def test_work_is_one_puzzle_per_request() -> None:
    costs = np.full(1000, 0.52815716)
    work, state = MNIST.work(costs)
    assert work.nonzero()[0].tolist() == [999]
    assert work[-1] == 2**21  # row 1 of copycat
    assert state.tolist() == [1000, pytest.approx(528.15716)]
    again, state = MNIST.work(costs, state)
    assert again.sum() == 2**24 and state[0] == 2000  # row 2
    assert MNIST.publish(work.sum()) == 2**21


def test_same_interface_as_the_evidence_tariff() -> None:
    assert (MNIST.input, EvidenceTariff(1.0).input) == ("iclr2022", "evidence")
    assert from_json(MNIST.to_json()) == MNIST
    assert len({MNIST, Iclr2022Tariff(MNIST.slope, MNIST.intercept)}) == 1
    result = simulate(MNIST, [[0.5] * 1000, [0.25] * 10])
    assert result.totals.tolist() == [2**21, 2**18]
    assert result.max_price.tolist() == [8.0, 1.0]


@pytest.mark.parametrize("costs", [[math.nan], [-1.0], [math.inf], [[1.0]], ["1"]], ids=repr)
def test_refuses_what_is_not_a_cost(costs: object) -> None:
    with pytest.raises(InvalidInput):
        MNIST.work(costs)


def test_the_two_tariffs_refuse_each_others_state() -> None:
    evidence = EvidenceTariff(1.0)
    with pytest.raises(InvalidInput):
        MNIST.work([1.0], evidence.work([1.0])[1])
    with pytest.raises(InvalidInput):
        evidence.work([1.0], MNIST.work([1.0])[1])


def test_refuses_a_fit_without_a_line() -> None:
    for queries, costs in (([1000], [1]), ([1, 1], [2, 3]), ([1, 2], [1])):
        with pytest.raises(InvalidInput):
            Iclr2022Tariff.fit(queries, costs)


def test_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="paper's figures"):
        figures.table2(tmp_path)
    with pytest.raises(InvalidInput, match="mnist, svhn, cifar10"):
        figures.evaluate(tmp_path, "../x")


def test_plot(data: Path, tmp_path: Path) -> None:
    figures.plot(data, tmp_path / "paper.png")
    assert (tmp_path / "paper.png").read_bytes().startswith(b"\x89PNG")
