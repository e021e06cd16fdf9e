"""Model extraction: what is sent, and how a copy is trained from the answers.

An extractor is a generator: it yields images to ask about and is sent the answered probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from numpy.random import Generator as Random
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge

from powfast.demo.data import Images, photo_patches

Probabilities = NDArray[np.float64]
Extractor = Generator[Images, Probabilities, None]

_WIDTH = 0.05  # of the copy's radial kernel, on 64 pixels


class Copy:
    """A copy of the victim: kernel ridge regression onto the probabilities it answered."""

    def __init__(self, images: Images, answers: Probabilities) -> None:
        self._images = images
        self._model = KernelRidge(kernel="rbf", gamma=_WIDTH, alpha=0.01)  # pyright: ignore[reportArgumentType]
        self._model.fit(images, answers)

    def predict(self, images: Images) -> NDArray[np.int64]:
        """Return the (n,) classes that the copy answers."""
        return np.asarray(self._model.predict(images).argmax(axis=1), dtype=np.int64)

    def gradient(self, images: Images) -> Images:
        """Return the (n, 64) gradients of each image's predicted class."""
        weights = self._model.dual_coef_[:, self.predict(images)].T
        distance = ((images[:, None, :] - self._images[None]) ** 2).sum(axis=2)
        pull = weights * np.exp(-_WIDTH * distance)
        slope: Images = -2 * _WIDTH * (pull.sum(axis=1)[:, None] * images - pull @ self._images)
        return slope


def in_batches(source: Callable[[int], Images], queries: int, batch: int) -> Extractor:
    """Ask about `queries` images of one source: honest use, photographs (CopyCat), noise."""
    for _ in range(queries // batch):
        yield source(batch)


def copycat(rng: Random) -> Callable[[int], Images]:
    """Natural images of another kind, as CopyCat CNN and Knockoff Nets send them."""
    return lambda count: photo_patches(count, rng)


def noise(rng: Random) -> Callable[[int], Images]:
    """Uniform noise, half of its pixels dark."""
    return lambda count: rng.random((count, 64)) * (rng.random((count, 64)) < 0.5)


def jacobian(seeds: Images, queries: int, batch: int, rng: Random) -> Extractor:
    """Jacobian-based augmentation (Papernot et al. 2017): a few real images, pushed along the
    sign of the copy's own gradients, round after round.
    """
    known, answers = np.empty((0, 64)), np.empty((0, 0))
    fresh = seeds
    while len(known) < queries:
        for start in range(0, min(len(fresh), queries - len(known)), batch):
            sent = fresh[start : start + batch][: queries - len(known)]
            answered = yield sent
            known = np.vstack([known, sent])
            answers = np.vstack([answers, answered]) if answers.size else answered
        base = known[rng.choice(len(known), min(len(known), queries - len(known)), replace=False)]
        pushed = base + 0.15 * np.sign(Copy(known, answers).gradient(base)) if len(base) else base
        fresh = np.clip(pushed, 0.0, 1.0)
