"""What a model answers with: one class of several, several labels, or a number.

Each says how uncertain an answer is, and which queries it is compared with (its stratum).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.errors import InvalidInput
from powfast.leakage import _checks
from powfast.leakage.arrays import Floats, Integers
from powfast.leakage.parameters import Parameters
from powfast.leakage.storage import Stored

Answers = Literal["classes", "labels", "numbers"]

_TINY = np.finfo(np.float64).tiny


class Outputs(Parameters, Stored):
    """How the answers of one kind of model are read.

    Parameters
    ----------
    answers : {"classes", "labels", "numbers"}
        Probabilities that sum to 1; probabilities of labels of which any number may hold; the
        prediction of a regression.
    bins : int
        Strata of a regression.

    Attributes
    ----------
    edges_ : (bins - 1,) quantiles of the numbers it was fitted on; empty for the other kinds
    """

    _settings = ("answers", "bins")
    _arrays = ("edges_",)

    def __init__(self, answers: Answers = "classes", bins: int = 8) -> None:
        self.answers = answers
        self.bins = bins

    def fit(self, labels: ArrayLike, rows: int) -> NDArray[Any]:
        """Learn the edges of bins; return the (n,) class of each row, as teachers vote for it.

        Raises
        ------
        InvalidInput
            The kind is unknown, or labels are not as it takes them.
        """
        if self.answers not in get_args(Answers):
            kinds = ", ".join(get_args(Answers))
            raise InvalidInput(f"answers must be one of {kinds}, not {self.answers!r}")
        self.edges_: Floats = np.empty(0)
        if self.answers == "classes":
            return _checks.labels(labels, rows)
        if self.answers == "labels":
            return _most_probable(_checks.chances(labels, rows))
        values = _checks.numbers(labels, rows)
        shares = np.arange(1, _checks.whole(self.bins, "bins", 2)) / self.bins
        self.edges_ = np.unique(np.quantile(values, shares))
        return self._bin(values)

    def read(self, answers: ArrayLike, rows: int) -> tuple[Floats, Integers]:
        """Return uncertainty in nats, (n,), and stratum, (n,), of answers.

        A number says nothing of how uncertain it is: 0.
        """
        if self.answers == "classes":
            table = _checks.probabilities(answers, rows)
            return entropy(table), _most_probable(table)
        if self.answers == "labels":
            table = _checks.chances(answers, rows)
            return entropy(table) + entropy(1.0 - table), _most_probable(table)
        return np.zeros(rows), self._bin(_checks.numbers(answers, rows))

    def example(self, shares: Floats) -> Floats:
        """Return answers that fall into the strata with the largest of (n, C) shares."""
        if self.answers != "numbers":
            return shares
        inside = np.concatenate([np.nextafter(self.edges_[:1], -np.inf), self.edges_])
        at: Floats = inside[shares.argmax(axis=1)]
        return at

    def _bin(self, values: Floats) -> Integers:
        bins: Integers = np.searchsorted(self.edges_, values, side="right")
        return bins


def entropy(table: Floats) -> Floats:
    """Return minus the sum of p log p of each row."""
    value: Floats = -(table * np.log(np.maximum(table, _TINY))).sum(axis=1)
    return value


def _most_probable(table: Floats) -> Integers:
    names: Integers = table.argmax(axis=1)
    return names
