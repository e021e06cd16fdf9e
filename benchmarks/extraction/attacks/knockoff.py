"""Knockoff Nets, random: images of another kind, and a copy of the probabilities."""

from __future__ import annotations

from benchmarks.extraction.attacks.base import Selection
from benchmarks.extraction.data import Images


class Knockoff(Selection):
    """Asks about foreign images in random order."""

    name = "Knockoff"
    source = "Orekondy et al. 2019"
    in_distribution = False

    def images(self) -> Images:
        return self.means.foreign.images
