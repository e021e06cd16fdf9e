"""Training of victims and copies: one loop, and the score of what it made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from benchmarks.extraction.data import Images

BATCH = 64

Augment = Callable[[Tensor], Tensor]


def steps_for(queries: int, epochs: float, least: int) -> int:
    """Optimiser steps of so many epochs; small sets are seen more often."""
    return max(least, round(epochs * queries / BATCH))


def fit(
    model: nn.Module,
    images: Images,
    targets: ArrayLike,
    *,
    steps: int,
    seed: int,
    rate: float = 2e-3,
    augment: Augment | None = None,
) -> nn.Module:
    """Train on labels (n,) or probabilities (n, C); the rate rises and falls once."""
    torch.manual_seed(seed)
    x = torch.from_numpy(images)
    y = torch.as_tensor(np.asarray(targets))
    y = y.float() if y.ndim == 2 else y
    optimiser = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    model.train()
    for rows in batches(len(x), steps):
        batch = x[rows] if augment is None else augment(x[rows])
        loss = nn.functional.cross_entropy(model(batch), y[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return model.eval()


def batches(count: int, steps: int) -> list[Tensor]:
    """Row numbers of `steps` batches: one random order of all rows after another."""
    needed = steps * min(BATCH, count)
    orders = [torch.randperm(count) for _ in range(-(-needed // count))]
    return list(torch.split(torch.cat(orders)[:needed], min(BATCH, count)))


@torch.no_grad()
def logits(model: nn.Module, images: Images) -> Tensor:
    """Return the (n, C) logits of a model in evaluation mode."""
    return torch.cat([model(part) for part in torch.split(torch.from_numpy(images), 1000)])


def predicted(model: nn.Module, images: Images) -> NDArray[np.int64]:
    """Return the (n,) classes that a model answers."""
    return np.asarray(logits(model, images).argmax(dim=1).numpy())
