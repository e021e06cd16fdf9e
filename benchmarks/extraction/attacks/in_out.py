"""InOut: images of its own and foreign ones by turns, to stay near what is expected."""

from __future__ import annotations

import numpy as np
from torch import nn

from benchmarks.extraction.attacks.base import Asked, Attack
from benchmarks.extraction.data import Images


class InOut(Attack):
    """Asks about one image of its own, then a foreign one, and so on."""

    name = "InOut"
    source = "Dziedzic et al. 2022"
    in_distribution = True

    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        turns = (len(asked) + np.arange(count)) % 2
        own, foreign = self.means.owned, self.means.foreign.images
        mine = own[self.rng.integers(len(own), size=count)]
        theirs = foreign[self.rng.integers(len(foreign), size=count)]
        return np.where(turns[:, None, None, None] == 0, mine, theirs)
