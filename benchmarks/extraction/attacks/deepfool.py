"""DeepFool: the images that the copy's boundary is closest to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.extraction.attacks.base import Asked, Selection, highest
from benchmarks.extraction.data import Images, Rows

_AT_ONCE = 500


class DeepFool(Selection):
    """Asks about images that the smallest perturbation takes to another class of the copy."""

    name = "DeepFool"
    source = "Ducoffe and Precioso 2018; Moosavi-Dezfooli et al. 2016"

    def choose(self, images: Images, count: int, asked: Asked, copy: nn.Module | None) -> Rows:
        assert copy is not None
        parts = [
            perturbation(copy, part) for part in torch.split(torch.from_numpy(images), _AT_ONCE)
        ]
        return highest(-torch.cat(parts).norm(dim=1), count)


def perturbation(model: nn.Module, images: Tensor, rounds: int = 2) -> Tensor:
    """Return (n, pixels): the smallest steps to another class of the model, made linear.

    Each round steps to the nearest of the boundaries as they are where the image has got to;
    images that have crossed stay. Exact after one round where the model is linear.
    """
    start = model(images).argmax(dim=1)
    total = torch.zeros(len(images), images[0].numel())
    for _ in range(rounds):
        x = (images + total.view_as(images)).requires_grad_()
        scores = model(x)
        slopes = torch.stack(
            [
                torch.autograd.grad(scores[:, k].sum(), x, retain_graph=True)[0].flatten(1)
                for k in range(scores.shape[1])
            ],
            dim=1,
        )
        scores = scores.detach()
        rows = torch.arange(len(images))
        lead = scores[rows, start][:, None] - scores
        slope = slopes - slopes[rows, start][:, None]
        length = slope.norm(dim=2).clamp_min(1e-12)
        distance = lead.clamp_min(0.0) / length
        distance[rows, start] = np.inf
        nearest = distance.argmin(dim=1)
        unit = slope[rows, nearest] / length[rows, nearest][:, None]
        inside = scores.argmax(dim=1) == start
        total = total + torch.where(inside, distance[rows, nearest], 0.0)[:, None] * unit
    return total
