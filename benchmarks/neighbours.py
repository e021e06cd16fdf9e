"""Neighbours among a million points: the approximate search beside the exact one.

    python benchmarks/neighbours.py [--points 1000000] [--data ../shared/data]

Points are MNIST's training digits, moved by up to two pixels, in 64 principal components;
queries are test digits. Recall is the share of the true 10 nearest that the approximate search
finds too.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from pathlib import Path

import numpy as np
from extraction.data import home, mnist

from powfast.leakage import NeighbourVotes

BATCH = 64
QUERIES = 5 * BATCH
WIDTH = 64


def moved(images, points, axes, mean):
    """Return (points, 64) components of the images at 25 places."""
    out = np.empty((points, WIDTH))
    for k, by in enumerate(itertools.product(range(-2, 3), repeat=2)):
        rows = out[k * len(images) : (k + 1) * len(images)]
        there = np.roll(images[: len(rows)], by, (1, 2)).reshape(len(rows), 784)
        rows[:] = (there - mean) @ axes
    return out


def timed(function):
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def asked(reference, queries):
    """Return the nearest points of all queries, batch by batch, and microseconds a query."""
    batches = np.split(queries, QUERIES // BATCH)
    parts, seconds = timed(lambda: [reference._nearest(batch)[0] for batch in batches])
    return np.concatenate(parts), seconds / QUERIES * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=home())
    parser.add_argument("--points", type=int, default=1_000_000, help="at most 1 500 000")
    options = parser.parse_args()
    digits = mnist(options.data, "train")
    images = digits.images[:, 0]
    labels = np.tile(digits.labels, 25)[: options.points]
    flat = images.reshape(len(images), -1)
    mean, axes = flat.mean(axis=0), np.linalg.eigh(np.cov(flat[::10].T))[1][:, -WIDTH:]
    points = moved(images, options.points, axes, mean)
    test = mnist(options.data, "t10k").images.reshape(10_000, -1)
    queries = (test[:QUERIES] - mean) @ axes
    exact, exact_fit = timed(lambda: NeighbourVotes(10).fit(points, labels))
    true, exact_us = asked(exact, queries)
    fast, fast_fit = timed(lambda: NeighbourVotes(10, approximate=True).fit(points, labels))
    found, fast_us = asked(fast, queries)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(true, found, strict=True)])
    print(f"{len(points)} points, 10 neighbours, batch {BATCH}")
    print(f"exact       fit {exact_fit:5.1f} s  {exact_us:9.1f} us a query")
    print(f"approximate fit {fast_fit:5.1f} s  {fast_us:9.1f} us a query, recall {recall:.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{exact_us / fast_us:.0f}x, peak memory {peak:.1f} GB")


if __name__ == "__main__":
    main()
