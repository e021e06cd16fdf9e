"""Greedy k-centre: the images furthest from all that was asked, one after the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.extraction.attacks.base import Asked, Selection
from benchmarks.extraction.data import Images, Rows
from benchmarks.extraction.training import logits


class Greedy(Selection):
    """Covers its pool, as the copy's last features see it."""

    name = "Greedy"
    source = "Sener and Savarese 2018"

    def choose(self, images: Images, count: int, asked: Asked, copy: nn.Module | None) -> Rows:
        assert copy is not None
        return k_centre(logits(copy, images), logits(copy, asked.images), count)


def k_centre(points: Tensor, centres: Tensor, count: int) -> Rows:
    """Return the rows of `count` points, each the furthest from centres and earlier choices.

    Parameters
    ----------
    points : (n, d)
    centres : (m, d), m at least 1
    """
    nearest = torch.cdist(points, centres).min(dim=1).values
    chosen = np.empty(count, dtype=np.int64)
    for i in range(count):
        chosen[i] = furthest = int(nearest.argmax())
        nearest = torch.minimum(nearest, (points - points[furthest]).norm(dim=1))
        nearest[furthest] = -1.0  # no row is chosen twice, not even among equal points
    return chosen
