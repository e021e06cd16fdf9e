"""Approximate nearest neighbours by FAISS, where the exact search takes too long."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np

from powfast.errors import MissingExtra
from powfast.leakage.arrays import Floats, Integers

_PROBES = 32  # cells searched for each query
_TRAINING = 40  # points a cell's centre is the mean of, at most
_LARGEST = 1e15  # squared distances between clipped points stay finite in single precision


class ApproximateIndex:
    """Points in cells around k-means centres; a query looks into the nearest 32 cells alone.

    The inverted file of Jegou, Douze, Schmid (2011) with 2 sqrt(r) cells for r points, and the
    same cells whenever the points are the same.

    Parameters
    ----------
    points : (r, d) float64

    Raises
    ------
    MissingExtra
        FAISS is not installed.
    """

    def __init__(self, points: Floats) -> None:
        try:
            faiss = import_module("faiss")
        except ImportError as error:
            raise MissingExtra(
                "the approximate search needs FAISS: pip install 'powfast[neighbours]'"
            ) from error
        self._faiss = faiss
        cells = math.ceil(min(2.0 * math.sqrt(len(points)), len(points) / _TRAINING))
        width = points.shape[1]
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells)
        self._index.cp.max_points_per_centroid = _TRAINING
        self._index.cp.niter = 5
        self._index.nprobe = _PROBES
        single = _single(points)
        self._index.train(single)
        self._index.add(single)

    def search(self, points: Floats, k: int) -> Integers:
        """Return the (n, k) nearest points found, nearest first, -1 where cells held too few.

        In the calling thread alone: OpenMP's threads do not survive a fork.
        """
        threads = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(1)  # counts for this thread only
        try:
            found: Integers = self._index.search(_single(points), k)[1]
        finally:
            self._faiss.omp_set_num_threads(threads)
        return found


def _single(points: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.clip(points, -_LARGEST, _LARGEST).astype(np.float32)
