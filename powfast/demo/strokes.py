"""Digits drawn with a pen, made like scikit-learn's: the page's drawings, and a model that
knows such hands.

`normalised` prepares a drawing as NIST prepared the forms behind the data set (Garris et al.,
"NIST Form-Based Handprint Recognition System", 1994): upright, 20 by 32 pixels, and about as much
ink in every digit. The page does the same in `page/strokes.js`.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from powfast.demo.data import Split

Path = NDArray[np.float64]
"""(n, 2) points of one stroke, x to the right and y down, in any unit."""

_SIDE = 32  # of the bitmap, whose 4 x 4 blocks become grey values
_BOX = np.array([15.0, 27.0])  # room of the pen's path: 20 by 32 less the width of the line
_INK = 310  # pixels of the bitmap that are dark
_RADII = (1.4, 4.2)  # of the line
_MOST_SLANT = 0.6
_MOST_STRETCH = (1.5, 3.0)  # of x over y and of y over x: a 1 stays thin, a dash stays low

_CENTRES = np.arange(_SIDE) + 0.5
_PIXELS = np.stack(np.meshgrid(_CENTRES, _CENTRES), axis=-1).reshape(-1, 1, 2)


def normalised(strokes: list[Path]) -> NDArray[np.float64]:
    """Turn a drawing into the (64,) grey values that the model reads."""
    points = np.vstack(strokes)
    slant = _slant(points)
    upright = [path + slant * path[:, 1:] * (1.0, 0.0) for path in strokes]
    points = np.vstack(upright)
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = _BOX / np.maximum(high - low, 1e-6)
    scale = np.array([min(x, _MOST_STRETCH[0] * y), min(y, _MOST_STRETCH[1] * x)])
    distance = _distance([(path - (low + high) / 2) * scale + _SIDE / 2 for path in upright])
    radius = np.clip(np.partition(distance, _INK - 1)[_INK - 1], *_RADII)
    dark = (distance <= radius).reshape(8, 4, 8, 4)
    return np.asarray(dark.sum(axis=(1, 3)).ravel() / 16.0)


def _slant(points: Path) -> float:
    """Return the shear that puts the left end of the top above that of the bottom."""
    x, y = points.T
    height = max(float(np.ptp(y)), 1e-6)
    top, bottom = y <= y.min() + 0.06 * height, y >= y.max() - 0.06 * height
    return float(np.clip((x[top].min() - x[bottom].min()) / height, -_MOST_SLANT, _MOST_SLANT))


def _distance(strokes: list[Path]) -> NDArray[np.float64]:
    """Return the distance of each pixel's centre from the pen's path."""
    start = np.vstack([path[:-1] if len(path) > 1 else path for path in strokes])
    along = np.vstack([path[1:] if len(path) > 1 else path for path in strokes]) - start
    off_x, off_y = _PIXELS[..., 0] - start[:, 0], _PIXELS[..., 1] - start[:, 1]
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip((off_x * along[:, 0] + off_y * along[:, 1]) / length, 0.0, 1.0)
    squares = (off_x - share * along[:, 0]) ** 2 + (off_y - share * along[:, 1]) ** 2
    return np.asarray(np.sqrt(squares.min(axis=1)))


# The ways people write each digit: strokes, through whose points, x and y in per cent, a smooth
# line is drawn.
_HANDS = (
    ("50,0 20,15 5,50 20,88 50,100 80,88 95,50 80,15 50,0",),
    (
        "50,0 50,50 50,100",
        "25,25 50,0 | 50,0 50,50 50,100",
        "25,25 50,0 | 50,0 50,50 50,100 | 20,100 80,100",
    ),
    (
        "10,25 30,3 65,3 85,25 70,55 10,100 | 10,100 50,100 92,100",
        "10,25 30,3 65,3 85,25 70,55 35,85 12,92 15,78 35,82 60,98 92,95",
    ),
    (
        "12,12 45,0 80,15 75,38 42,48 | 42,48 80,58 88,80 60,100 10,90",
        "10,2 50,2 88,2 | 88,2 40,42 | 40,42 80,52 88,80 55,100 8,92",
    ),
    (
        "60,0 35,35 5,70 | 5,70 50,70 95,70 | 65,35 65,70 65,100",
        "15,0 10,30 15,50 50,52 85,48 | 85,0 85,50 85,100",
        "70,0 38,35 5,68 | 5,68 50,68 95,68 | 70,0 70,50 70,100",
        "40,0 20,30 15,52 50,58 90,52 | 72,15 65,60 60,100",
    ),
    (
        "85,2 50,2 20,2 | 20,2 15,45 | 15,45 55,38 88,62 70,95 10,95",
        "20,2 15,45 | 15,45 55,38 88,62 70,95 10,95 | 20,2 50,2 85,2",
    ),
    (
        "70,0 35,20 12,60 25,95 60,100 85,78 70,55 35,55 14,72",
        "55,0 20,35 8,70 30,100 70,98 85,75 60,58 12,72",
    ),
    (
        "8,2 50,2 92,2 | 92,2 60,45 35,100",
        "8,2 50,2 92,2 | 92,2 60,45 35,100 | 30,50 80,50",
        "8,15 10,2 50,2 92,2 | 92,2 60,45 45,100",
        "8,2 50,2 85,2 | 85,2 75,50 68,100",
    ),
    (
        "80,15 50,0 20,15 30,38 70,60 85,82 50,100 15,82 30,60 70,38 80,15",
        "50,48 20,30 25,8 50,0 75,8 80,30 50,48 15,68 20,92 50,100 80,92 85,68 50,48",
    ),
    (
        "85,18 50,0 15,18 20,42 50,50 85,30 | 85,5 82,50 75,100",
        "85,22 55,0 15,15 18,42 55,48 85,22 82,60 60,95 25,98",
        "85,20 50,0 15,20 25,45 60,45 85,20 70,60 50,100",
    ),
)


def drawings(count: int, rng: Generator) -> Split:
    """Draw `count` digits, each in a hand of its own."""
    labels = rng.integers(0, 10, count)
    return Split(np.stack([normalised(drawing(int(label), rng)) for label in labels]), labels)


def drawing(digit: int, rng: Generator) -> list[Path]:
    """Draw one digit: a way to write it, with an unsteady, slanted and bent hand."""
    hands = _HANDS[digit]
    narrow, slant, turn = rng.uniform(0.55, 0.85), rng.normal(0.0, 0.2), rng.normal(0.0, 0.08)
    cos, sin = np.cos(turn), np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]]) @ [[1.0, slant], [0.0, 1.0]] * [narrow, 1.0]
    bend = rng.normal(0.0, 0.05, (2, 2))
    drawn = []
    for stroke in hands[rng.integers(len(hands))].split("|"):
        points = np.array([pair.split(",") for pair in stroke.split()], dtype=np.float64) / 100
        path = _smooth(points + rng.normal(0.0, 0.045, points.shape))
        waves = np.pi * path[:, ::-1]
        path = path + bend[0] * np.sin(waves) + bend[1] * np.sin(2 * waves)
        drawn.append(path @ linear.T)
    return drawn


def _smooth(points: Path, steps: int = 5) -> Path:
    """Lead a Catmull-Rom spline through the points of a stroke."""
    if len(points) < 3:
        return points
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None]
    pieces = [
        0.5
        * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3)
        for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False)
    ]
    return np.vstack([*pieces, points[-1:]])
