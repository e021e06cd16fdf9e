"""Mixtures: half an image of its own and half a foreign one, to stretch what it owns."""

from __future__ import annotations

import numpy as np
from torch import nn

from benchmarks.extraction.attacks.base import Asked, Attack
from benchmarks.extraction.data import Images


class Mixtures(Attack):
    """Asks about the mean of an image of its own and a foreign one."""

    name = "Mixtures"
    source = "against powfast"
    in_distribution = True

    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        own, foreign = self.means.owned, self.means.foreign.images
        mine = own[self.rng.integers(len(own), size=count)]
        theirs = foreign[self.rng.integers(len(foreign), size=count)]
        return np.asarray((mine + theirs) / 2, dtype=np.float32)
