"""WorstCase: an extractor that knows the server's secrets, and asks what costs least."""

from __future__ import annotations

from torch import nn

from benchmarks.extraction.attacks.base import Asked, Selection, highest
from benchmarks.extraction.data import Images, Rows


class WorstCase(Selection):
    """Asks about what it owns, lowest evidence first: no server tells anybody that."""

    name = "WorstCase"
    source = "Dziedzic et al. 2022"
    begins_at_random = False

    def choose(self, images: Images, count: int, asked: Asked, copy: nn.Module | None) -> Rows:
        return highest(-self.means.evidence(images), count)
