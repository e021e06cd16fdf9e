"""Does leakage separate extraction from use? MNIST, a convolutional victim, many estimators.

    python benchmarks/separation.py [--data ../shared/data] [--seeds 0 1 2] [--json FILE]

The victim learns from the first 50 000 training digits, estimators are fitted on 16 000 of them,
references on the last 5000 training digits, and honest queries are the 10 000 test digits: no
digit serves twice. Each estimator's scores become evidence by a `HonestReference`; "share" is the
share of queries beyond the 99.5 % honest quantile of evidence over 0.5 %, so 200 is everything
and 1 is blind; "growth" is the mean log evidence of a query; "ratio" the mean score over the
honest mean, for metrics that are sums over queries.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from extraction.data import cifar10, home, mnist
from PIL import Image
from torch import nn

from powfast.leakage import (
    HonestReference,
    LeakageEstimator,
    NeighbourVotes,
    TeacherEnsemble,
    entropy,
    from_votes,
    margin,
    warmup,
)
from powfast.leakage.features import from_torch

LAYERS = ("pool1", "pool2", "hidden")  # 16 + 32 channel means and 64 units
QUERIES = 3000  # of each suspicious kind


def grey_cifar(folder):
    """CIFAR-10's photographs in grey, as large as the digits."""
    photographs = np.rint(cifar10(folder, "test", QUERIES).images * 255).astype(np.uint8)
    small = [
        np.asarray(Image.fromarray(pixels).convert("L").resize((28, 28)), np.float32)
        for pixels in photographs.transpose(0, 2, 3, 1)
    ]
    return np.stack(small) / 255


def shifted(images, by, rng):
    """Move each digit `by` pixels in one of eight directions."""
    steps = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]) * by
    out = np.empty_like(images)
    for i, (x, y) in enumerate(steps[rng.integers(len(steps), size=len(images))]):
        padded = np.pad(images[i], by)
        out[i] = padded[by + y : by + y + 28, by + x : by + x + 28]
    return out


def jacobian(victim, images, step=0.1):
    """Papernot et al.'s augmentation: a step along the sign of the winning logit's gradient."""
    x = torch.tensor(images[:, None], requires_grad=True)
    victim(x).max(dim=1).values.sum().backward()
    return np.clip(images + step * np.sign(x.grad[:, 0].numpy()), 0, 1).astype(np.float32)


def train(images, labels, seed, epochs=4):
    torch.manual_seed(seed)
    victim = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flat=nn.Flatten(),
            dense=nn.Linear(32 * 49, 64),
            hidden=nn.ReLU(),
            logits=nn.Linear(64, 10),
        )
    )
    optimiser = torch.optim.Adam(victim.parameters(), 1e-3)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(images)), len(images) // 128):
            loss = nn.functional.cross_entropy(
                victim(torch.tensor(images[rows][:, None])), torch.tensor(labels[rows])
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return victim.eval()


def ask(victim, images):
    """Return pixels, features by layer and probabilities."""
    parts = [
        from_torch(victim, torch.tensor(images[i : i + 1000][:, None]), LAYERS)
        for i in range(0, len(images), 1000)
    ]
    features = np.vstack([part[0] for part in parts])
    probabilities = torch.cat([part[1] for part in parts]).double().softmax(dim=1).numpy()
    return {
        "pixels": images.reshape(len(images), -1).astype(np.float64),
        "hidden": features[:, -64:],
        "layers": features,
        "probabilities": probabilities,
    }


def kinds(folder, victim, test, seed):
    rng = np.random.default_rng(seed)
    some, others = test[:QUERIES], test[5000 : 5000 + QUERIES]
    return {
        "grey CIFAR-10": grey_cifar(folder),
        "noise": rng.random((QUERIES, 28, 28), dtype=np.float32),
        "inverted": 1 - some,
        "mixtures": (some + others) / 2,
        "shifted 3": shifted(some, 3, rng),
        "shifted 6": shifted(some, 6, rng),
        "noisy": np.clip(some + rng.normal(0, 0.3, some.shape), 0, 1).astype(np.float32),
        "Jacobian": jacobian(victim, some),
    }


def scorers(fit, labels):
    """Yield (name, additive, function from answers to (n, m) scores)."""

    def heads(count, where, **options):
        return TeacherEnsemble(count, **options).fit(fit[where], labels), count / 25

    ensembles = {
        "250 heads, pixels": (*heads(250, "pixels", random_features=300, ridge=0.1), "pixels"),
        "50 heads, pixels": (*heads(50, "pixels", random_features=300, ridge=0.1), "pixels"),
        "50 heads, penultimate": (*heads(50, "hidden"), "hidden"),
        "50 heads, three layers": (*heads(50, "layers"), "layers"),
    }
    for name, (ensemble, sigma, where) in ensembles.items():
        for metric in ("iclr2022", "rdp", "logq"):

            def score(a, e=ensemble, s=sigma, w=where, m=metric):
                return from_votes(e.votes(a[w]), s, m)

            yield f"{metric}, {name}", metric != "logq", score
    pknn = NeighbourVotes(50, subsample=4000).fit(fit["hidden"], labels)
    yield (
        "iclr2022, pkNN penultimate",
        True,
        lambda a: from_votes(pknn.votes(a["hidden"]), 2.0, "iclr2022"),
    )
    yield "entropy", True, lambda a: entropy(a["probabilities"])
    yield "margin", False, lambda a: margin(a["probabilities"])
    nearest = NeighbourVotes(10, subsample=4000).fit(fit["hidden"], labels)
    yield "10th neighbour, penultimate", True, lambda a: nearest.distance(a["hidden"])
    for where, name in (("hidden", "penultimate"), ("layers", "three layers")):
        estimator = LeakageEstimator().fit(fit[where], labels)
        yield (
            f"class density, {name}",
            False,
            lambda a, e=estimator, w=where: e.density_.distance(a[w]),
        )
        yield (
            f"density of roots, {name}",
            False,
            lambda a, e=estimator, w=where: e.scores(a[w], a["probabilities"])[:, 3],
        )
        yield (
            f"LeakageEstimator, {name}",
            False,
            lambda a, e=estimator, w=where: e.scores(a[w], a["probabilities"]),
        )


def judge(score, additive, reference, honest, strange, delta):
    """Return one estimator's row: shares, growths, ratios, and honest means by class."""

    def stratum(answers):
        return answers["probabilities"].argmax(axis=1)

    def table(answers):
        values = score(answers)
        return values[:, None] if values.ndim == 1 else values

    known = table(reference)
    weights = LeakageEstimator().weights if known.shape[1] > 1 else None
    fitted = HonestReference.fit(known, stratum(reference), delta=delta, weights=weights)
    ours = table(honest)
    evidence = fitted.evidence(ours, stratum(honest))
    limit = np.quantile(evidence, 0.995)
    base = max(float((evidence > limit).mean()), 0.005)
    row = {
        "honest mean": float(evidence.mean()),
        "honest classes": [float(evidence[stratum(honest) == c].mean()) for c in range(10)],
        "honest growth": float(np.log(evidence).mean()),
        "kinds": {},
    }
    for name, answers in strange.items():
        theirs = table(answers)
        got = fitted.evidence(theirs, stratum(answers))
        row["kinds"][name] = {
            "share": float((got > limit).mean()) / base,
            "growth": float(np.log(got).mean()),
            "ratio": float(theirs.mean() / ours.mean()) if additive else None,
        }
    return row


def cost(estimator, answers, where):
    """Return the median microseconds a query of all scores and evidence, at batch 64."""
    features, probabilities = answers[where][:64], answers["probabilities"][:64]
    times = []
    for _ in range(300):
        start = time.perf_counter()
        estimator.evidence(features, probabilities)
        times.append(time.perf_counter() - start)
    return float(np.median(times) / 64 * 1e6)


def over(victims, combine):
    """Combine the rows of several victims number by number."""
    first = victims[0]
    if isinstance(first, dict):
        return {key: over([victim[key] for victim in victims], combine) for key in first}
    if isinstance(first, list):
        return [over(list(items), combine) for items in zip(*victims, strict=True)]
    return None if first is None else float(combine(victims))


def show(rows, names, what, form):
    print(f"\n{what:28} " + " ".join(f"{name:>13}" for name in names) + "   honest  worst class")
    for name, row in rows.items():
        cells = [row["kinds"][kind][what] for kind in names]
        if all(cell is None for cell in cells):
            continue
        print(
            f"{name:28} "
            + " ".join(f"{cell:13{form}}" for cell in cells)
            + f"   {row['honest mean']:6.2f}  {max(row['honest classes']):6.2f}"
        )


def run(data, seed, delta):
    """Return (rows, accuracy of the victim, costs) for one victim."""
    train_set, test_set = mnist(data, "train"), mnist(data, "t10k")
    images, labels = train_set.images[:, 0], train_set.labels
    test, truth = test_set.images[:, 0], test_set.labels
    victim = train(images[:50_000], labels[:50_000], seed)
    fit, reference = ask(victim, images[:16_000]), ask(victim, images[55_000:])
    honest = ask(victim, test)
    accuracy = float((honest["probabilities"].argmax(axis=1) == truth).mean())
    strange = {name: ask(victim, x) for name, x in kinds(data, victim, test, seed).items()}
    rows = {
        name: judge(score, additive, reference, honest, strange, delta)
        for name, additive, score in scorers(fit, labels[:16_000])
    }
    costs = {}
    for where in ("hidden", "layers"):
        start = time.perf_counter()
        estimator = LeakageEstimator().fit(fit[where], labels[:16_000])
        fitted = time.perf_counter() - start
        estimator.calibrate(reference[where], reference["probabilities"], delta=delta)
        costs[where] = {"fit_seconds": fitted, "us_per_query": cost(estimator, honest, where)}
    return rows, accuracy, costs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=home())
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--delta", type=float, default=0.05, help="0: none")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warmup()
    victims = []
    for seed in options.seeds:
        rows, accuracy, costs = run(options.data, seed, options.delta or None)
        victims.append(rows)
        print(f"victim {seed}: {accuracy:.2%} of the test digits right")
    names = list(next(iter(rows.values()))["kinds"])
    mean, lowest = over(victims, np.mean), over(victims, np.min)
    print(f"\nmean over {len(victims)} victims")
    for what, form in (("share", ".0f"), ("growth", ".2f"), ("ratio", ".1f")):
        show(mean, names, what, form)
    ours = {name: row for name, row in lowest.items() if name.startswith("LeakageEstimator")}
    print("\nlowest over victims")
    for what, form in (("share", ".0f"), ("growth", ".2f")):
        show(ours, names, what, form)
    highest = over(victims, np.max)
    worst = max(highest["LeakageEstimator, three layers"]["honest classes"])
    print(f"\nhighest mean evidence of an honest class, three layers: {worst:.2f}")
    for where, row in costs.items():
        print(
            f"{where}: fitted in {row['fit_seconds']:.2f} s, {row['us_per_query']:.1f} us a query"
        )
    if options.json:
        result = {"seeds": options.seeds, "delta": options.delta, "victims": victims}
        options.json.write_text(json.dumps({**result, "costs": costs}, indent=1))


if __name__ == "__main__":
    main()
