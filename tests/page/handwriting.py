"""Digits of other people, who never saw this page."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from powfast.demo.strokes import normalised


def mnist(folder: Path, count: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return handwriting from elsewhere, every dark pixel a dot of the pen."""
    pixels = gzip.decompress((folder / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)[:count]
    dots = [np.argwhere(image > 127)[:, ::-1, None].astype(float) for image in images]
    return np.stack([normalised([*d.transpose(0, 2, 1)]) for d in dots]), np.frombuffer(
        labels, np.uint8
    )[:count]
