"""MixMatch: few answers, many images of its own that it never asks about."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.extraction.attacks.base import RATE, Asked
from benchmarks.extraction.attacks.standard import Standard
from benchmarks.extraction.training import batches, steps_for

_SHARPNESS = 0.5
_MIXING = 0.75
_UNLABELLED_WEIGHT = 10.0


class MixMatch(Standard):
    """Asks as Standard does, and learns from its unasked images by its own sharpened guesses."""

    name = "MixMatch"
    source = "Berthelot et al. 2019"

    def train(self, asked: Asked) -> nn.Module:
        torch.manual_seed(self.seed)
        copy = self.means.student()
        steps = 2 * steps_for(min(len(asked), 1000), self.means.epochs, self.means.least_steps)
        optimiser = torch.optim.Adam(copy.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        known, answers = (
            torch.from_numpy(asked.images),
            torch.from_numpy(asked.probabilities).float(),
        )
        own = torch.from_numpy(self.means.owned)
        labelled, unlabelled = batches(len(known), steps), batches(len(own), steps)
        for step, (rows, others) in enumerate(zip(labelled, unlabelled, strict=False)):
            weight = _UNLABELLED_WEIGHT * min(1.0, 2 * step / steps)
            loss = mixmatch_loss(copy, known[rows], answers[rows], own[others], weight, self.rng)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        return copy.eval()


def mixmatch_loss(
    copy: nn.Module, x: Tensor, p: Tensor, u: Tensor, weight: float, rng: np.random.Generator
) -> Tensor:
    """Cross-entropy of mixed labelled images, and squared distance of mixed guesses."""
    first, second = shifted(u, rng), shifted(u, rng)
    with torch.no_grad():
        guess = sharpened((copy(first).softmax(dim=1) + copy(second).softmax(dim=1)) / 2)
    images = torch.cat([shifted(x, rng), first, second])
    targets = torch.cat([p, guess, guess])
    order = torch.from_numpy(rng.permutation(len(images)))
    share = rng.beta(_MIXING, _MIXING)
    share = max(share, 1 - share)
    mixed = share * images + (1 - share) * images[order]
    wanted = share * targets + (1 - share) * targets[order]
    scores = copy(mixed)
    labelled = nn.functional.cross_entropy(scores[: len(x)], wanted[: len(x)])
    unlabelled = (scores[len(x) :].softmax(dim=1) - wanted[len(x) :]).square().mean()
    loss: Tensor = labelled + weight * unlabelled
    return loss


def sharpened(probabilities: Tensor) -> Tensor:
    """Return probabilities (n, C) to the power of 1 / temperature, summing to one again."""
    powers = probabilities ** (1 / _SHARPNESS)
    return powers / powers.sum(dim=1, keepdim=True)


def shifted(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Move a batch by up to a fourteenth of its side each way; what comes in is black."""
    side = images.shape[-1]
    most = max(1, side // 14)
    x, y = rng.integers(0, 2 * most + 1, 2)
    padded = nn.functional.pad(images, (most,) * 4)
    return padded[..., y : y + side, x : x + side]
