"""The figures of all seeds in one document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.extraction.attacks import ATTACKS
from benchmarks.extraction.honest import APART_KINDS, HAMMERING
from benchmarks.extraction.priced import price, solve_for_real
from benchmarks.extraction.settings import Setting
from benchmarks.extraction.stages import ALL, APART, JUDGED_FROM, USUAL, evade, times_of


def collect(setting: Setting) -> dict[str, Any]:
    """Return the results of all seeds in one document."""
    seeds = [json.loads(price(setting, seed).read_text()) for seed in setting.seeds]
    return {
        "setting": asdict(setting),
        "times": asdict(times_of(setting)),
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
    for kind in APART_KINDS:
        groups[f"{kind}, {JUDGED_FROM} queries and more"] = [
            user for user in apart if user["kind"] == kind
        ]
    short = [user for user in everybody if user["kind"] not in APART_KINDS]
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
