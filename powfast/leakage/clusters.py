"""Strata that are too small to calibrate by themselves, grouped by how their scores lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powfast.leakage.arrays import Floats, Integers

SIZE = 60
"""Calibrating queries that a cluster should have."""

_PRIOR = 2.0  # ordinary queries that every stratum is given


def cluster_small(
    scores: Floats, strata: Integers, minimum: int, seed: int
) -> tuple[Integers, NDArray[np.bool_]]:
    """Cluster the strata of fewer than `minimum` honest queries on half of these.

    Parameters
    ----------
    scores : (n, m), strata : (n,)

    Returns
    -------
    clusters : (k, 2) the small strata, each with its cluster; empty where two clusters of `SIZE`
        cannot be had
    calibrates : (n,) bool, the queries that were not looked at
    """
    _, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    small = np.flatnonzero(counts[codes] < minimum)
    calibrates = np.ones(len(strata), dtype=bool)
    number = len(small) // (2 * SIZE)
    if number < 2:
        return np.empty((0, 2), dtype=np.int64), calibrates
    small = np.random.default_rng(seed).permutation(small)
    looked_at = small[np.argsort(strata[small], kind="stable")][::2]  # half of every stratum
    calibrates[looked_at] = False
    found = clusters(scores[looked_at], strata[looked_at], number)
    others = np.setdiff1d(strata[small], found[:, 0])
    unknown = np.column_stack([others, np.full_like(others, number // 2)])
    return np.concatenate([found, unknown]), calibrates


def clusters(scores: Floats, strata: Integers, number: int) -> Integers:
    """Return the (k, 2) strata of honest queries, each with its cluster, 0 .. number - 1.

    Strata are ordered by how large their scores are among all of these queries (the mean of
    -log p over queries and scores, shrunk where a stratum has few) and cut into runs of about as
    many queries each: one axis, where Ding, Angelopoulos, Bates, Jordan and Tibshirani,
    "Class-conditional conformal prediction with many classes" (2023), cluster quantiles by
    k-means, for a handful of queries says little more. As there, these queries must not
    calibrate as well.

    Parameters
    ----------
    scores : (n, m), strata : (n,), number : at least 1
    """
    ranks = scores.argsort(axis=0).argsort(axis=0)
    size = -np.log1p(-(ranks + 0.5) / len(scores)).mean(axis=1)
    names, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    totals = np.bincount(codes, size) + _PRIOR * size.mean()
    order = np.argsort(totals / (counts + _PRIOR), kind="stable")
    before = counts[order].cumsum() - 0.5 * counts[order]
    found = np.empty(len(names), dtype=np.int64)
    found[order] = (before * number / len(scores)).astype(np.int64)
    return np.column_stack([names, found])
