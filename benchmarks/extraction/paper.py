"""The paper's defence on the same queries: eps of 250 teachers, and its tariff."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.extraction.data import Floats, Images, Pictures
from powfast.leakage import TeacherEnsemble, from_votes
from powfast.tariff import Iclr2022Tariff

REQUEST = 1000  # queries that one of the authors' puzzles is for
SECONDS = 0.00736  # of one of their queries, leakage included: what they count against
_ACCOUNTS = (1000, 2000, 5000, 10_000)
_PERIODS = (1, 2, 3, 4, 5, 7, 10, 20)


class Teachers:
    """The authors' ensemble, as ridge heads on random features of the pixels."""

    def __init__(self, training: Pictures, teachers: int) -> None:
        self._sigma = teachers / 25
        self._heads = TeacherEnsemble(teachers, random_features=300, ridge=0.1)
        self._heads.fit(_flat(training.images), training.labels)

    def eps(self, images: Images) -> Floats:
        """Return the (n,) eps of queries."""
        votes = self._heads.votes(_flat(images))
        return np.asarray(from_votes(votes, self._sigma, "iclr2022", exact=False))


def fitted(honest: Sequence[Floats]) -> Iclr2022Tariff:
    """Fit the expected cost on eps of honest accounts, as the authors did on one user's."""
    eps = np.concatenate(honest)
    counts = np.arange(REQUEST, len(eps) + 1, REQUEST)[:10]
    return Iclr2022Tariff.fit(counts, eps.cumsum()[counts - 1])


def multiple(tariff: Iclr2022Tariff, eps: Floats) -> float:
    """Time over the bare time of one account that asks these queries, 1000 at once."""
    counts = np.unique(np.append(np.arange(REQUEST, len(eps), REQUEST), len(eps)))
    puzzles = tariff.seconds(counts, eps.cumsum()[counts - 1]).sum()
    return float(1.0 + puzzles / (SECONDS * len(eps)))


def best_split(tariff: Iclr2022Tariff, eps: Floats) -> float:
    """Return the same multiple, over accounts of the best of some sizes."""
    return min(
        float(np.mean([multiple(tariff, part) for part in _parts(eps, size)]))
        for size in _ACCOUNTS
        if size <= max(len(eps), _ACCOUNTS[0])
    )


def best_dilution(tariff: Iclr2022Tariff, eps: Floats, ordinary: float) -> float:
    """Return bare times per useful query, one among so many of cost `ordinary`."""
    costs = []
    for period in _PERIODS:
        mixed = np.full(len(eps) * period, ordinary)
        mixed[::period] = eps
        costs.append(period * best_split(tariff, mixed[:10_000]))
    return min(costs)


def _parts(eps: Floats, size: int) -> list[Floats]:
    return np.split(eps, range(size, len(eps), size))


def _flat(images: Images) -> Floats:
    return images.reshape(len(images), -1).astype(np.float64)
