"""The one interface of attacks: propose queries given the answers so far, and train a copy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.extraction.data import Floats, Images, Pictures, Rows
from benchmarks.extraction.training import Augment, fit, steps_for

RATE = 1e-2  # highest learning rate of a copy


@dataclass(frozen=True)
class Asked:
    """What an extractor knows: images (n, c, s, s) and the probabilities (n, 10) they got."""

    images: Images
    probabilities: Floats

    def __len__(self) -> int:
        return len(self.images)

    def plus(self, images: Images, probabilities: Floats) -> Asked:
        """Return this and more of it."""
        return Asked(
            np.concatenate([self.images, images]),
            np.concatenate([self.probabilities, probabilities]),
        )

    @property
    def labels(self) -> Rows:
        """The classes answered, (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @classmethod
    def nothing(cls, like: Images) -> Asked:
        """Return no queries about images of this shape."""
        return cls(like[:0], np.empty((0, 10)))


@dataclass(frozen=True)
class Means:
    """What every extractor is granted.

    Attributes
    ----------
    owned : its in-distribution images; it does not know their labels
    foreign : images of another kind, with the labels of their own data set
    student : makes an untrained copy
    epochs, least_steps : how long a copy is trained
    augment : what varies the images that a copy is trained on
    evidence : evidence of images, for the one extractor that knows the server's secrets
    """

    owned: Images
    foreign: Pictures
    student: Callable[[], nn.Module]
    epochs: float
    least_steps: int
    augment: Augment | None
    evidence: Callable[[Images], Floats]


class Attack(ABC):
    """One way to extract.

    Parameters
    ----------
    means : Means
    seed : int
        Of everything that it draws.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    """Who described it."""
    in_distribution: ClassVar[bool]
    """Whether it owns images like those of honest users."""

    def __init__(self, means: Means, seed: int) -> None:
        self.means = means
        self.seed = seed
        self.rng = np.random.default_rng([seed, 7])

    @abstractmethod
    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        """Return the next images to ask about: at least one, at most `count`.

        Parameters
        ----------
        asked : what was answered so far
        copy : trained on what was answered up to the last checkpoint; None before the first
        """

    def train(self, asked: Asked) -> nn.Module:
        """Return a copy, trained from nothing on the probabilities answered so far."""
        return self.fitted(asked.images, asked.probabilities)

    def fitted(self, images: Images, targets: Floats | Rows) -> nn.Module:
        """Return a new student trained on images and labels or probabilities."""
        torch.manual_seed(self.seed)
        return fit(
            self.means.student(),
            images,
            targets,
            steps=steps_for(len(images), self.means.epochs, self.means.least_steps),
            seed=self.seed,
            rate=RATE,
            augment=self.means.augment,
        )


class Selection(Attack):
    """Asks about images of a pool, each once, those first that `choose` picks."""

    in_distribution = True
    begins_at_random: ClassVar[bool] = True
    """Whether choosing takes a copy, so that the first queries are drawn."""

    def __init__(self, means: Means, seed: int) -> None:
        super().__init__(means, seed)
        self.pool = self.images()
        self._left = self.rng.permutation(len(self.pool))

    def images(self) -> Images:
        """Return the pool: what the extractor owns, unless an attack says otherwise."""
        return self.means.owned

    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        if not len(self._left):  # everything was asked: begin again
            self._left = self.rng.permutation(len(self.pool))
        if count >= len(self._left) or (copy is None and self.begins_at_random):
            picked = np.arange(len(self._left))[:count]
        else:
            picked = self.choose(self.pool[self._left], count, asked, copy)
        rows = self._left[picked]
        self._left = np.delete(self._left, picked)
        return self.pool[rows]

    def choose(self, images: Images, count: int, asked: Asked, copy: nn.Module | None) -> Rows:
        """Return the rows, (count,), of the images to ask about next; unless overridden, any."""
        return np.arange(count)


def highest(scores: Floats | Tensor, count: int) -> Rows:
    """Return the rows of the `count` highest scores, the highest first."""
    return np.argsort(-np.asarray(scores), kind="stable")[:count]
