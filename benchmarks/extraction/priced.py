"""What everybody pays in the world of one seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.extraction import paper
from benchmarks.extraction.attacks import ATTACKS
from benchmarks.extraction.data import Floats
from benchmarks.extraction.newcomers import SHARES, Newcomers, Stream
from benchmarks.extraction.pricing import HASH_RATES, Prices, Solver, Ways, reached
from benchmarks.extraction.service import Service, solved
from benchmarks.extraction.settings import Setting
from benchmarks.extraction.stages import (
    ALL,
    APART,
    CALIBRATING,
    USUAL,
    extract,
    times_of,
    train_victim,
    users_of,
    world,
    write,
)
from powfast.tariff import EvidenceTariff, Iclr2022Tariff, calibrate

MAX_OVERHEAD = 2.0
_MARGIN = 0.02  # of the allowed overhead: held-out accounts are other accounts
_LEAST_SOLVING = 0.1  # service times, where the gate takes nearly all that is allowed
_OPENING = 2000  # service times, as ten seconds are to a model of 5 ms
_SOLVERS, _SOLVED = 15, 960  # honest accounts and their queries that are really solved
WANTED = (0.9, 0.95)  # of the victim's accuracy


@dataclass(frozen=True)
class _Tariffs:
    """Ours and the paper's, calibrated on the same honest accounts.

    Attributes
    ----------
    ours, theirs : what either asks
    ordinary : (2,), evidence and the paper's eps of the most ordinary queries
    """

    ours: Prices
    theirs: Iclr2022Tariff
    ordinary: Floats


def price(setting: Setting, seed: int) -> Path:
    """Calibrate on honest accounts as an operator would, and price everybody."""
    file = setting.file("priced", ".json", seed=seed)
    if file.exists():
        return file
    tariffs = calibrated(setting, seed)
    users = {group: users_of(setting, seed, group) for group in (USUAL, ALL, APART)}
    usual = [seen[:, 0] for _, seen in users[USUAL]]
    victim = json.loads(train_victim(setting, seed).read_text())["accuracy"]
    document = {
        "victim_accuracy": victim,
        "base_price": tariffs.ours.base_price,
        "opening": tariffs.ours.opening,
        "users": {
            group: [_user(tariffs, kind, seen) for kind, seen in accounts]
            for group, accounts in users.items()
        },
        "attacks": {
            name: _attack(tariffs, extract(setting, seed, name), setting.checkpoints, victim, usual)
            for name in ATTACKS
        },
    }
    return write(file, document)


def calibrated(setting: Setting, seed: int) -> _Tariffs:
    known = [seen for _, seen in users_of(setting, seed, CALIBRATING)]
    times = times_of(setting)
    solving = max(_LEAST_SOLVING, MAX_OVERHEAD - _MARGIN - 1.0 - times.handling)
    calibration = calibrate(
        [seen[:, 0] for seen in known],
        service_time=times.service,
        hash_rate=times.hash_rate,
        max_overhead=1.0 + solving,
        max_opening=_OPENING * times.service,
        seed=seed,
    )
    return _Tariffs(
        Prices(calibration.tariff, times),
        paper.fitted([seen[:, 1] for seen in known]),
        np.quantile(np.concatenate(known), 0.01, axis=0),
    )


def solve_for_real(setting: Setting) -> Path:
    """Let honest users solve all they owe, to hold the conversion of work to time to a clock."""
    file = setting.file("solved", ".json")
    if file.exists():
        return file
    seed = setting.seeds[0]
    figures = json.loads(price(setting, seed).read_text())
    here, times = world(setting, seed), times_of(setting)
    base_work = figures["base_price"] * times.service * times.hash_rate
    tariff = EvidenceTariff(base_work, figures["opening"] * base_work)
    service, rng = Service(here.victim, tariff), np.random.default_rng([seed, 2])
    pool = here.parts.honest.images
    predicted, measured = [], []
    for account in range(_SOLVERS):
        images = pool[rng.permutation(len(pool))[:_SOLVED]]
        evidence = here.victim.answer(images).evidence
        spent = Prices(tariff, times).account(evidence)
        predicted.append(spent[-1] / len(images))
        measured.append(solved(service, images, f"user-{account}"))
    outcome = {"predicted": float(np.median(predicted)), "measured": float(np.median(measured))}
    return write(file, {"accounts": _SOLVERS, "queries": _SOLVED, **outcome})


def _user(tariffs: _Tariffs, kind: str, seen: Floats) -> dict[str, Any]:
    tariff = tariffs.ours.tariff
    work, _ = replace(tariff, opening_work=0.0).work(seen[:, 0])
    return {
        "kind": kind,
        "queries": len(seen),
        "overhead": float(tariffs.ours.account(seen[:, 0])[-1] / len(seen)),
        "highest_price": float(work.max() / tariff.base_work),
        "paper": paper.multiple(tariffs.theirs, seen[:, 1]),
    }


def _attack(
    tariffs: _Tariffs,
    extracted: Path,
    checkpoints: Sequence[int],
    victim: float,
    usual: list[Floats],
) -> dict[str, Any]:
    """Price one attack; `victim` is an accuracy, `usual` the evidence of honest accounts."""
    with np.load(extracted) as file:
        evidence, eps = file["evidence"], file["eps"]
        accuracy, fidelity = file["accuracy"].tolist(), file["fidelity"].tolist()
    prices, ordinary = tariffs.ours, tariffs.ordinary
    honest = np.concatenate(usual)

    def streams(part: Floats) -> dict[str, list[Stream]]:
        mean = prices.tariff.honest_mean
        newcomers = Newcomers(honest, part, ordinary[0], prices.opening, mean, len(part))
        return {f"{share:.1%}": newcomers.streams(share) for share in SHARES}

    def multiple(part: Floats) -> dict[str, float]:
        every = [*chain.from_iterable(streams(part).values())]
        return prices.strategies(part, Ways(part, ordinary[0]), every)

    def at(queries: int) -> dict[str, Any]:
        part = evidence[:queries]
        return {
            "multiple": multiple(part),
            "leakage": float(eps[:queries].sum()),
            "evidence": float(part.mean()),
        }

    def reach(share: float) -> dict[str, Any] | None:
        queries = reached(checkpoints, accuracy, share * victim)
        if queries is None:
            return None
        part = evidence[: int(np.ceil(queries))]
        return {
            "queries": queries,
            "multiple": multiple(part),
            "of_user": _of_user(prices, usual, len(part)),
        }

    ways, among = Ways(evidence, ordinary[0]), streams(evidence)
    every = [*chain.from_iterable(among.values())]
    return {
        "accuracy": accuracy,
        "fidelity": fidelity,
        "curve": [at(queries) for queries in checkpoints],
        "at_hash_rate": {
            f"{faster}x": prices.strategies(evidence, ways, every, Solver(faster))
            for faster in HASH_RATES
        },
        "paper": {
            "one account": paper.multiple(tariffs.theirs, eps),
            "best split": paper.best_split(tariffs.theirs, eps),
            "best dilution": paper.best_dilution(tariffs.theirs, eps, ordinary[1]),
        },
        "reach": {f"{share:.0%}": reach(share) for share in WANTED},
        "newcomers": {
            share: _stream(prices, evidence, ways, found) for share, found in among.items()
        },
    }


def _stream(
    prices: Prices, evidence: Floats, ways: Ways, streams: Sequence[Stream]
) -> dict[str, Any]:
    """Price an attack that is so much of the newcomers' traffic; `streams` are its ways to ask."""
    fresh, best = streams[0], min(streams, key=prices.streamed)
    return {
        "noticed": fresh.noticed if np.isfinite(fresh.noticed) else None,
        "honest_price": float(best.honest.mean()),
        "honest_price_99%": float(np.quantile(best.honest, 0.99, method="higher")),
        "at_hash_rate": {
            f"{faster}x": min(prices.strategies(evidence, ways, streams, Solver(faster)).values())
            for faster in HASH_RATES
        },
    }


def _of_user(prices: Prices, usual: list[Floats], queries: int) -> float:
    """Return what so many queries cost an honest user, in service times a query."""
    queries = min(queries, max(map(len, usual)))
    spent = [prices.account(user[:queries])[-1] for user in usual if len(user) >= queries]
    return float(np.median(spent)) / queries
