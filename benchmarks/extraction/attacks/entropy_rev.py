"""EntropyRev: active learning turned round, to look as ordinary as possible."""

from __future__ import annotations

from torch import nn

from benchmarks.extraction.attacks.base import Asked, Selection, highest
from benchmarks.extraction.attacks.entropy import copy_entropy
from benchmarks.extraction.data import Images, Rows


class EntropyRev(Selection):
    """Asks where the copy is surest, and answers are hoped to be cheap."""

    name = "EntropyRev"
    source = "Dziedzic et al. 2022"

    def choose(self, images: Images, count: int, asked: Asked, copy: nn.Module | None) -> Rows:
        assert copy is not None
        return highest(-copy_entropy(copy, images), count)
