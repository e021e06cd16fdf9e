"""Active learning by gap: where the copy's two best classes are closest."""

from __future__ import annotations

from torch import nn

from benchmarks.extraction.attacks.base import Asked, Selection, highest
from benchmarks.extraction.data import Images, Rows
from benchmarks.extraction.training import logits


class Gap(Selection):
    """Asks where the copy's lead of the best class over the next is smallest."""

    name = "Gap"
    source = "Orekondy et al. 2019; Lewis and Gale 1994"

    def choose(self, images: Images, count: int, asked: Asked, copy: nn.Module | None) -> Rows:
        assert copy is not None
        best = logits(copy, images).softmax(dim=1).topk(2, dim=1).values
        return highest(best[:, 1] - best[:, 0], count)
