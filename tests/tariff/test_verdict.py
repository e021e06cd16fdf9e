"""The verdict: what is defended is what pays clearly more than honest accounts, and no less."""

from __future__ import annotations

import json

import numpy as np
import pytest

from powfast.tariff import calibrate, judge

RNG = np.random.default_rng(0)
HONEST = [RNG.exponential(0.8, 1000) for _ in range(60)]


def judged(suspicious=None, rate=4e7, **options):
    calibration = calibrate(HONEST, service_time=0.005, hash_rate=rate, suspicious=suspicious)
    return calibration, judge(calibration, **options)


def test_attack_by_attack():
    calibration, found = judged({"loud": [30.0] * 50, "quiet": [0.2] * 50})
    assert found.defended == ["loud"] and found.undefended == ["quiet"]
    assert found.separates and not found.assumed
    usual = calibration.report["honest"]["quantiles"]["99%"]["overhead"]
    cheapest = min(way["overhead"] for way in calibration.report["attacks"]["loud"].values())
    assert found.attacks["loud"] == pytest.approx(cheapest / usual)
    assert "Not defended, at honest prices: quiet." in str(found)
    assert "Defended, dearer than honest use: loud (" in str(found)


def test_where_nothing_is_defended_one_sentence_says_so():
    _, found = judged({"quiet": [0.2] * 50, "honest": HONEST[0]})
    assert not found.separates and found.undefended == ["quiet", "honest"]
    assert str(found).startswith("Nothing is defended: no attack pays more than honest users do.")


def test_an_assumed_attack_is_called_so():
    _, found = judged()
    assert found.assumed and found.separates
    assert "No attack was measured" in str(found) and "Defended" not in str(found)


def test_the_opening_against_the_life_of_a_challenge():
    calibration, found = judged({"loud": [30.0] * 50})
    work = calibration.tariff.opening_work
    assert work > 0
    seconds = found.opening_seconds
    # the 99 % quantile of the time for 16 parts, by drawing
    drawn = RNG.exponential(work / 16 / 4e7, (100_000, 16)).sum(axis=1)
    assert seconds == pytest.approx(np.quantile(drawn, 0.99), rel=0.02)
    assert found.openable and "cannot" not in str(found)
    late = judge(calibration, lifetime=seconds / 2)
    assert not late.openable and "it cannot open an account" in str(late)
    assert late.longest_opening == pytest.approx(work / 2)


def test_what_is_missing_is_named_the_worst_first():
    _, found = judged({"loud": [30.0] * 50}, missing={n: n for n in range(1, 9)})
    assert "Honest queries missing: 36, class 8 (8), class 7 (7)" in str(found)
    assert str(found).count("class") == 5 and "and 3 more" in str(found)


def test_json_is_flat():
    _, found = judged({"loud": [30.0] * 50, "quiet": [0.2] * 50}, missing={4: 90})
    content = json.loads(json.dumps(found.to_dict()))
    assert not any(isinstance(value, dict) for value in content.values())
    assert content["defended"] == ["loud"] and content["undefended"] == ["quiet"]
    assert content["missing: class 4"] == 90 == content["honest_queries_missing"]
    assert content["times_honest: loud"] == found.attacks["loud"]
