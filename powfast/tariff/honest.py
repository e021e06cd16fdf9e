"""Honest accounts as calibration counts them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from powfast.errors import InvalidInput
from powfast.tariff.checks import nonnegative_array
from powfast.tariff.evidence import EvidenceTariff
from powfast.tariff.recursion import FloatArray

# The overhead is that of a whole account of at least so many queries.
ACCOUNT_QUERIES = 1000
SHORTEST = 50


def usable(accounts: list[FloatArray], least: int) -> list[FloatArray]:
    """Accounts that are long enough to be counted; at least `least` of them."""
    long_enough = [trace for trace in accounts if len(trace) >= SHORTEST]
    if len(long_enough) < least:
        raise InvalidInput(
            f"honest accounts of {SHORTEST} queries and more: at least {least} are needed, "
            f"got {len(long_enough)}"
        )
    return long_enough


def read(accounts: Iterable[npt.ArrayLike]) -> list[FloatArray]:
    """One validated array per account."""
    return [nonnegative_array(trace, "honest evidence") for trace in accounts]


def extended(trace: FloatArray, rng: np.random.Generator) -> FloatArray:
    """`trace`, continued to a whole account by draws from itself where it is shorter."""
    missing = ACCOUNT_QUERIES - len(trace)
    return np.concatenate([trace, rng.choice(trace, missing)]) if missing > 0 else trace


def prices(accounts: list[FloatArray], opening: float) -> FloatArray:
    """Work per query of whole accounts in base prices, the opening included."""
    tariff = EvidenceTariff(1.0, opening, max_work=2.0**63)
    return np.array([tariff.work(trace)[0].mean() for trace in accounts])


def mean_logs(accounts: list[FloatArray]) -> list[float]:
    """One number per account that moves when its queries look more, or less, usual."""
    return [float(np.log(np.clip(trace, 1e-6, 1e6)).mean()) for trace in accounts]
