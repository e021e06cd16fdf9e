"""From what was observed to figures: one document per seed, and one over all seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.extraction import paper
from benchmarks.extraction.attacks import ATTACKS
from benchmarks.extraction.honest import APART as KINDS_APART
from benchmarks.extraction.honest import HAMMERING
from benchmarks.extraction.pricing import HASH_RATES, Prices, Ways, reached
from benchmarks.extraction.service import BATCH, Service, Times, solved
from benchmarks.extraction.settings import Setting
from benchmarks.extraction.stages import (
    ALL,
    APART,
    CALIBRATING,
    JUDGED_FROM,
    USUAL,
    evade,
    extract,
    time_calls,
    times_of,
    train_victim,
    users_of,
    world,
    write,
)
from benchmarks.extraction.victims import Floats
from powfast.tariff import EvidenceTariff, Iclr2022Tariff, calibrate

MAX_OVERHEAD = 2.0
_MARGIN = 0.02  # of the allowed overhead: held-out accounts are other accounts
_LEAST_SOLVING = 0.1  # service times, where the gate takes nearly all that is allowed
_SOLVERS, _SOLVED = 15, 960  # honest accounts and their queries that are really solved
WANTED = (0.9, 0.95)  # of the victim's accuracy


def price(setting: Setting, seed: int) -> Path:
    """Calibrate on honest accounts as an operator would, and price everybody."""
    file = setting.file("priced", ".json", seed=seed)
    if file.exists():
        return file
    known = [seen for _, seen in users_of(setting, seed, CALIBRATING)]
    times = times_of(setting)
    solving = max(_LEAST_SOLVING, MAX_OVERHEAD - _MARGIN - 1.0 - times.handling)
    calibration = calibrate(
        [seen[:, 0] for seen in known],
        service_time=times.service,
        hash_rate=times.hash_rate,
        max_overhead=1.0 + solving,
        seed=seed,
    )
    prices = Prices(calibration.tariff, times)
    theirs = paper.fitted([seen[:, 1] for seen in known])
    everything = np.concatenate(known)
    ordinary = np.quantile(everything, 0.01, axis=0)
    usual = [seen[:, 0] for _, seen in users_of(setting, seed, USUAL)]
    victim = json.loads(train_victim(setting, seed).read_text())["accuracy"]
    document = {
        "victim_accuracy": victim,
        "base_price": prices.base_price,
        "opening": prices.opening,
        "users": {
            group: [
                _user(prices, theirs, kind, seen) for kind, seen in users_of(setting, seed, group)
            ]
            for group in (USUAL, ALL, APART)
        },
        "attacks": {
            name: _attack(setting, seed, name, prices, theirs, ordinary, usual, victim)
            for name in ATTACKS
        },
    }
    return write(file, document)


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
        spent = Prices(tariff, times).account(evidence, first=BATCH)
        predicted.append(spent[-1] / len(images))
        measured.append(solved(service, images, f"user {account}"))
    outcome = {"predicted": float(np.median(predicted)), "measured": float(np.median(measured))}
    return write(file, {"accounts": _SOLVERS, "queries": _SOLVED, **outcome})


def _user(prices: Prices, theirs: Iclr2022Tariff, kind: str, seen: Floats) -> dict[str, Any]:
    work, _ = prices.tariff.work(seen[:, 0])
    work[0] -= prices.tariff.opening_work
    return {
        "kind": kind,
        "queries": len(seen),
        "overhead": float(prices.account(seen[:, 0])[-1] / len(seen)),
        "highest_price": float(work.max() / prices.tariff.base_work),
        "paper": paper.multiple(theirs, seen[:, 1]),
    }


def _attack(
    setting: Setting,
    seed: int,
    name: str,
    prices: Prices,
    theirs: Iclr2022Tariff,
    ordinary: Floats,
    usual: list[Floats],
    victim: float,
) -> dict[str, Any]:
    with np.load(extract(setting, seed, name)) as file:
        evidence, eps = file["evidence"], file["eps"]
        accuracy, fidelity = file["accuracy"].tolist(), file["fidelity"].tolist()
    whole = Ways(evidence, ordinary[0])
    checkpoints = list(setting.checkpoints)

    def at(queries: int) -> dict[str, Any]:
        part = evidence[:queries]
        return {
            "multiple": prices.strategies(part, Ways(part, ordinary[0])),
            "leakage": float(eps[:queries].sum()),
            "evidence": float(part.mean()),
        }

    return {
        "accuracy": accuracy,
        "fidelity": fidelity,
        "curve": [at(queries) for queries in checkpoints],
        "at_hash_rate": {
            f"{faster}x": prices.strategies(evidence, whole, faster) for faster in HASH_RATES
        },
        "growth": float(np.log(np.maximum(evidence, 1e-12)).mean()),
        "paper": {
            "one account": paper.multiple(theirs, eps),
            "best split": paper.best_split(theirs, eps),
            "best dilution": paper.best_dilution(theirs, eps, ordinary[1]),
        },
        "reach": {
            f"{share:.0%}": _reach(
                prices, evidence, usual, ordinary[0], reached(checkpoints, accuracy, share * victim)
            )
            for share in WANTED
        },
    }


def _reach(
    prices: Prices, evidence: Floats, usual: list[Floats], ordinary: float, queries: float | None
) -> dict[str, Any] | None:
    """Return what `queries` cost by each strategy, and what they cost an honest user."""
    if queries is None:
        return None
    part = evidence[: int(np.ceil(queries))]
    of_user = [prices.account(user[: len(part)])[-1] for user in usual if len(user) >= len(part)]
    longest = max(usual, key=len)
    user = float(np.median(of_user) if of_user else prices.account(longest)[-1])
    per_query = user / min(len(part), len(longest))
    return {
        "queries": queries,
        "multiple": prices.strategies(part, Ways(part, ordinary)),
        "of_user": per_query,
    }


def collect(setting: Setting) -> dict[str, Any]:
    """Return the results of all seeds in one document."""
    seeds = [json.loads(price(setting, seed).read_text()) for seed in setting.seeds]
    return {
        "setting": asdict(setting),
        "times": asdict(Times(**json.loads(time_calls(setting).read_text()))),
        "victims": [seed["victim_accuracy"] for seed in seeds],
        "base_price": [seed["base_price"] for seed in seeds],
        "opening": [seed["opening"] for seed in seeds],
        "users": _users([seed["users"] for seed in seeds]),
        "attacks": {name: _over([seed["attacks"][name] for seed in seeds]) for name in ATTACKS},
        "solved": json.loads(solve_for_real(setting).read_text()),
        "evasions": json.loads(evade(setting).read_text()),
    }


def _users(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return quantiles of overhead by group, and by kind where an account is long enough."""
    usual = [seed[USUAL] for seed in seeds]
    everybody = [user for seed in seeds for user in seed[ALL]]
    groups = {
        f"{kind}, {JUDGED_FROM} queries and more": [
            user for users in usual for user in users if user["kind"] == kind
        ]
        for kind in dict.fromkeys(user["kind"] for user in usual[0])
    }
    apart = [user for seed in seeds for user in seed[APART]]
    for kind in KINDS_APART:
        groups[f"{kind}, {JUDGED_FROM} queries and more"] = [
            user for user in apart if user["kind"] == kind
        ]
    short = [user for user in everybody if user["kind"] not in KINDS_APART]
    groups["300 to 1000 queries"] = [user for user in short if 300 <= user["queries"] < 1000]
    groups["100 to 300 queries"] = [user for user in short if user["queries"] < 300]
    return {
        "judged": [_quantiles(users) for users in usual],
        "with_hammering": [_quantiles(_joined(seed)) for seed in seeds],
        "judged_together": _quantiles([user for users in usual for user in users]),
        "groups": {name: _quantiles(users) for name, users in groups.items() if users},
    }


def _joined(seed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the users that are judged, and as many who hammer as there are of each other kind."""
    usual = seed[USUAL]
    hammering = [user for user in seed[APART] if user["kind"] == HAMMERING]
    return [*usual, *hammering[: len(usual) // len({user["kind"] for user in usual})]]


def _quantiles(users: list[dict[str, Any]]) -> dict[str, float]:
    ours, theirs = ([user[name] for user in users] for name in ("overhead", "paper"))
    highest = np.array([user["highest_price"] for user in users])
    return {
        "accounts": len(users),
        "50%": _high(ours, 0.5),
        "95%": _high(ours, 0.95),
        "99%": _high(ours, 0.99),
        "most": max(ours),
        "above_100_base_prices": float((highest > 100).mean()),
        "paper_50%": _high(theirs, 0.5),
        "paper_99%": _high(theirs, 0.99),
    }


def _high(values: Iterable[float], quantile: float) -> float:
    return float(np.quantile(list(values), quantile, method="higher"))


def _over(seeds: list[Any]) -> Any:
    """Turn equal documents of several seeds into one of {median, lowest, highest}."""
    first = next((seed for seed in seeds if seed is not None), None)
    if first is None or any(seed is None for seed in seeds):
        return None  # some copy never got there
    if isinstance(first, dict):
        return {key: _over([seed[key] for seed in seeds]) for key in first}
    if isinstance(first, list):
        return [_over(list(items)) for items in zip(*seeds, strict=True)]
    summaries: dict[str, Callable[..., Any]] = {
        "median": np.median,
        "lowest": np.min,
        "highest": np.max,
    }
    return {name: float(summary(seeds)) for name, summary in summaries.items()}
