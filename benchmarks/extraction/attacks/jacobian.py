"""Jacobian-based augmentation: a few real images, pushed along the copy's own gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.extraction.attacks.base import Asked, Attack
from benchmarks.extraction.data import Images, Rows

STEP = 0.1


class Jacobian(Attack):
    """Every round pushes what it knows up the copy's score of the class that was answered."""

    name = "Jacobian"
    source = "Papernot et al. 2017"
    in_distribution = True

    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        if copy is None:
            return self.means.owned[self.rng.permutation(len(self.means.owned))[:count]]
        rows = self.rng.permutation(len(asked))[:count]
        return self.pushed(asked.images[rows], asked.labels[rows], copy)

    def pushed(self, images: Images, labels: Rows, copy: nn.Module) -> Images:
        """Step along the sign of the gradient of the answered class's score."""
        x = torch.from_numpy(images)
        return (
            (x + STEP * score_slope(copy, x, torch.from_numpy(labels)).sign()).clamp(0, 1).numpy()
        )


def score_slope(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return the gradient of each image's score of its class, of the images' shape."""
    x = images.clone().requires_grad_()
    score = model(x)[torch.arange(len(x)), classes].sum()
    return torch.autograd.grad(score, x)[0]


def other_classes(labels: Rows, rng: np.random.Generator, classes: int = 10) -> Rows:
    """Draw for each label another one."""
    return (labels + rng.integers(1, classes, len(labels))) % classes
