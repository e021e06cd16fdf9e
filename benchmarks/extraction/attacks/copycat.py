"""CopyCat: images of another kind, and a copy of the labels alone."""

from __future__ import annotations

from torch import nn

from benchmarks.extraction.attacks.base import Asked, Selection
from benchmarks.extraction.data import Images


class CopyCat(Selection):
    """Asks about foreign images in random order, and learns the classes answered."""

    name = "CopyCat"
    source = "Correia-Silva et al. 2018"
    in_distribution = False

    def images(self) -> Images:
        return self.means.foreign.images

    def train(self, asked: Asked) -> nn.Module:
        return self.fitted(asked.images, asked.labels)
