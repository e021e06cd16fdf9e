"""The evidence tariff: the price follows the wealth of a bet against honesty."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from powfast.errors import InvalidInput
from powfast.tariff import document
from powfast.tariff.checks import nonnegative_array, number
from powfast.tariff.recursion import WEALTH_CAP, FloatArray, advance

LAMBDAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9)

# The most that 64 bits publish with every grid point below it a double.
_MOST = 2.0**63


@dataclass(frozen=True)
class EvidenceTariff:
    r"""Work from evidence, by a mixture of bets against "this account is honest".

    With restart weights w_n = 1/(n (n + 1)), n counting the account's queries from 1,

        L_λ <- (L_λ + w_n) (1 + λ (e_n - 1)),    W_n = mean over λ of L_λ
        work(query n) = base_work max(1, W_n), clamped at max_work,

    and `opening_work` is added once, to an account's first query. If every evidence is at most 1
    on average given the past, L plus the weight not yet spent is a nonnegative supermartingale
    that starts at 1, so the price ever exceeds c base prices with probability at most 1/c
    (Ville), and no query's expected price is above two base prices. See Shin, Ramdas, Rinaldo,
    "E-detectors" (2022), and Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe
    anytime-valid inference" (2023).

    Parameters
    ----------
    base_work : float
        Expected SHA-256 evaluations of one query of an ordinary account; at least 1.
    opening_work : float
        Expected evaluations that a new account pays once.
    max_work : float
        Upper bound of one query's work, opening aside; at most 2**63.
    step : float
        Relative step of the published work: a power of two in [2**-20, 1/2].

    Raises
    ------
    InvalidInput
        If a parameter is out of its range.
    """

    base_work: float
    opening_work: float = 0.0
    max_work: float = 2.0**48
    step: float = 0.125

    input: ClassVar[str] = "evidence"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("base_work", 1.0, _MOST),
            ("opening_work", 0.0, _MOST),
            ("max_work", 1.0, _MOST),
            ("step", 2.0**-20, 0.5),
        ):
            object.__setattr__(self, name, number(getattr(self, name), name, low, high))
        if self.max_work < self.base_work:
            raise InvalidInput("max_work must be at least base_work")
        if math.frexp(self.step)[0] != 0.5:
            raise InvalidInput(f"step must be a power of two, got {self.step}")

    def work(
        self, evidence: npt.ArrayLike, state: npt.ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Price queries in order; how they are cut into batches changes nothing.

        Parameters
        ----------
        evidence : (n,) array_like
            Nonnegative. Infinity asks for the highest price.
        state : (8,) array_like, optional
            What the previous call returned; a new account where it is None or zeros. Not
            modified.

        Returns
        -------
        work : (n,) float64
            Expected SHA-256 evaluations of each query.
        state : (8,) float64
            Queries so far and the seven wealths.

        Raises
        ------
        InvalidInput
            If evidence is negative, NaN or not one-dimensional, or the state is not one.
        """
        evidence = nonnegative_array(evidence, "evidence")
        before = self._state(state)
        wealth, after = advance(evidence, before, LAMBDAS)
        work = np.minimum(self.base_work * np.maximum(wealth, 1.0), self.max_work)
        if before[0] == 0.0 and len(work):
            work[0] += self.opening_work
        return work, after

    def price(self, state: npt.ArrayLike | None = None) -> float:
        """Price of the account's latest query in base prices, 1 for a new account."""
        wealth = self._state(state)[1:]
        multiple = max(1.0, sum(wealth) / len(wealth))
        return min(multiple, self.max_work / self.base_work)

    def publish(self, owed: float, carry: float = 0.0) -> tuple[int, float]:
        """Round work owed down to the published grid, and carry what was cut off.

        The published work is `base_work` times a number of few significant binary digits (four at
        the default `step`), so that it tells little of the scores; small multiples of the base
        price, a batch of ordinary queries say, are met exactly where `base_work` is an integer.
        Nothing is lost: the carry of one request is owed with the next.

        Parameters
        ----------
        owed : float
            Sum of a request's work; at least 1.
        carry : float
            What the previous call returned for this account; 0 for a new one.

        Returns
        -------
        published : int
            At least 1 and below 2**64.
        carry : float
            At least 0; published + carry is owed plus the previous carry.
        """
        total = number(owed, "owed", 1.0) + number(carry, "carry", 0.0)
        fraction, exponent = math.frexp(min(total, 2 * _MOST) / self.base_work)
        quantum = self.step / 2
        multiple = math.ldexp(math.floor(fraction / quantum) * quantum, exponent)
        published = max(1, math.floor(multiple * self.base_work))
        published = min(published, int(2 * _MOST * (1 - quantum)))
        return published, max(0.0, total - published)

    def to_json(self) -> str:
        """Return this tariff as a versioned JSON document, which `from_json` reads."""
        return document.write({"input": self.input, "parameters": asdict(self)})

    def _state(self, state: Any) -> list[float]:
        if state is None:
            return [0.0] * (1 + len(LAMBDAS))
        vector: list[float] = nonnegative_array(state, "state").tolist()
        if len(vector) != 1 + len(LAMBDAS) or not vector[0].is_integer():
            raise InvalidInput(
                f"state of the evidence tariff is a count and {len(LAMBDAS)} wealths, got {vector}"
            )
        if max(vector) > WEALTH_CAP:
            raise InvalidInput(f"state exceeds the wealth cap: {vector}")
        return vector
