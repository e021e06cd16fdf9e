"""Uniform noise: what an extractor without any data can send at once."""

from __future__ import annotations

import numpy as np
from torch import nn

from benchmarks.extraction.attacks.base import Asked, Attack
from benchmarks.extraction.data import Images


class Noise(Attack):
    """Asks about images whose every value is drawn uniformly."""

    name = "Noise"
    source = "Tramèr et al. 2016"
    in_distribution = False

    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        return self.rng.random((count, *self.means.owned.shape[1:]), dtype=np.float32)
