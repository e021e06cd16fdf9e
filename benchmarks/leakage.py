"""Cost of leakage scores: ratios against a naive per-query loop, in one run on one machine.

    python benchmarks/leakage.py [--json FILE] [--repeats 30]

The naive loop is what one writes from the paper: scipy.stats.norm.logsf for log q and NumPy over
the 396 orders, one query at a time. Every figure is the median over repeats that alternate
between naive and fast, with the quartiles of the ratio; times are those of the processor, which
other work on the machine blurs least. What the first request after warming up
takes is in `first_request.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from powfast import leakage
from powfast.leakage import gnmax
from powfast.leakage.votes import rdp
from powfast.sketch import Sketch

BATCH = 64
ORDERS = gnmax.ORDERS_ICLR2022


def naive_log_q(votes, sigma):
    winner = np.argmax(votes)
    gaps = votes[winner] - np.delete(votes, winner)
    value = logsumexp(stats.norm.logsf(gaps / (math.sqrt(2) * sigma)))
    return min(value, math.log1p(-1 / len(votes)))


def naive_rdp(votes, sigma):
    """The Renyi DP of one query at all 396 orders."""
    lq = naive_log_q(votes, sigma)
    flat = ORDERS / sigma**2
    mu2 = sigma * math.sqrt(-lq)
    mu1 = mu2 + 1
    e1, e2 = mu1 / sigma**2, mu2 / sigma**2
    if mu2 <= 1 or -lq <= e2:
        return flat
    if lq > (mu2 - 1) * e2 - mu2 * (math.log(1 + 1 / (mu1 - 1)) + math.log(1 + 1 / (mu2 - 1))):
        return flat
    t = ORDERS - 1
    log_a = math.log1p(-math.exp(lq)) - math.log1p(-math.exp((lq + e2) * (mu2 - 1) / mu2))
    log_b = e1 - lq / (mu1 - 1)
    dependent = np.logaddexp(math.log1p(-math.exp(lq)) + t * log_a, lq + t * log_b) / t
    return np.where(mu1 > ORDERS, np.minimum(dependent, flat), flat)


def naive_epsilon(votes, sigma, delta=1e-5):
    return np.min(naive_rdp(votes, sigma) + math.log(1 / delta) / (ORDERS - 1))


def traffic(classes, teachers, seed=0):
    """Votes and teacher labels: half of the queries nearly unanimous, half contested."""
    rng = np.random.default_rng(seed)
    concentration = np.where(np.arange(BATCH) % 2 == 0, 0.01, 0.5) / np.sqrt(classes)
    spread = np.stack([rng.dirichlet(np.full(classes, a)) for a in concentration])
    labels = np.stack([rng.choice(classes, teachers, p=p) for p in spread])
    votes = np.stack([np.bincount(row, minlength=classes) for row in labels])
    return votes, labels


def seconds(function, calls):
    """Return the processor time of a call."""
    start = time.process_time()
    for _ in range(calls):
        function()
    return (time.process_time() - start) / calls


def compare(naive, fast, queries, repeats):
    """Return microseconds a query of both, and the ratio with its quartiles."""
    fast()
    once = seconds(fast, 3)
    calls = max(1, int(0.005 / once))
    pairs = np.array([(seconds(naive, 1), seconds(fast, calls)) for _ in range(repeats)])
    ratio = pairs[:, 0] / pairs[:, 1]
    return {
        "naive_us": float(np.median(pairs[:, 0]) / queries * 1e6),
        "powfast_us": float(np.median(pairs[:, 1]) / queries * 1e6),
        "ratio": float(np.median(ratio)),
        "quartiles": [float(q) for q in np.quantile(ratio, [0.25, 0.75])],
    }


def cases():
    """Yield (name, target ratio, naive, fast, queries)."""
    for classes, target in ((10, 1500), (100, 400), (1000, 120)):
        for teachers in (50, 250):
            sigma = teachers / 25
            votes, _ = traffic(classes, teachers)
            for metric in ("rdp", "iclr2022"):
                yield (
                    f"{metric} table, C={classes}, K={teachers}",
                    target,
                    lambda v=votes, s=sigma: [naive_epsilon(row, s) for row in v],
                    lambda v=votes, s=sigma, m=metric: leakage.from_votes(v, s, m, exact=False),
                    BATCH,
                )
    votes, _ = traffic(10, 250)
    for metric in ("logq", "rdp", "iclr2022"):
        yield (
            f"{metric} exact, C=10, K=250",
            None,
            lambda: [naive_epsilon(row, 10.0) for row in votes],
            lambda m=metric: leakage.from_votes(votes, 10.0, m),
            BATCH,
        )
    yield (
        "exact 396-order vector, C=10",
        60,
        lambda: [naive_rdp(row, 10.0) for row in votes],
        lambda: rdp(leakage.from_votes(votes, 10.0), 10.0, ORDERS),
        BATCH,
    )
    for metric in ("rdp", "iclr2022"):
        yield (
            f"{metric} table, NumPy without Numba, C=10",
            60,
            lambda: [naive_epsilon(row, 10.0) for row in votes],
            lambda m=metric: leakage.from_votes(votes, 10.0, m, exact=False, engine="numpy"),
            BATCH,
        )
    for classes in (10, 100, 1000, 10_000):
        counts, labels = traffic(classes, 50)
        yield (
            f"teacher labels, rdp table, C={classes}, K=50",
            800 if classes == 1000 else None,
            lambda v=counts: [naive_epsilon(row, 2.0) for row in v],
            lambda x=labels, c=classes: leakage.from_labels(x, c, 2.0, "rdp", exact=False),
            BATCH,
        )


def tightness():
    """Return the smallest and largest excess of table values over exact ones."""
    rows = {}
    rng = np.random.default_rng(5)
    for teachers in (50, 250):
        sigma = teachers / 25
        votes = np.concatenate([traffic(10, teachers, seed)[0] for seed in range(200)])
        votes = np.concatenate([votes, rng.multinomial(teachers, [0.1] * 10, size=2000)])
        for metric in ("rdp", "iclr2022", "eps"):
            table = leakage.from_votes(votes, sigma, metric, exact=False)
            exact = leakage.from_votes(votes, sigma, metric)
            excess = table / exact - 1
            rows[f"{metric}, K={teachers}"] = [float(excess.min()), float(excess.max())]
    return rows


def others():
    """Yield (what, measured, target) for fits, votes, references and imports."""
    rng = np.random.default_rng(0)
    one = traffic(10, 250)[0][:1].copy()
    for metric in ("logq", "rdp", "iclr2022"):
        score = partial(leakage.Scorer(10.0, metric, exact=False), one)
        each = statistics.median(seconds(score, 2000) for _ in range(20)) * 1e6
        yield f"one query, {metric}, C=10, us with the Python call", each, 1.5
    score = partial(leakage.from_votes, one, 10.0, "rdp", exact=False)
    each = statistics.median(seconds(score, 2000) for _ in range(20)) * 1e6
    yield "the same by from_votes, rdp, us", each, 1.5
    labels = rng.integers(0, 10, 16_000)
    features = rng.normal(size=(10, 64))[labels] + rng.normal(size=(16_000, 64))
    ensemble = leakage.TeacherEnsemble(50)
    fit = statistics.median(seconds(lambda: ensemble.fit(features, labels), 1) for _ in range(5))
    yield "fit 50 heads on 16 000 x 64, s", fit, 1.0
    batch = features[:BATCH]
    yield "votes of 50 heads, us a query", micros(lambda: ensemble.votes(batch)), 25.0
    scores = rng.normal(size=(5000, 3))
    reference = leakage.HonestReference.fit(scores, labels[:5000], delta=0.05)
    asked = labels[:BATCH]
    each = micros(lambda: reference.evidence(scores[:BATCH], asked)) / 3
    yield "evidence from 5000 references, us a query and score", each, 2.0
    estimator = leakage.LeakageEstimator().fit(features, labels)
    table = rng.dirichlet(np.ones(10), 5000)
    estimator.calibrate(features[:5000], table)
    each = micros(lambda: estimator.evidence(batch, table[:BATCH]))
    yield "all scores and evidence, us a query", each, 200.0
    for what, sketch in sketches(estimator, features, table):
        both = micros(lambda s=sketch: estimator.estimate(batch, table[:BATCH]).advance(s))
        yield f"account evidence beyond that, {what}, us a query", both - each, 50.0
        yield f"all evidence over all but account evidence, {what}", both / each, None
    each = micros(lambda: estimator.evidence(batch[:1], table[:1])) * BATCH
    yield "all scores and evidence, one query, us", each, None
    both = micros(lambda: estimator.estimate(batch[:1], table[:1]).advance(sketch)) * BATCH
    yield "account evidence beyond that, one query, us", both - each, None
    extra = statistics.median(imports("powfast") - imports("numpy") for _ in range(9))
    yield "import powfast beyond import numpy, s", extra, 0.2
    extra = statistics.median(imports("powfast.leakage") - imports("numpy") for _ in range(9))
    yield "import powfast.leakage beyond import numpy, s", extra, None


def sketches(estimator, features, table):
    """Yield a new account, which passes ten checkpoints in a batch, and an old one."""
    yield "a new account", None
    old = estimator.estimate(features[64:1064], table[64:1064]).advance(None)
    yield "after 1000 queries", Sketch(old.sums, old.fixed, old.version)


def micros(function):
    """Return the median microseconds a query at a full batch."""
    return statistics.median(seconds(function, 1) for _ in range(200)) / BATCH * 1e6


def imports(module):
    """Return the processor time that a fresh interpreter takes to import a module."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    once = seconds(leakage.warmup, 1)
    print(f"warm-up {once:.1f} s, batch {BATCH}, {options.repeats} repeats\n")
    print(f"{'case':48} {'naive us':>9} {'powfast us':>10} {'ratio':>7}  quartiles      target")
    results = {}
    for name, target, naive, fast, queries in cases():
        row = compare(naive, fast, queries, options.repeats)
        low, high = row["quartiles"]
        results[name] = {**row, "target": target}
        print(
            f"{name:48} {row['naive_us']:9.1f} {row['powfast_us']:10.4f} {row['ratio']:7.0f}"
            f"  {low:5.0f} .. {high:5.0f}  {target or ''}"
        )
    print("\ntable over exact, smallest and largest excess:")
    excess = tightness()
    for name, (low, high) in excess.items():
        print(f"  {name:20} {low:.2e} .. {high:.2e}")
    print()
    rest = {}
    for name, value, target in others():
        rest[name] = value
        print(f"{name:52} {value:9.3f}   {f'at most {target}' if target else ''}")
    if options.json:
        result = {"cases": results, "excess": excess, "others": rest}
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
