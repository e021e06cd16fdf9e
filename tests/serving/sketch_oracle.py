"""The naive sketch of an account, and its second e-process: see ledger_oracle.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from powfast.sketch import Advance, Sketch

BETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9)
WEALTH_CAP = 2.0**100


def mean(wealths: Sequence[float]) -> float:
    total = 0.0
    for wealth in wealths:
        total += wealth
    return total / len(wealths)


def bet(wealths: list[float], capital: float, query: float, evidence: float) -> None:
    restart = capital / (query * (query + 1))
    for i, each in enumerate(BETS):
        wealth = (wealths[i] + restart) * (1 + each * (evidence - 1))
        wealths[i] = wealth if wealth < WEALTH_CAP else WEALTH_CAP


@dataclass
class Second:
    queries: float = 0.0
    wealths: list[float] = field(default_factory=lambda: [0.0] * len(BETS))
    capital: float = 0.0
    version: bytes = b""
    sums: list[float] = field(default_factory=list)
    fixed: list[float] = field(default_factory=list)

    def aged(self, factor: float) -> Second:
        return replace(self, wealths=[wealth * factor for wealth in self.wealths])

    def is_another(self, advance: Advance) -> bool:
        return self.version != advance.version or len(self.sums) != len(advance.sums)

    def begin(self, advance: Advance, first: Sequence[float], queries: float) -> None:
        """With what it has left, or what the first e-process has left; at most 1."""
        if self.is_another(advance):
            left = mean(self.wealths) + self.capital / (self.queries + 1)
            self.queries, self.wealths = 0.0, [0.0] * len(BETS)
            self.capital = min(1.0, left)
        if self.capital == 0.0:
            self.capital = min(1.0, mean(first) + 1 / (queries + 1))

    def bet(self, evidence: float) -> None:
        self.queries += 1
        bet(self.wealths, self.capital, self.queries, evidence)

    def add(self, advance: Advance) -> None:
        if self.is_another(advance):
            self.version = advance.version
            self.sums, self.fixed = [0.0] * len(advance.sums), [0.0] * len(advance.sums)
        pairs = zip(self.sums, advance.sums.tolist(), strict=True)
        self.sums = [float(np.float32(one + other)) for one, other in pairs]
        if advance.fixed[0] > self.fixed[0]:
            self.fixed = [float(np.float32(value)) for value in advance.fixed]

    def wealth(self, first: float) -> float:
        """What prices, where the first e-process has so much."""
        return (first + mean(self.wealths)) / 2 if self.capital else first

    @property
    def state(self) -> list[float]:
        return [self.queries, *self.wealths, self.capital] if self.version else []

    @property
    def sketch(self) -> Sketch | None:
        if not self.version:
            return None
        return Sketch(np.array(self.sums), np.array(self.fixed), self.version)


def sketch_bytes(sketch: Sketch | None) -> bytes:
    """Of which two are equal to the last bit where these are."""
    if sketch is None:
        return b""
    return sketch.version + sketch.sums.tobytes() + sketch.fixed.tobytes()
