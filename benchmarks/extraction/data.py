"""The three data sets, found or downloaded, and cut so that no picture serves two purposes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from powfast.demo.data import photo_patches, redrawn

Images = NDArray[np.float32]
"""(n, channels, side, side), values in [0, 1]."""
Labels = NDArray[np.int64]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[2]

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_MD5 = {  # of the files without gzip, which packs them differently from home to home
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_CIFAR = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR_FILES = {
    "train": [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}


@dataclass(frozen=True)
class Pictures:
    """Labelled images of one purpose: images (n, c, s, s) float32, labels (n,) int64."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | Rows) -> Pictures:
        return Pictures(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Parts:
    """One data set, cut. Nothing that prices meets what it is judged on.

    Attributes
    ----------
    victim : what the model, and the estimator's heads, learn from
    reference : honest queries that make scores into evidence
    tariff : honest queries that the prices are calibrated on
    honest : what honest users send
    owned : what an extractor with in-distribution data owns
    foreign : what an extractor has otherwise; its labels are those of another data set
    test : what judges victim and copies
    """

    victim: Pictures
    reference: Pictures
    tariff: Pictures
    honest: Pictures
    owned: Pictures
    foreign: Pictures
    test: Pictures


def load(name: str, seed: int, folder: Path | None = None) -> Parts:
    """Return data set "mnist", "cifar10", "cifar10-small" or "digits", cut by `seed`."""
    folder = home() if folder is None else folder
    return _CUTS[name](folder, np.random.default_rng([seed, 0]))


def scaled(pixels: NDArray[np.uint8]) -> Images:
    """Return pixels (n, c, s, s) of eight bits as images."""
    return np.divide(pixels, 255, dtype=np.float32)


def home() -> Path:
    """Folder of the data sets: `POWFAST_DATA`, or beside the project."""
    return Path(os.environ.get("POWFAST_DATA", ROOT.parent / "shared" / "data"))


def mnist(folder: Path, part: str) -> Pictures:
    """Return MNIST's "train" (60 000) or "t10k" (10 000) digits."""

    def read(kind: str, header: int) -> NDArray[np.uint8]:
        name = f"{part}-{kind}-ubyte"
        path = _found(folder / "mnist" / f"{name}.gz", f"{_MNIST}{name}.gz")
        raw = gzip.decompress(path.read_bytes())
        _check(raw, _MNIST_MD5[name], path)
        return np.frombuffer(raw, np.uint8, offset=header)

    pixels = read("images-idx3", 16).reshape(-1, 1, 28, 28)
    return Pictures(scaled(pixels), read("labels-idx1", 8).astype(np.int64))


def cifar10(folder: Path, part: str, count: int) -> Pictures:
    """Return the first photographs of CIFAR-10's "train" (50 000) or "test" (10 000)."""
    packed = folder / "cifar10" / f"{part}.npz"
    if packed.exists():
        with np.load(packed) as file:
            stream, ends = file["jpeg"].tobytes(), file["offsets"]
            labels = file["labels"][:count].astype(np.int64)
        pixels = np.stack(
            [
                np.asarray(Image.open(io.BytesIO(stream[ends[i] : ends[i + 1]])))
                for i in range(len(labels))
            ]
        ).transpose(0, 3, 1, 2)
    else:
        labels, pixels = _original_cifar10(folder, part, count)
    return Pictures(scaled(pixels), labels)


def _original_cifar10(folder: Path, part: str, count: int) -> tuple[Labels, NDArray[np.uint8]]:
    path = _found(folder / "cifar10" / _CIFAR.rsplit("/", 1)[1], _CIFAR)
    _check(path.read_bytes(), _CIFAR_MD5, path)
    with tarfile.open(path) as archive:
        members = [archive.extractfile(name) for name in _CIFAR_FILES[part]]
        raw = b"".join(member.read() for member in members if member is not None)
    rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)[:count]
    return rows[:, 0].astype(np.int64), rows[:, 1:].reshape(-1, 3, 32, 32)


def _found(path: Path, url: str) -> Path:
    """Return the file, downloaded if it is missing; one that was cut short is continued."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    have = partial.stat().st_size if partial.exists() else 0
    wanted = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(wanted, timeout=60) as response:
        with partial.open("ab" if response.status == 206 else "wb") as file:
            shutil.copyfileobj(response, file)
        if response.length:
            raise OSError(f"{url} broke off {response.length} bytes before its end: try again")
    return partial.rename(path)


def _check(raw: bytes, md5: str, path: Path) -> None:
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{path} is not the file it should be: delete it to download it again")


def _cut(pictures: Pictures, sizes: Sequence[int], rng: np.random.Generator) -> list[Pictures]:
    """Cut into parts of these sizes and the rest, at random."""
    rows = rng.permutation(len(pictures))
    return [pictures[part] for part in np.split(rows, np.cumsum(sizes))]


def _cut_mnist(folder: Path, rng: np.random.Generator) -> Parts:
    """Users and judges have their digits from other writers than everything else."""
    train = _cut(mnist(folder, "train"), [30_000, 15_000, 5_000], rng)
    honest, test = _cut(mnist(folder, "t10k"), [7_000], rng)
    photographs = cifar10(folder, "train", 12_000)
    small = [
        np.asarray(Image.fromarray(np.uint8(picture.mean(axis=0) * 255)).resize((28, 28)))
        for picture in photographs.images
    ]
    foreign = Pictures(scaled(np.stack(small)[:, None]), photographs.labels)
    victim, reference, tariff, owned = train
    return Parts(victim, reference, tariff, honest, owned, foreign, test)


def _cut_cifar10(folder: Path, rng: np.random.Generator) -> Parts:
    """Foreign pictures are patches of two photographs, of other things than CIFAR-10's."""
    victim, reference, tariff, owned = _cut(
        cifar10(folder, "train", 50_000), [25_000, 10_000, 5_000], rng
    )
    honest, test = _cut(cifar10(folder, "test", 10_000), [7_000], rng)
    return Parts(victim, reference, tariff, honest, owned, _coloured_patches(12_000, rng), test)


def _coloured_patches(count: int, rng: np.random.Generator) -> Pictures:
    """Cut 32 x 32 patches at four scales, mirrored or not, from scikit-learn's two photographs."""
    photographs, scales = load_sample_images().images, (1, 2, 4, 8)
    images, labels = np.empty((count, 3, 32, 32), np.float32), np.empty(count, np.int64)
    for i in range(count):
        photograph, scale = rng.integers(len(photographs)), rng.integers(len(scales))
        picture, pixel = photographs[photograph], scales[scale]
        top, left = (rng.integers(side - 32 * pixel) for side in picture.shape[:2])
        window = picture[top : top + 32 * pixel, left : left + 32 * pixel]
        patch = window.reshape(32, pixel, 32, pixel, 3).mean(axis=(1, 3)) / 255
        images[i] = patch[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])].transpose(2, 0, 1)
        labels[i] = photograph * len(scales) + scale
    return Pictures(images, labels)


def _cut_digits(folder: Path, rng: np.random.Generator) -> Parts:
    """scikit-learn's digits, redrawn a little to be enough; photographs come in patches."""
    originals = load_digits()
    pictures = Pictures(originals.data / 16, np.asarray(originals.target, dtype=np.int64))
    sizes = {"victim": 500, "reference": 400, "tariff": 200, "honest": 200, "owned": 250}
    copies = {"victim": 2, "reference": 10, "tariff": 5, "honest": 5, "owned": 4, "test": 1}

    def enough(part: Pictures, times: int) -> Pictures:
        grey = part.images.astype(np.float64)
        drawn = [grey, *(redrawn(grey, rng) for _ in range(times - 1))]
        return Pictures(
            np.vstack(drawn).clip(0, 1).astype(np.float32).reshape(-1, 1, 8, 8),
            np.tile(part.labels, times),
        )

    parts = _cut(pictures, list(sizes.values()), rng)
    cut = {
        name: enough(part, times) for (name, times), part in zip(copies.items(), parts, strict=True)
    }
    patches = np.float32(photo_patches(1000, rng)).reshape(-1, 1, 8, 8)
    brightness = np.digitize(patches.mean(axis=(1, 2, 3)), np.linspace(0.1, 0.9, 9))
    return Parts(**cut, foreign=Pictures(patches, brightness))


def _cut_small_cifar10(folder: Path, rng: np.random.Generator) -> Parts:
    """As much of CIFAR-10 as tells whether everything runs."""
    parts = _cut_cifar10(folder, rng)
    return Parts(**{name: part[:1500] for name, part in vars(parts).items()})


_CUTS = {
    "mnist": _cut_mnist,
    "cifar10": _cut_cifar10,
    "cifar10-small": _cut_small_cifar10,
    "digits": _cut_digits,
}
