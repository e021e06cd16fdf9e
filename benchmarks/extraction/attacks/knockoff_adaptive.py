"""Knockoff Nets, adaptive: a gradient bandit over the classes of the foreign images."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from benchmarks.extraction.attacks.base import Asked, Attack, Means
from benchmarks.extraction.data import Floats, Images
from benchmarks.extraction.training import logits

_ROUND = 64
_RATE = 0.1


class KnockoffAdaptive(Attack):
    """Learns which foreign classes pay: sure answers, varied ones, ones the copy gets wrong."""

    name = "Knockoff adaptive"
    source = "Orekondy et al. 2019"
    in_distribution = False

    def __init__(self, means: Means, seed: int) -> None:
        super().__init__(means, seed)
        names, self._arms = np.unique(means.foreign.labels, return_inverse=True)
        self.bandit = GradientBandit(len(names))
        self._pulled = np.empty(0, dtype=np.int64)

    def propose(self, count: int, asked: Asked, copy: nn.Module | None) -> Images:
        if len(self._pulled) and copy is not None:
            self.bandit.learn(self._pulled, rewards(asked, len(self._pulled), copy))
        arms = self.rng.choice(
            len(self.bandit.preferences), size=min(count, _ROUND), p=self.bandit.policy
        )
        self._pulled = arms
        rows = [self.rng.choice(np.flatnonzero(self._arms == arm)) for arm in arms]
        return self.means.foreign.images[rows]


class GradientBandit:
    """Preferences that follow the gradient of the expected reward (Sutton and Barto, 2.8)."""

    def __init__(self, arms: int) -> None:
        self.preferences = np.zeros(arms)
        self._mean, self._seen = 0.0, 0

    @property
    def policy(self) -> Floats:
        """Probability of each arm."""
        odds = np.exp(self.preferences - self.preferences.max())
        return np.asarray(odds / odds.sum())

    def learn(self, arms: np.ndarray, rewards: Floats) -> None:
        """Take note of what arms, (n,), earned."""
        for arm, reward in zip(arms, rewards, strict=True):
            self._seen += 1
            self._mean += (reward - self._mean) / self._seen
            chosen = np.arange(len(self.preferences)) == arm
            self.preferences += _RATE * (reward - self._mean) * (chosen - self.policy)


def rewards(asked: Asked, latest: int, copy: nn.Module) -> Floats:
    """Return the last queries' (latest,) rewards: certainty, diversity and loss, each in [0, 1]."""
    answers = asked.probabilities[-latest:]
    two = np.sort(answers, axis=1)[:, -2:]
    certainty = two[:, 1] - two[:, 0]
    diversity = np.maximum(answers - asked.probabilities.mean(axis=0), 0.0).sum(axis=1)
    log_copy = torch.log_softmax(logits(copy, asked.images[-latest:]), dim=1).double().numpy()
    loss = -(answers * log_copy).sum(axis=1)
    return np.asarray(certainty + diversity + np.minimum(loss / np.log(10.0), 1.0))
