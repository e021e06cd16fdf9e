"""The experiments one by one; each is done once, and kept in the cache."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.extraction import honest, paper
from benchmarks.extraction.attacks import ATTACKS
from benchmarks.extraction.attacks.base import Asked, Attack, Means
from benchmarks.extraction.data import Floats, Images, Parts, load
from benchmarks.extraction.evasions import evasions
from benchmarks.extraction.service import Times, measure
from benchmarks.extraction.settings import Setting
from benchmarks.extraction.training import predicted
from benchmarks.extraction.victims import ARCHITECTURES, Victim, trained
from powfast.leakage import LeakageEstimator

CALIBRATING, USUAL, ALL, APART = "calibrating", "usual", "all", "apart"
"""Groups of honest accounts: what prices are calibrated on, and three that are reported."""

JUDGED_FROM = 1000  # queries of an account that the targets are about


@dataclass(frozen=True)
class World:
    """Data, victim and the paper's teachers of one seed."""

    parts: Parts
    victim: Victim
    teachers: paper.Teachers

    def observe(self, images: Images) -> Floats:
        """Return (n, 2): evidence and the paper's eps of images."""
        return np.column_stack([self.victim.answer(images).evidence, self.teachers.eps(images)])


@lru_cache(maxsize=1)
def world(setting: Setting, seed: int) -> World:
    """Return the world of one seed; its victim is trained where it is not in the cache."""
    parts = load(setting.data, seed)
    teachers = paper.Teachers(parts.victim, setting.teachers)
    weights = setting.file("victim", ".pt", seed=seed)
    watched = weights.with_suffix(".npz")
    architecture = ARCHITECTURES[setting.data]
    if not watched.exists():
        victim = trained(setting.data, parts, setting.victim_epochs, seed)
        weights.parent.mkdir(parents=True, exist_ok=True)
        torch.save(victim.model.state_dict(), weights)
        victim.estimator.save(watched)
    model = architecture.new_victim()
    model.load_state_dict(torch.load(weights))
    victim = Victim(model, architecture.layers)
    victim.estimator = LeakageEstimator.load(watched)
    return World(parts, victim, teachers)


def train_victim(setting: Setting, seed: int) -> Path:
    """Train a victim and judge it."""
    file = setting.file("accuracy", ".json", seed=seed)
    if not file.exists():
        here = world(setting, seed)
        right = predicted(here.victim.model, here.parts.test.images) == here.parts.test.labels
        write(file, {"accuracy": float(right.mean())})
    return file


def time_calls(setting: Setting) -> Path:
    """Time the first victim's calls; nothing else should run meanwhile."""
    file = setting.file("times", ".json")
    if not file.exists():
        here = world(setting, setting.seeds[0])
        write(file, asdict(measure(here.victim, here.parts.honest.images)))
    return file


def watch_users(setting: Setting, seed: int) -> Path:
    """Let honest accounts ask; keep what was observed of each query."""
    file = setting.file("watched", ".npz", seed=seed)
    if file.exists():
        return file
    parts, rng = world(setting, seed).parts, np.random.default_rng([seed, 1])
    whole = (JUDGED_FROM, setting.queries[1])
    usual, apart = honest.USUAL_KINDS, honest.APART_KINDS
    groups = {
        CALIBRATING: (parts.tariff, 2 * setting.accounts, whole, usual),
        USUAL: (parts.honest, setting.accounts, whole, usual),
        ALL: (parts.honest, setting.accounts, setting.queries, usual + apart),
        APART: (parts.honest, setting.accounts, whole, apart),
    }
    found: dict[str, NDArray[Any]] = {}
    for name, (pool, count, queries, kinds) in groups.items():
        users = honest.accounts(pool, count, queries, kinds, rng)
        seen = honest.traces(users, pool.images, world(setting, seed).observe)
        found[f"{name}.kinds"] = np.array([user.kind for user in users])
        found[f"{name}.queries"] = np.array([len(user.rows) for user in users])
        found[f"{name}.values"] = np.concatenate(seen).astype(np.float32)
    return _save(file, found)


def extract(setting: Setting, seed: int, name: str) -> Path:
    """Let one attack ask, train a copy at every checkpoint, and judge it."""
    file = setting.file("attack", ".npz", seed=seed, name=name)
    if file.exists():
        return file
    here = world(setting, seed)
    architecture = ARCHITECTURES[setting.data]
    means = Means(
        here.parts.owned.images,
        here.parts.foreign,
        architecture.new_student,
        setting.student_epochs,
        setting.least_steps,
        architecture.augment,
        lambda images: here.victim.answer(images).evidence,
    )
    return _save(file, extraction(ATTACKS[name](means, seed), here, setting.checkpoints))


def extraction(
    attack: Attack, here: World, checkpoints: tuple[int, ...]
) -> dict[str, NDArray[Any]]:
    """Return evidence and eps of every query, accuracy and fidelity of the copy at checkpoints."""
    asked, copy, seen, scores = Asked.nothing(here.parts.owned.images), None, [], []
    test = here.parts.test
    served = predicted(here.victim.model, test.images)
    for checkpoint in checkpoints:
        while len(asked) < checkpoint:
            images = attack.propose(checkpoint - len(asked), asked, copy)
            answers = here.victim.answer(images)
            seen.append(np.column_stack([answers.evidence, here.teachers.eps(images)]))
            asked = asked.plus(images, answers.probabilities)
        copy = attack.train(asked)
        said = predicted(copy, test.images)
        scores.append([(said == test.labels).mean(), (said == served).mean()])
    observed = np.concatenate(seen)
    return {
        "evidence": observed[:, 0],
        "eps": observed[:, 1],
        "accuracy": np.array(scores)[:, 0],
        "fidelity": np.array(scores)[:, 1],
    }


def evade(setting: Setting) -> Path:
    """Attack powfast itself, once, through the gate."""
    file = setting.file("evasions", ".json")
    if not file.exists():
        here = world(setting, setting.seeds[0])
        found = evasions(here.victim, here.parts.foreign.images, here.parts.honest.images)
        write(file, found)
    return file


def times_of(setting: Setting) -> Times:
    """Return what `time_calls` measured."""
    return Times(**json.loads(time_calls(setting).read_text()))


def users_of(setting: Setting, seed: int, group: str) -> list[tuple[str, Floats]]:
    """Return (kind, (n, 2) observations) of each honest account of a group."""
    with np.load(watch_users(setting, seed)) as file:
        kinds = file[f"{group}.kinds"]
        values = file[f"{group}.values"].astype(np.float64)
        ends = file[f"{group}.queries"].cumsum()
    parts = np.split(values, ends[:-1])
    return list(zip(kinds.tolist(), parts, strict=True))


def write(file: Path, content: Any) -> Path:
    """Write JSON at once or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1))
    return partial.rename(file)


def _save(file: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    return partial.rename(file)
