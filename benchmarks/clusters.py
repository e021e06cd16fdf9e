"""What honest accounts of rare classes pay with clusters, and with one pool: docs/leakage.md.

    python benchmarks/clusters.py

200 simulated classes with a median of 8 honest queries, four scores, each class with a location
and a spread of its own. Prices are means over 1000 queries, in base prices, at the 99 % quantile
of accounts.
"""

from __future__ import annotations

import numpy as np

from powfast.leakage import HonestReference
from powfast.leakage.clusters import cluster_small
from powfast.tariff import EvidenceTariff

CLASSES, FRESH = 200, 200
WEIGHTS = (0.05, 0.15, 0.4, 0.4)
TARIFF = EvidenceTariff(1.0)


def main() -> None:
    print("centres  seed  reference  one class  three classes  all  classes above 1  far growth")
    for apart in (0.3, 1.0):
        for seed in range(3):
            compare(apart, seed)


def compare(apart: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.rint(8 * np.exp(0.8 * rng.normal(size=CLASSES))).astype(int).clip(2)
    centres = apart * rng.normal(size=(CLASSES, 4))
    spreads = np.exp(0.25 * rng.normal(size=(CLASSES, 4)))

    def draw(strata: np.ndarray) -> np.ndarray:
        common = 0.6 * rng.normal(size=(len(strata), 1))
        return centres[strata] + spreads[strata] * (
            common + 0.8 * rng.normal(size=(len(strata), 4))
        )

    strata = np.repeat(np.arange(CLASSES), counts)
    scores = draw(strata)
    asked = np.repeat(np.arange(CLASSES), FRESH)
    fresh = draw(asked)
    clusters, kept = cluster_small(scores, strata, 20, 0)
    references = {
        "pool": HonestReference.fit(scores, strata, delta=0.05, weights=WEIGHTS),
        "clusters": HonestReference.fit(
            scores[kept], strata[kept], delta=0.05, weights=WEIGHTS, clusters=clusters
        ),
    }
    for name, reference in references.items():
        evidence = reference.evidence(fresh, asked).reshape(CLASSES, FRESH)
        one = [price(row, rng) for row in evidence]
        three = [price(evidence[rng.choice(CLASSES, 3)].ravel(), rng) for _ in range(200)]
        mixed = [price(evidence.ravel(), rng) for _ in range(200)]
        high = "  ".join(f"{np.quantile(prices, 0.99):9.3g}" for prices in (one, three, mixed))
        above = (evidence.mean(axis=1) > 1.0).mean()
        growth = np.log(reference.evidence(fresh + 3.0, asked)).mean()
        print(f"{apart:7}  {seed:4}  {name:9}  {high}  {above:.1%}  {growth:.2f}")


def price(evidence: np.ndarray, rng: np.random.Generator) -> float:
    return float(TARIFF.work(rng.choice(evidence, 1000))[0].mean())


if __name__ == "__main__":
    main()
