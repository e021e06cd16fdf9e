"""What the page serves: a model that knows pens as well, its price, and pictures to ask about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from powfast.demo.calibration import calibrated
from powfast.demo.data import Images, Split, digits, photo_patches
from powfast.demo.service import Victim
from powfast.demo.strokes import drawings
from powfast.profile import measure_client
from powfast.tariff import EvidenceTariff

_DRAWN = {"victim": 700, "reference": 500, "tariff": 400}
_PHOTOGRAPHS = 60
_OPENING = 1e4  # base prices: some seconds of a browser


@dataclass(frozen=True)
class Shop:
    """What is served, and what the page needs to know of it."""

    victim: Victim
    tariff: EvidenceTariff
    samples: Split
    photographs: Images


def worker_rate() -> float:
    """Measure what stands in for a browser, hashes a second: 128-bit vectors, one thread."""
    rates = measure_client(quick=True).rates
    single = {rate.kernel: rate.hashes_per_second for rate in rates if rate.threads == 1}
    return single.get("vector", min(single.values()))


@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def prepared(rate: float, seed: int = 0, say: Callable[[str], None] = print) -> Shop:
    """Train a model that knows pens as well, and price it for solvers of `rate` hashes a second."""
    say("training a model on handwritten and drawn digits")
    rng = np.random.default_rng([seed, 4])
    splits = digits(np.random.default_rng([seed, 0]))
    splits |= {name: _joined(splits[name], drawings(n, rng)) for name, n in _DRAWN.items()}
    victim = Victim(splits["victim"], splits["reference"], seed)
    say("calibrating the price on honest accounts")
    tariff, _ = calibrated(
        victim, splits["tariff"], rate=rate, batch=1, opening=_OPENING, seed=seed
    )
    return Shop(
        victim, tariff, _samples(victim, splits["honest"]), photo_patches(_PHOTOGRAPHS, rng)
    )


def _joined(one: Split, other: Split) -> Split:
    images, labels = (one.images, other.images), (one.labels, other.labels)
    return Split(np.vstack(images), np.concatenate(labels))


def _samples(victim: Victim, split: Split) -> Split:
    """Return the plainest example of each digit."""
    certainty = victim.probabilities(split.images)[np.arange(len(split.labels)), split.labels]
    best = [
        max(np.flatnonzero(split.labels == digit), key=certainty.__getitem__) for digit in range(10)
    ]
    return Split(split.images[best], split.labels[best])
