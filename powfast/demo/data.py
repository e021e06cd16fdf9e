"""scikit-learn's handwritten digits, split so that nothing meets what calibrated against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits, load_sample_images

Images = NDArray[np.float64]
"""(n, 64) grey values in [0, 1], 8 x 8 pixels a row."""

_SIZES = {"victim": 500, "reference": 450, "tariff": 300, "honest": 250, "seeds": 47, "test": 250}


@dataclass(frozen=True)
class Split:
    """Images (n, 64) and labels (n,) of one purpose."""

    images: Images
    labels: NDArray[np.int64]


def digits(rng: Generator) -> dict[str, Split]:
    """Split the 1797 digits: victim (its training data), reference and tariff (what calibrates),
    honest (what users send), seeds (what an extractor owns), test (what judges a copy).
    """
    bunch: Any = load_digits()
    order = rng.permutation(len(bunch.target))
    images, labels = bunch.data[order] / 16.0, bunch.target[order].astype(np.int64)
    splits, start = {}, 0
    for name, size in _SIZES.items():
        splits[name] = Split(images[start : start + size], labels[start : start + size])
        start += size
    return splits


def redrawn(images: Images, rng: Generator) -> Images:
    """Turn, scale and shift every digit a little: no two users write alike."""
    drawn = np.empty_like(images)
    centre = np.array([3.5, 3.5])
    for i, image in enumerate(images.reshape(-1, 8, 8)):
        angle, scale = rng.uniform(-0.12, 0.12), rng.uniform(0.95, 1.05)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
        offset: Any = centre - turn @ centre + rng.uniform(-0.3, 0.3, 2)
        drawn[i] = affine_transform(image, turn, offset=offset, order=1).ravel()
    return drawn


def photo_patches(count: int, rng: Generator) -> Images:
    """Cut grey 8 x 8 patches, at several scales, from scikit-learn's two photographs."""
    photos = [photo.mean(axis=2) / 255.0 for photo in load_sample_images().images]
    patches = np.empty((count, 64))
    for i in range(count):
        photo, size = photos[rng.integers(len(photos))], int(rng.choice([8, 16, 32, 64]))
        top, left = (int(rng.integers(side - size)) for side in photo.shape)
        window = photo[top : top + size, left : left + size]
        patch = window.reshape(8, size // 8, 8, size // 8).mean(axis=(1, 3)).ravel()
        patches[i] = (patch - patch.min()) / max(float(np.ptp(patch)), 0.05)
    return patches
