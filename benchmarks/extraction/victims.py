"""The models that are served: trained, and asked with the features that the estimator watches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.extraction.data import Floats, Images, Parts
from benchmarks.extraction.training import Augment, fit, steps_for
from powfast.leakage import LeakageEstimator
from powfast.leakage.features import from_torch

_ANSWERED_AT_ONCE = 500


@dataclass(frozen=True)
class Answers:
    """What the service computed: probabilities (n, 10), evidence (n,)."""

    probabilities: Floats
    evidence: Floats


class Victim:
    """A trained model, and the estimator that watches its answers.

    Parameters
    ----------
    model : nn.Module
        From images to logits.
    layers : names of the modules whose outputs are features
    """

    def __init__(self, model: nn.Module, layers: tuple[str, ...]) -> None:
        self.model = model.eval()
        self.layers = layers
        self.estimator = LeakageEstimator()

    def watch(self, parts: Parts) -> None:
        """Fit the estimator, with its defaults, on training data and honest queries."""
        self.estimator.fit(self.ask(parts.victim.images)[0], parts.victim.labels)
        self.estimator.calibrate(*self.ask(parts.reference.images))

    def ask(self, images: Images) -> tuple[Floats, Floats]:
        """Return features (n, d) and probabilities (n, 10)."""
        features, probabilities = [], []
        for start in range(0, len(images), _ANSWERED_AT_ONCE):
            batch = torch.from_numpy(images[start : start + _ANSWERED_AT_ONCE])
            seen, logits = from_torch(self.model, batch, self.layers)
            features.append(seen)
            probabilities.append(logits.double().softmax(dim=1).numpy())
        return np.concatenate(features), np.concatenate(probabilities)

    def answer(self, images: Images) -> Answers:
        """Return what the service would answer, and what the tariff would be told."""
        features, probabilities = self.ask(images)
        return Answers(probabilities, self.estimator.evidence(features, probabilities))


def mnist_net(
    channels: int, side: int, widths: tuple[int, int], kernel: int, hidden: int
) -> nn.Module:
    """The paper's MnistNet: two convolutions, each pooled, and two dense layers."""
    first, second = widths
    left = ((side - kernel + 1) // 2 - kernel + 1) // 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, first, kernel),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(first, second, kernel),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flat=nn.Flatten(),
            dense=nn.Linear(second * left * left, hidden),
            hidden=nn.ReLU(),
            logits=nn.Linear(hidden, 10),
        )
    )


class Residual(nn.Module):
    """Two convolutions beside a shortcut, halving the side where asked."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def residual_net(channels: int, width: int, stride: int = 1) -> nn.Module:
    """A ResNet of three blocks, of width, twice and four times as many channels."""
    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
            block1=Residual(width, width, 1),
            block2=Residual(width, 2 * width, 2),
            block3=Residual(2 * width, 4 * width, 2),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            logits=nn.Linear(4 * width, 10),
        )
    )


@dataclass(frozen=True)
class Architecture:
    """What is served and what copies it.

    Attributes
    ----------
    victim, student : make the module, untrained
    layers : those of the victim that the estimator watches
    augment : what varies the images that both are trained on
    """

    victim: Callable[[], nn.Module]
    student: Callable[[], nn.Module]
    layers: tuple[str, ...]
    augment: Augment | None = None

    def new_victim(self) -> nn.Module:
        """Return an untrained victim."""
        return _fast(self.victim())

    def new_student(self) -> nn.Module:
        """Return an untrained copy."""
        return _fast(self.student())


def _fast(model: nn.Module) -> nn.Module:
    """Lay weights out as is fastest on a CPU."""
    laid: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid


def flipped_and_moved(images: torch.Tensor) -> torch.Tensor:
    """Mirror and move a batch at random, as photographs allow."""
    if torch.rand(()) < 0.5:
        images = images.flip(3)
    x, y = torch.randint(0, 5, (2,)).tolist()
    side = images.shape[-1]
    return nn.functional.pad(images, (2, 2, 2, 2))[..., y : y + side, x : x + side]


_BLOCKS = ("relu", "block1", "block2", "block3", "logits")
_CONVOLUTIONS = ("pool1", "relu1", "pool2", "relu2", "logits")

ARCHITECTURES = {
    "mnist": Architecture(
        lambda: mnist_net(1, 28, (20, 50), 5, 500),
        lambda: mnist_net(1, 28, (10, 20), 5, 128),
        _CONVOLUTIONS,
    ),
    "cifar10": Architecture(
        lambda: residual_net(3, 16),
        lambda: residual_net(3, 16, stride=2),
        _BLOCKS,
        flipped_and_moved,
    ),
    "cifar10-small": Architecture(
        lambda: residual_net(3, 8),
        lambda: residual_net(3, 8, stride=2),
        _BLOCKS,
        flipped_and_moved,
    ),
    "digits": Architecture(
        lambda: mnist_net(1, 8, (32, 64), 2, 128),
        lambda: mnist_net(1, 8, (16, 32), 2, 64),
        _CONVOLUTIONS,
    ),
}


def trained(name: str, parts: Parts, epochs: float, seed: int) -> Victim:
    """Return a victim trained on its data, and watched."""
    torch.manual_seed(seed)
    architecture = ARCHITECTURES[name]
    model = architecture.new_victim()
    steps = steps_for(len(parts.victim), epochs, 1)
    fit(
        model,
        parts.victim.images,
        parts.victim.labels,
        steps=steps,
        seed=seed,
        augment=architecture.augment,
    )
    victim = Victim(model, architecture.layers)
    victim.watch(parts)
    return victim
