"""Active learning by entropy: what the copy is least sure about."""

from __future__ import annotations

import numpy as np
from torch import nn

from benchmarks.extraction.attacks.base import Asked, Selection, highest
from benchmarks.extraction.data import Images, Rows
from benchmarks.extraction.training import logits
from powfast.leakage import entropy


class Entropy(Selection):
    """Asks where the copy's answer has the highest entropy."""

    name = "Entropy"
    source = "Pal et al. 2020 (ActiveThief)"

    def choose(self, images: Images, count: int, asked: Asked, copy: nn.Module | None) -> Rows:
        assert copy is not None
        return highest(copy_entropy(copy, images), count)


def copy_entropy(copy: nn.Module, images: Images) -> np.ndarray:
    """Return the (n,) entropies of what a copy answers."""
    return entropy(logits(copy, images).double().softmax(dim=1).numpy())
