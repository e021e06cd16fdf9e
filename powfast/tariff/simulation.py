"""What a tariff asks of many accounts at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from powfast.tariff.checks import FloatArray
from powfast.tariff.evidence import EvidenceTariff
from powfast.tariff.loading import Tariff


@dataclass(frozen=True, eq=False)
class Simulation:
    """Outcome of `simulate`; accounts in the order of their traces.

    Attributes
    ----------
    work : tuple of (n_i,) float64
        Expected SHA-256 evaluations per query.
    queries : (m,) int64
        Queries of each account.
    totals : (m,) float64
        Work of each account, with the opening where it is asked first.
    mean_price : (m,) float64
        Work per query in base prices, with the opening where it is asked first; NaN where there
        are no queries.
    max_price : (m,) float64
        Highest price that an account ever reached, in base prices, the opening aside.
    """

    work: tuple[FloatArray, ...]
    queries: npt.NDArray[np.int64]
    totals: FloatArray
    mean_price: FloatArray
    max_price: FloatArray


def simulate(tariff: Tariff, traces: Iterable[npt.ArrayLike]) -> Simulation:
    """Price whole accounts, each new and, on probation, among calm newcomers.

    Parameters
    ----------
    tariff : Tariff
    traces : iterable of (n_i,) array_like
        One account's input each, of the kind `tariff.input` names; (n_i, 2) with account evidence.

    Raises
    ------
    InvalidInput
        If a trace is not valid input of the tariff.
    """
    if isinstance(tariff, EvidenceTariff) and tariff.probation:
        tariff = replace(tariff, opening_work=0.0)  # nobody is asked for it
    work = tuple(tariff.work(trace)[0] for trace in traces)
    queries = np.array([len(account) for account in work], dtype=np.int64)
    totals = np.array([account.sum() for account in work])
    highest = np.array([_highest(account, tariff.opening_work) for account in work])
    per_query = np.divide(totals, queries, out=np.full(len(work), np.nan), where=queries > 0)
    return Simulation(
        work, queries, totals, per_query / tariff.base_work, highest / tariff.base_work
    )


def _highest(work: FloatArray, opening_work: float) -> float:
    if not len(work):
        return 0.0
    return float(max(work[0] - opening_work, work[1:].max(initial=0.0)))
