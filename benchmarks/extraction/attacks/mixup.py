"""MixUp: the mean of two images of its own, which no user would send."""

from __future__ import annotations

import numpy as np
from torch import nn

from benchmarks.extraction.attacks.base import Asked, Attack
from benchmarks.extraction.data import Images


class MixUp(Attack):
    """Asks about the mean of two images of its own."""

    name = "MixUp"
    source = "against powfast, after Zhang et al. 2018"
    in_distribution = True

    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        own = self.means.owned
        one, other = own[self.rng.integers(len(own), size=(2, count))]
        return np.asarray((one + other) / 2, dtype=np.float32)
