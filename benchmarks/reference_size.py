"""What the size of the honest reference buys: MNIST, a two-layer victim, real evidence.

    python benchmarks/reference_size.py [--data ../shared/data] [--json FILE]

Victim and estimator learn from the first 30 000 training digits, references are cut from the other
30 000, the tariff is calibrated on accounts that draw from the first half of the test digits, and
reported on accounts that draw from the second: half of them ask about one or two classes only.
Extractors send grey photographs of CIFAR-10, noise, inverted digits, half-and-half mixtures of
digit and photograph, or shifted digits. Each is granted its best split over accounts and its best
dilution among the most ordinary queries, in times of the undefended call per useful query.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.neural_network import MLPClassifier

from powfast.errors import InvalidInput
from powfast.leakage import LeakageEstimator
from powfast.tariff import calibrate, simulate

SERVICE_TIME, HASH_RATE = 0.005, 40e6
PER_CLASS = (100, 500, 2500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[1]
    default = os.environ.get("POWFAST_DATA", root.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    x, y = digits(arguments.data, "train")
    test, test_labels = digits(arguments.data, "t10k")
    victim = Victim(x[:30_000], y[:30_000])
    traffic = victims_view(victim, test, photographs(arguments.data, len(test) // 2))
    estimator = LeakageEstimator().fit(victim.features(x[:30_000]), y[:30_000])
    rows = []
    for size in PER_CLASS:
        held = x[30_000 : 30_000 + 10 * size]
        estimator.calibrate(victim.features(held), victim.probabilities(held))
        evidence = {name: estimator.evidence(*seen) for name, seen in traffic.items()}
        try:
            rows.append(measured(size, evidence, test_labels))
        except InvalidInput as error:  # the reference is too small to tell anybody apart
            print(f"reference of {size} a class: {error}")
        else:
            show(rows[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


class Victim:
    """A perceptron with two hidden layers; both are features."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self._model = MLPClassifier((256, 128), max_iter=8, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._model.fit(x, y)

    def features(self, x: np.ndarray) -> np.ndarray:
        layers = []
        for weights, bias in zip(self._model.coefs_[:2], self._model.intercepts_[:2], strict=True):
            x = np.maximum(x @ weights + bias, 0.0)
            layers.append(x)
        return np.hstack(layers)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return self._model.predict_proba(x)


def victims_view(
    victim: Victim, test: np.ndarray, photos: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    own = test[: len(photos)]
    shifted = np.roll(own.reshape(-1, 28, 28), (2, 2), (1, 2)).reshape(own.shape)
    images = {
        "honest": test,
        "photographs": photos,
        "noise": np.random.default_rng(1).random(photos.shape),
        "inverted": 1.0 - own,
        "mixtures": 0.5 * own + 0.5 * photos,
        "shifted": shifted,
    }
    return {name: (victim.features(x), victim.probabilities(x)) for name, x in images.items()}


def measured(size: int, evidence: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    honest, half = evidence.pop("honest"), len(labels) // 2
    known = accounts(honest[:half], labels[:half], np.random.default_rng(2))
    fresh = accounts(honest[half:], labels[half:], np.random.default_rng(3))
    calibration = calibrate(
        known, service_time=SERVICE_TIME, hash_rate=HASH_RATE, suspicious=evidence
    )
    result = simulate(calibration.tariff, fresh)
    overhead = 1.0 + result.totals / result.queries / (SERVICE_TIME * HASH_RATE)
    attacks = calibration.report["attacks"]
    return {
        "reference_per_class": size,
        "opening_in_base_prices": calibration.report["opening_in_base_prices"],
        "honest_overhead_99%": float(np.quantile(overhead, 0.99)),
        "honest_share_above_100_base_prices": float((result.max_price > 100).mean()),
        "attacks": {
            name: {way: figures["overhead"] for way, figures in ways.items()}
            for name, ways in attacks.items()
        },
    }


def accounts(honest: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    traces = []
    for account in range(400):
        classes = rng.choice(10, 10 if account % 2 else rng.integers(1, 3), replace=False)
        length = int(1000 * 10 ** rng.random())
        traces.append(rng.choice(honest[np.isin(labels, classes)], length))
    return traces


def show(row: dict[str, Any]) -> None:
    print(
        f"reference of {row['reference_per_class']} a class: opening"
        f" {row['opening_in_base_prices']:.0f} base prices, honest 99 % overhead"
        f" {row['honest_overhead_99%']:.2f}x, ever above 100 base prices"
        f" {row['honest_share_above_100_base_prices']:.1%}"
    )
    for name, ways in row["attacks"].items():
        print(
            f"  {name:12} split {ways['best_split']:6.0f}x  diluted {ways['best_dilution']:6.0f}x"
        )


def digits(data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    def read(name: str, header: int) -> np.ndarray:
        raw = gzip.decompress((data / "mnist" / name).read_bytes())
        return np.frombuffer(raw, np.uint8, offset=header)

    images = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 784) / 255.0
    return images, read(f"{part}-labels-idx1-ubyte.gz", 8).astype(int)


def photographs(data: Path, count: int) -> np.ndarray:
    with np.load(data / "cifar10" / "train.npz") as archive:
        stream, offsets = archive["jpeg"].tobytes(), archive["offsets"]
    grey = []
    for i in range(count):
        image = Image.open(io.BytesIO(stream[offsets[i] : offsets[i + 1]]))
        grey.append(np.asarray(image.convert("L").resize((28, 28))).ravel() / 255.0)
    return np.stack(grey)


if __name__ == "__main__":
    main()
