"""Honest users: many ways to use a model that nobody should pay for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.extraction.data import Floats, Images, Pictures, Rows

USUAL_KINDS = ("independent", "one class", "two classes", "skewed", "repeats")
SHIFTED, HAMMERING = "shifted", "hammering"
APART_KINDS = (SHIFTED, HAMMERING)
"""Honest, but not exchangeable with anything that calibrated: reported by themselves."""

_TIMES = 4  # that a repeating user asks about each of its images

_SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0))


@dataclass(frozen=True)
class Account:
    """One user: what kind, and which images of the pool it asks about, in order."""

    kind: str
    rows: Rows
    shift: tuple[int, int] = (0, 0)


def accounts(
    pool: Pictures,
    count: int,
    queries: tuple[int, int],
    kinds: Sequence[str],
    rng: np.random.Generator,
) -> list[Account]:
    """Draw users of these kinds by turns; their sizes are uniform in the logarithm.

    Parameters
    ----------
    queries : the least and the most of one account
    """
    low, high = np.log(queries)
    return [
        _account(kinds[i % len(kinds)], pool, int(np.exp(rng.uniform(low, high))), rng)
        for i in range(count)
    ]


def _account(kind: str, pool: Pictures, queries: int, rng: np.random.Generator) -> Account:
    classes = np.unique(pool.labels)
    share: NDArray[Any] = np.ones(len(classes))
    if kind in ("one class", "two classes"):
        wanted = rng.choice(len(classes), 1 if kind == "one class" else 2, replace=False)
        share = np.isin(np.arange(len(classes)), wanted) * 1.0
    elif kind == "skewed":
        share = rng.dirichlet(np.full(len(classes), 0.3))
    weights = share[np.searchsorted(classes, pool.labels)]
    rows = rng.choice(len(pool), queries, p=weights / weights.sum())
    if kind == "repeats":
        rows = rng.permutation(np.resize(rows[: -(-queries // _TIMES)], queries))
    elif kind == HAMMERING:
        rows = hammering(rows, rng)
    shift = _SHIFTS[rng.integers(len(_SHIFTS))] if kind == SHIFTED else (0, 0)
    return Account(kind, rows, shift)


def hammering(rows: Rows, rng: np.random.Generator) -> Rows:
    """Make every other query, by chance, repeat an earlier one: few images make up most of them."""
    out = rows.copy()
    for i in np.flatnonzero(rng.random(len(rows)) < 0.5):
        if i:
            out[i] = out[rng.integers(i)]
    return out


def traces(
    users: Sequence[Account], pool: Images, observe: Callable[[Images], Floats]
) -> list[Floats]:
    """Return what is observed of each account's queries, in order; the pool is asked once."""
    seen = {
        shift: observe(np.roll(pool, shift, axis=(2, 3)))
        for shift in sorted({user.shift for user in users})
    }
    return [seen[user.shift][user.rows] for user in users]
