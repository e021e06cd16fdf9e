"""What a query of the demo's model costs, so that honest users wait at most twice as long."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

import httpx
import numpy as np

from powfast.clients.httpx import PowAuth
from powfast.demo.data import Images, Split, redrawn
from powfast.demo.service import Victim, application, served
from powfast.tariff import EvidenceTariff, calibrate

MAX_OVERHEAD = 2.0
_CEILING = 1e6  # base prices that a query costs at most, so that figures stay imaginable
_MARGIN = 0.5  # share of the allowed overhead that is spent: machines waver, and calls are short


def calibrated(
    victim: Victim, split: Split, *, rate: float, batch: int, opening: float, seed: int
) -> tuple[EvidenceTariff, float]:
    """Return a tariff for requests of `batch` queries, and the seconds of a bare call per query.

    `rate` is the evaluations a second of those whose wait is at most doubled, `opening` is in base
    prices, so that figures repeat whatever the machine. The second exchange and the estimator are
    overhead as well: what is left goes into solving.
    """
    rng = np.random.default_rng([seed, 2])
    bare, guarded = _call_times(victim, split.images[:batch])
    solving = max(0.05, MAX_OVERHEAD - guarded / bare)
    pool = np.vstack([redrawn(split.images, rng) for _ in range(8)])
    evidence = victim.evidence(pool)
    labels = np.tile(split.labels, 8)
    honest = []
    for account in range(200):
        classes = rng.choice(10, 10 if account % 2 else rng.integers(1, 4), replace=False)
        honest.append(evidence[rng.choice(np.flatnonzero(np.isin(labels, classes)), 1000)])
    calibration = calibrate(
        honest,
        service_time=bare / batch,
        hash_rate=rate,
        max_overhead=1.0 + _MARGIN * solving,
        seed=seed,
    )
    base = calibration.tariff.base_work
    tariff = replace(calibration.tariff, opening_work=opening * base, max_work=_CEILING * base)
    return tariff, bare / batch


def _call_times(victim: Victim, images: Images) -> tuple[float, float]:
    """Measure the seconds of a bare call, and of a guarded one with next to no work."""
    times: dict[str, list[float]] = {"/bare/predict": [], "/v1/predict": []}
    with (
        served(application(victim, EvidenceTariff(base_work=1.0))) as url,
        httpx.Client(base_url=url, auth=PowAuth(), timeout=600.0) as client,
    ):
        for _ in range(25):
            for path, seconds in times.items():
                started = time.perf_counter()
                client.post(path, json={"images": images.tolist()}).raise_for_status()
                seconds.append(time.perf_counter() - started)
    bare, guarded = (median(seconds[5:]) for seconds in times.values())
    return bare, guarded
