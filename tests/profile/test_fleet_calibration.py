"""calibrate with a fleet: the overhead is that of accounts on the fleet's devices, by weight."""

from __future__ import annotations

import numpy as np
import profiles
import pytest

from powfast.profile import Fleet
from powfast.tariff import Calibration, calibrate, check, simulate

SECONDS = 0.005


def accounts(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.exponential(0.8, 1000) for _ in range(count)]


def fleet(*devices: tuple[float, float]) -> Fleet:
    found = tuple(profiles.example(rate) for rate, _ in devices)
    return Fleet(found, tuple(weight for _, weight in devices))


@pytest.fixture(scope="module")
def honest() -> list[np.ndarray]:
    return accounts(200, 1)


@pytest.fixture(scope="module")
def mixed(honest: list[np.ndarray]) -> Calibration:
    return calibrate(honest, service_time=SECONDS, profile=fleet((4e7, 0.95), (2e6, 0.05)))


def test_a_fleet_of_one_device_is_that_device(honest: list[np.ndarray]) -> None:
    alone = calibrate(honest, service_time=SECONDS, hash_rate=4e7)
    of_one = calibrate(honest, service_time=SECONDS, profile=fleet((4e7, 3.0)))
    alike = calibrate(honest, service_time=SECONDS, profile=fleet((4e7, 1.0), (4e7, 2.0)))
    assert of_one.to_json() == alone.to_json() == alike.to_json()


def test_new_accounts_on_the_fleet_s_devices_keep_to_the_overhead(mixed: Calibration) -> None:
    fresh = accounts(1000, 2)
    result = simulate(mixed.tariff, fresh)
    rates = np.random.default_rng(3).choice([4e7, 2e6], len(fresh), p=[0.95, 0.05])
    overhead = 1 + result.totals / result.queries / (SECONDS * rates)
    assert (overhead > 2.0).mean() <= 0.01 + 4 * np.sqrt(0.01 / len(fresh))
    slow = 1 + result.totals / result.queries / (SECONDS * 2e6)
    assert np.quantile(slow, 0.5) > 1.5  # and the slow devices' room is used


def test_the_slowest_tenth_is_reported(mixed: Calibration) -> None:
    honest = mixed.report["honest"]
    tenth = honest["slowest_tenth_of_devices"]
    assert tenth["highest_hash_rate"] == 4e7  # half of the tenth are fast
    slowest = tenth["overhead"]
    assert slowest["50%"] < slowest["95%"] <= slowest["99%"]
    assert slowest["99%"] >= honest["quantiles"]["99%"]["overhead"]
    assert honest["quantiles"]["50%"]["overhead"] < 1.2


def test_slower_fleets_pay_the_same_time_for_less_work(honest: list[np.ndarray]) -> None:
    works = [
        calibrate(honest, service_time=SECONDS, profile=fleet((4e7, 1.0 - slow), (2e6, slow)))
        for slow in (0.001, 0.05, 0.5)
    ]
    base = [calibration.tariff.base_work for calibration in works]
    assert base[0] > 10 * base[1] >= 10 * base[2]


def test_extractors_are_counted_on_the_fastest_device(
    honest: list[np.ndarray], mixed: Calibration
) -> None:
    attack = mixed.report["attacks"]["nominal"]["best_split"]
    price = mixed.tariff.base_work / (SECONDS * 4e7)
    assert attack["overhead"] == pytest.approx(1 + attack["base_prices"] * price)


def test_drift_is_checked_against_the_client_that_the_fleet_amounts_to(mixed: Calibration) -> None:
    agreed = Calibration.from_json(mixed.to_json())
    assert 2e6 <= agreed.provenance["hash_rate"] <= 4e7
    assert not check(agreed, accounts(200, 5))["drifted"]
    rng = np.random.default_rng(6)
    assert check(agreed, [rng.exponential(1.1, 1000) for _ in range(200)])["drifted"]
