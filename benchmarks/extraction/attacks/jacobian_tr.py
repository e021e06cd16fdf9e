"""Jacobian-TR: augmentation towards random other classes, in several small steps."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.extraction.attacks.jacobian import STEP, Jacobian, other_classes
from benchmarks.extraction.data import Images, Rows

_STEPS = 5


class JacobianTR(Jacobian):
    """As Jacobian, but towards a class drawn at random."""

    name = "Jacobian-TR"
    source = "Juuti et al. 2019 (T-RND)"

    def pushed(self, images: Images, labels: Rows, copy: nn.Module) -> Images:
        """Step down the loss of a random other class."""
        x = torch.from_numpy(images)
        targets = torch.from_numpy(other_classes(labels, self.rng))
        for _ in range(_STEPS):
            x.requires_grad_()
            loss = nn.functional.cross_entropy(copy(x), targets, reduction="sum")
            slope = torch.autograd.grad(loss, x)[0]
            x = (x.detach() - STEP / _STEPS * slope.sign()).clamp(0, 1)
        return x.numpy()
