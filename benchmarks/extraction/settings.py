"""How large each run of the lab is."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.extraction.data import ROOT

# Of the results of each kind, 1 where none is given: raised when a change of code changes them.
_REVISIONS = {"priced": 4, "solved": 3}


def cache() -> Path:
    """Folder of what is done already: `POWFAST_LAB`, or .lab in the project."""
    return Path(os.environ.get("POWFAST_LAB", ROOT / ".lab"))


@dataclass(frozen=True)
class Setting:
    """One data set and the size of everything.

    Attributes
    ----------
    data : a name that `data.load` knows
    checkpoints : queries after which a copy is trained and judged
    victim_epochs, student_epochs, least_steps : length of trainings
    accounts : honest accounts of each group and seed
    queries : the least and the most of an honest account
    teachers : of the paper's ensemble
    """

    data: str
    seeds: tuple[int, ...]
    checkpoints: tuple[int, ...]
    victim_epochs: float
    student_epochs: float
    least_steps: int
    accounts: int
    queries: tuple[int, int]
    teachers: int

    def file(self, kind: str, suffix: str, **parameters: int | str) -> Path:
        """Where a result is kept: named by what it depends on."""
        revision = _REVISIONS.get(kind, 1)
        everything = {**asdict(self), **parameters, "kind": kind, "revision": revision}
        del everything["seeds"]  # a seed's result does not depend on which others there are
        digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
        words = "-".join(str(value) for value in parameters.values())
        name = f"{self.data}-{kind}-{words}-{digest[:12]}{suffix}".replace(" ", "_")
        return cache() / name


_FULL = (100, 300, 1000, 3000, 10_000)

SETTINGS = {
    "mnist": Setting("mnist", (0, 1, 2), _FULL, 5, 8, 300, 200, (100, 10_000), 250),
    "cifar10": Setting("cifar10", (0, 1, 2), _FULL[1:], 12, 12, 200, 200, (100, 10_000), 250),
    "smoke": Setting("digits", (0,), (50, 200, 500), 30, 10, 200, 60, (100, 2000), 50),
    "cifar10-smoke": Setting("cifar10-small", (0,), (50, 100), 2, 1, 20, 20, (100, 2000), 20),
}
