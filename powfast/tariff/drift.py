"""Whether honest accounts are still those that a tariff was calibrated on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from powfast.tariff.calibration import Calibration
from powfast.tariff.checks import FloatArray
from powfast.tariff.honest import Running, extended, mean_logs, read, usable


def check(
    calibration: Calibration,
    honest: Iterable[npt.ArrayLike],
    *,
    level: float = 0.01,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare recent honest accounts with those of a calibration; changes nothing.

    Two tests, each at half of `level`: whether more accounts than agreed exceed the overhead
    (beta-binomial, since the agreed quantile was itself that of a sample), and whether the
    accounts' mean log evidence is distributed otherwise (Kolmogorov-Smirnov by permutation).

    Parameters
    ----------
    calibration : Calibration
    honest : iterable of (n_i,) array_like
        Evidence of recent honest accounts, counted as by `calibrate`.
    level : float
        Probability of a false alarm.
    seed : int
        Of all draws.

    Returns
    -------
    dict
        JSON values; `drifted` is the answer.

    Raises
    ------
    InvalidInput
        If the evidence is invalid or no account is long enough.
    """
    agreed, tariff = calibration.provenance, calibration.tariff
    rng = np.random.default_rng(seed)
    accounts = usable(read(honest), least=1)
    running = Running([extended(trace, rng) for trace in accounts])
    opening = 0.0 if tariff.probation else tariff.opening_work / tariff.base_work
    price = running.highest(opening)
    seconds = price * tariff.base_work / agreed["hash_rate"]
    above = int((1.0 + seconds / agreed["service_time"] > agreed["max_overhead"]).sum())
    before = np.array(agreed["honest_mean_log_evidence"])
    now = np.array(mean_logs(accounts))
    p_overhead = _tail(above, len(accounts), agreed["chosen_on_accounts"], agreed["quantile"])
    p_shift = _permutation(before, now, rng)
    return {
        "accounts": len(accounts),
        "accounts_above_max_overhead": above,
        "p_value_overhead": p_overhead,
        "mean_log_evidence": {"calibrated": float(before.mean()), "now": float(now.mean())},
        "p_value_shift": p_shift,
        "drifted": min(p_overhead, p_shift) <= level / 2,
    }


def _tail(above: int, accounts: int, chosen_on: int, quantile: float) -> float:
    """P(at least so many accounts above the one that a quantile of others stands at).

    The share of the population above the r-th smallest of N is Beta(N - r + 1, r) distributed,
    whatever the population; ties only lower the probability.
    """
    rank = 1 + math.ceil(quantile * (chosen_on - 1))
    a, b = chosen_on - rank + 1, rank
    terms = (
        math.exp(_log_choose(accounts, k) + _log_beta(k + a, accounts - k + b) - _log_beta(a, b))
        for k in range(above, accounts + 1)
    )
    return min(1.0, math.fsum(terms))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_choose(n: int, k: int) -> float:
    return -math.log(n + 1) - _log_beta(k + 1, n - k + 1)


def _permutation(before: FloatArray, now: FloatArray, rng: np.random.Generator) -> float:
    """p-value of the greatest distance between two distribution functions."""
    pooled = np.concatenate([before, now])
    observed = _distance(before, now)
    drawn = (rng.permutation(pooled) for _ in range(999))
    beaten = sum(_distance(p[: len(before)], p[len(before) :]) >= observed for p in drawn)
    return (1 + beaten) / 1000


def _distance(one: FloatArray, other: FloatArray) -> float:
    at = np.concatenate([one, other])
    shares = [np.sort(x).searchsorted(at, side="right") / len(x) for x in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())
