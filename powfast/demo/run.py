"""The demo: honest users and extractors against one served model, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from powfast.demo.calibration import calibrated
from powfast.demo.caller import Caller, Row
from powfast.demo.data import Images, Split, digits, redrawn
from powfast.demo.extractors import Copy, Extractor, copycat, in_batches, jacobian, noise
from powfast.demo.service import Victim, application, served
from powfast.profile import hash_rate
from powfast.tariff import EvidenceTariff

BATCH = 64
QUERIES = 2048
FIRST = "honest, first request"  # every request from an account that is new
_OPENING = 1e5  # base prices: much less than the ten seconds that calibrate allows
_CHECKPOINTS = (64, 256, 1024, QUERIES)


@dataclass(frozen=True)
class Result:
    """Everything the demo measured; times in seconds, work in SHA-256 evaluations."""

    seed: int
    victim_accuracy: float
    hash_rate: float
    service_time: float
    base_work: float
    opening_work: float
    rows: list[Row]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True)
class Role:
    """Somebody who calls the service."""

    name: str
    kind: Literal["honest", "extractor"]
    queries: Extractor
    account_size: int | None = None


@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def run(seed: int = 0, budget: float = 2.0, say: Callable[[str], None] = print) -> Result:
    """Run the whole demo.

    Parameters
    ----------
    seed : int
        The same seed gives the same prices, counted in base prices.
    budget : float
        Seconds that each extractor spends on solving; beyond it prices are computed.
    say
        Told what happens next.
    """
    splits = digits(np.random.default_rng([seed, 0]))
    say("training a model on 500 handwritten digits")
    victim = Victim(splits["victim"], splits["reference"], seed)
    say("calibrating the price on honest accounts")
    rate = hash_rate(seconds=1.0)
    tariff, service_time = calibrated(
        victim, splits["tariff"], rate=rate, batch=BATCH, opening=_OPENING, seed=seed
    )
    rows = []
    with served(application(victim, tariff)) as url:
        for role in _cast(victim, tariff, splits, seed):
            say(f"calling the model: {role.name}")
            rows.append(_played(role, url, rate, budget, victim, splits["test"]))
    test = splits["test"]
    correct = victim.probabilities(test.images).argmax(axis=1) == test.labels
    return Result(
        seed=seed,
        victim_accuracy=float(correct.mean()),
        hash_rate=rate,
        service_time=service_time,
        base_work=tariff.base_work,
        opening_work=tariff.opening_work,
        rows=rows,
    )


def _cast(
    victim: Victim, tariff: EvidenceTariff, splits: dict[str, Split], seed: int
) -> list[Role]:
    """Return everybody who will call: honest users first."""
    rng = np.random.default_rng([seed, 3])
    honest, seeds = splits["honest"], splits["seeds"].images
    everything = _writer(honest, range(10), rng)
    one_class = _writer(honest, [int(rng.integers(10))], rng)
    patches = copycat(rng)
    size = _best_account(tariff, victim.evidence(patches(512)))
    return [
        Role("honest user", "honest", in_batches(everything, QUERIES, BATCH)),
        Role("honest, one digit only", "honest", in_batches(one_class, QUERIES, BATCH)),
        Role(FIRST, "honest", in_batches(everything, QUERIES, BATCH), BATCH),
        Role("Jacobian augmentation", "extractor", jacobian(seeds, QUERIES, BATCH, rng)),
        Role("photographs (CopyCat)", "extractor", in_batches(patches, QUERIES, BATCH)),
        Role("random noise", "extractor", in_batches(noise(rng), QUERIES, BATCH)),
        Role("photographs, split", "extractor", in_batches(patches, QUERIES, BATCH), size),
    ]


def _writer(split: Split, classes: Any, rng: Generator) -> Callable[[int], Images]:
    """Return somebody who writes digits of these classes."""
    images = split.images[np.isin(split.labels, list(classes))]
    return lambda count: redrawn(images[rng.integers(len(images), size=count)], rng)


def _best_account(tariff: EvidenceTariff, evidence: Images) -> int:
    """Return how many of these queries an account should send before it is abandoned.

    The extractor is granted what it could not know: the tariff and its own evidence.
    """

    def price(size: int) -> float:
        accounts = np.array([tariff.work(part)[0].sum() for part in evidence.reshape(-1, size)])
        return float(accounts.mean()) / size

    sizes: list[int] = [2**k for k in range(7)]  # they divide a batch
    return min(sizes, key=price)


def _played(role: Role, url: str, rate: float, budget: float, victim: Victim, test: Split) -> Row:
    """Let one role call the service, and judge the copy that it can train."""
    row = Row(role.name, role.kind)
    limit = budget if role.kind == "extractor" else float("inf")
    caller = Caller(url, row, hash_rate=rate, budget=limit, account_size=role.account_size)
    sent, answered = [next(role.queries)], []
    try:
        while True:
            before = row.queries
            answered.append(caller.ask(sent[-1]))
            due = any(before < checkpoint <= row.queries for checkpoint in _CHECKPOINTS)
            if due and role.kind == "extractor":
                _judge(row, Copy(np.vstack(sent), np.vstack(answered)), victim, test)
            sent.append(role.queries.send(answered[-1]))
    except StopIteration:
        caller.close()
    row.mean_leakage = float(victim.evidence(np.vstack(sent)).mean())
    row.multiple = row.seconds / row.undefended_seconds
    return row


def _judge(row: Row, copy: Copy, victim: Victim, test: Split) -> None:
    """Note how good the copy is at this point, and what it has cost so far."""
    predicted = copy.predict(test.images)
    row.accuracy = float((predicted == test.labels).mean())
    row.fidelity = float((predicted == victim.probabilities(test.images).argmax(axis=1)).mean())
    point = {"queries": row.queries, "accuracy": row.accuracy, "seconds": row.seconds}
    row.curve.append({**point, "undefended_seconds": row.undefended_seconds})
