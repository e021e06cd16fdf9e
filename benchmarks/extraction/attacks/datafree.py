"""DataFree: a generator against the student, with the victim's gradients estimated by queries."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.extraction.attacks.base import Asked, Attack, Means
from benchmarks.extraction.data import Images
from benchmarks.extraction.training import fit

_BATCH = 50
_STUDENT_BATCHES = 5  # for one of the generator's
_NEARBY = 1e-3  # length of the step that estimates a slope
_LATENT = 64
_STUDENT_STEPS = 20


class DataFree(Attack):
    """Makes images where copy and victim disagree, and learns the answers.

    A generator's round asks about each image and about one very near it: the difference of their
    losses estimates the loss's slope in that direction (forward differences with one direction).
    """

    name = "DataFree"
    source = "Truong et al. 2021 (DFME)"
    in_distribution = False

    def __init__(self, means: Means, seed: int) -> None:
        super().__init__(means, seed)
        torch.manual_seed(seed)
        self._generator = generator(means.owned.shape[1], means.owned.shape[2])
        self._optimiser = torch.optim.Adam(self._generator.parameters(), 1e-3)
        self._student = means.student()
        self._round = 0
        self._made = torch.empty(0)
        self._direction = torch.empty(0)

    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        self._learn(asked)
        of_generator = self._round % (1 + _STUDENT_BATCHES) == 0 and count >= 2 * _BATCH
        self._round += 1
        latent = torch.from_numpy(self.rng.standard_normal((_BATCH, _LATENT), dtype=np.float32))
        self._made = self._generator(latent)
        images = self._made.detach()
        self._direction = torch.empty(0)
        if of_generator:
            drawn = torch.from_numpy(self.rng.standard_normal(images.shape, dtype=np.float32))
            self._direction = drawn / drawn.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            images = torch.cat([images, images + _NEARBY * self._direction])
        return images[:count].numpy()

    def _learn(self, asked: Asked) -> None:
        if len(self._direction):
            self._move_generator(asked)
        elif len(asked):
            latest = slice(-_BATCH * _STUDENT_BATCHES, None)
            fit(
                self._student,
                asked.images[latest],
                asked.probabilities[latest],
                steps=_STUDENT_STEPS,
                seed=self._round,
            )

    def _move_generator(self, asked: Asked) -> None:
        latest = 2 * len(self._direction)
        losses = disagreement(self._student, asked.images[-latest:], asked.probabilities[-latest:])
        here, near = losses.chunk(2)
        slope = slope_estimate(here, near, self._direction)
        self._optimiser.zero_grad()
        self._made.backward(-slope / len(slope))  # type: ignore[no-untyped-call]
        self._optimiser.step()


@torch.no_grad()
def disagreement(student: nn.Module, images: Images, probabilities: np.ndarray) -> Tensor:
    """Return the (n,) L1 distances of logits; the victim's are recovered from its probabilities."""
    logs = torch.from_numpy(np.log(np.maximum(probabilities, 1e-12)))
    theirs = logs - logs.mean(dim=1, keepdim=True)
    ours: Tensor = student(torch.from_numpy(images)).double()
    return (ours - theirs).abs().sum(dim=1)


def slope_estimate(here: Tensor, near: Tensor, direction: Tensor) -> Tensor:
    """Estimate gradients from losses (n,) here and a little way along unit directions."""
    pixels = direction[0].numel()
    return (pixels * (near - here) / _NEARBY).float().view(-1, 1, 1, 1) * direction


def generator(channels: int, side: int) -> nn.Module:
    """Images in [0, 1] from latent vectors (n, 64): one dense layer, two convolutions."""
    half = side // 2
    return nn.Sequential(
        nn.Linear(_LATENT, 32 * half * half),
        nn.Unflatten(1, (32, half, half)),
        nn.BatchNorm2d(32),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, channels, 3, padding=1),
        nn.Sigmoid(),
    )
