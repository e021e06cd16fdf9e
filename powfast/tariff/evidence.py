"""The evidence tariff: the price follows the wealth of a bet against honesty."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from powfast import _native
from powfast.errors import InvalidInput
from powfast.tariff import document
from powfast.tariff.checks import (
    FloatArray,
    nonnegative,
    nonnegative_array,
    nonnegative_columns,
    number,
)
from powfast.tariff.decay import halved

LAMBDAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9)

_NEW = (0.0,) * (1 + len(LAMBDAS))

_BOTH = 2 * len(_NEW) + 1
"""Numbers of a state with a second e-process: its queries and wealths, and its capital."""

# A bettor may throw wealth away, so a cap keeps the supermartingale; it lies above every price
# that 64 bits can ask for, and far from overflow.
WEALTH_CAP = 2.0**100

# The most that 64 bits publish with every grid point below it a double.
MOST_WORK = 2.0**63

POOL_KEEPS = float.fromhex("0x1.ffedd4b0bfa80p-1")
"""What a pool of newcomers keeps of its wealth from one query to the next, d = 2^-(1/5000)."""
POOL_SHARE = float.fromhex("0x1.22bf4557016efp-13")
"""What it receives for each query, (1 - d) / d = 1/N."""

CREDIT_LIMIT = 1000
"""Base prices of credit that an account may hold."""


@dataclass(frozen=True)
class EvidenceTariff:
    r"""Work from evidence, by a mixture of bets against "this account is honest".

    With restart weights w_n = 1/(n (n + 1)), n counting the account's queries from 1,

        L_λ <- (L_λ + w_n) (1 + λ (e_n - 1)),    W_n = mean over λ of L_λ
        work(query n) = base_work max(1, W_n), clamped at max_work,

    and `opening_work` is added once, to an account's first query; on probation ledgers ask
    newcomers for it by and by, see `newcomers`. If every evidence is at most 1 on average given the
    past, L plus the weight not yet spent is a nonnegative supermartingale that starts at 1, so the
    price ever exceeds c base prices with probability at most 1/c (Ville), and no query's expected
    price is above two base prices. See Shin, Ramdas, Rinaldo, "E-detectors" (2022), and Ramdas,
    Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference" (2023).

    Both promises are about the price over base_work, and hold after `decayed` as well; a volume
    schedule multiplies what they are about.

    Parameters
    ----------
    base_work : float
        Expected SHA-256 evaluations of one query of an ordinary account, the floor of every
        query; at least 1.
    opening_work : float
        Expected evaluations that a new account pays once.
    max_work : float
        Upper bound of one query's work, opening aside; at most 2**63.
    step : float
        Relative step of the published work: a power of two in [2**-20, 1/2].
    half_life : float, optional
        Seconds in which the wealth halves while the account asks nothing; never by default.
    shared_half_life : float, optional
        The same for accounts and groups that several people share, such as a network, where
        `half_life` is not given; their unpaid runs halve as well. A day by default.
    probation : bool
        Whether accounts that have not paid the opening share a price instead of paying it first.
    honest_mean : float
        What the evidence of honest newcomers averages at most, in [0.001, 1]; `newcomers` divides
        by it.
    volume : sequence of (int, float)
        From an account's such-and-such query on, counted from 1, every price is multiplied by at
        least 1; counts ascend, and the last one reached counts.
    account_evidence : bool
        Whether ledgers keep sketches, and the price follows the mean of two e-processes: that of
        the queries' evidence and that of account evidence.

    Raises
    ------
    InvalidInput
        If a parameter is out of its range.
    """

    base_work: float
    opening_work: float = 0.0
    max_work: float = 2.0**48
    step: float = 0.125
    half_life: float | None = None
    shared_half_life: float | None = 86_400.0
    volume: tuple[tuple[int, float], ...] = ()
    probation: bool = True
    honest_mean: float = 1.0
    account_evidence: bool = False

    input: ClassVar[str] = "evidence"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("base_work", 1.0, MOST_WORK),
            ("opening_work", 0.0, MOST_WORK),
            ("max_work", 1.0, MOST_WORK),
            ("step", 2.0**-20, 0.5),
            ("honest_mean", 0.001, 1.0),
        ):
            object.__setattr__(self, name, number(getattr(self, name), name, low, high))
        if self.max_work < self.base_work:
            raise InvalidInput("max_work must be at least base_work")
        if math.frexp(self.step)[0] != 0.5:
            raise InvalidInput(f"step must be a power of two, got {self.step}")
        for name in ("half_life", "shared_half_life"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, number(getattr(self, name), name, 1e-3))
        for name in ("probation", "account_evidence"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(f"{name} must be true or false, got {getattr(self, name)!r}")
        object.__setattr__(self, "volume", _schedule(self.volume))

    def work(
        self, evidence: npt.ArrayLike, state: npt.ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Price queries in order; how they are cut into batches changes nothing.

        Parameters
        ----------
        evidence : (n,) or (n, 2) array_like
            Nonnegative. Infinity asks for the highest price. A second column is account evidence.
        state : (8,) or (17,) array_like, optional
            What the previous call returned; a new account where it is None or zeros. Not
            modified.

        Returns
        -------
        work : (n,) float64
            Expected SHA-256 evaluations of each query.
        state : (8,) or (17,) float64
            Queries so far and the seven wealths; where account evidence has begun, the same of
            the second e-process, and the capital that it began with.

        Raises
        ------
        InvalidInput
            If evidence is negative, NaN or of another shape, the state is not one, or the tariff
            uses no account evidence and is given some.
        """
        queries, own = self._columns(evidence)
        before = self._state(state, both=self.account_evidence)
        if own is not None:
            before = [*before, *([0.0] * (_BOTH - len(before)))]
        priced = self.native.price_array(queries, own, np.array(before))
        if priced is None:
            raise _no_state(state)
        return priced

    @cached_property
    def native(self) -> _native.Tariff:
        """The same tariff for the native code: what prices arrays, and accounts in ledgers."""
        numbers = (self.base_work, self.max_work, self.opening_work, self.step)
        limits = WEALTH_CAP, self.credit_limit, self.honest_mean
        modes = self.probation, self.account_evidence
        return _native.Tariff((*numbers, *limits), LAMBDAS, self.volume, *modes)

    def newcomers(
        self, evidence: npt.ArrayLike, state: npt.ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        r"""Advance the pool of accounts that have not paid their opening by their next queries.

            R_λ <- d (R_λ + 1/N) (1 + λ (e/m - 1)),    d = 2^(-1/5000),  N = d/(1 - d) = 7213

        A newcomer pays at least `base_work` min(R, O), R the mean over λ and O the opening in base
        prices, until what it has paid beyond its own price is the opening. While the evidence of
        newcomers averages at most m = `honest_mean` given the past, R is at most 1 on average, and
        they make at least c N queries on average until it reaches c: an e-detector, see Shin,
        Ramdas, Rinaldo, "E-detectors" (2022). Evidence promises an average of at most 1 in every
        class, and is well below in most: dividing by what it is lets a pool notice an extractor
        who hides among ordinary queries.

        Parameters
        ----------
        evidence : (n,) array_like
            Nonnegative.
        state : (8,) array_like, optional
            What the previous call returned, or a ledger's record of the pool; not modified.

        Returns
        -------
        heat : (n,) float64
            R after each query. Each R_λ is kept below 7 O, so that a hot pool can cool down.
        state : (8,) float64
            Queries so far and the seven R_λ.

        Raises
        ------
        InvalidInput
            As `work`.
        """
        queries = nonnegative_array(evidence, "evidence")
        advanced = self.native.newcomers_array(queries, np.array(self._state(state)))
        if advanced is None:
            raise _no_state(state)
        return advanced

    def newcomers_price(self, state: npt.ArrayLike | None = None) -> float:
        """Price of a newcomer's query in base prices while its pool is in such a state."""
        _, *heat = self._state(state)
        return max(1.0, min(sum(heat) / len(heat), self.opening_work / self.base_work))

    @property
    def credit_limit(self) -> float:
        """Work above which an account's credit is not raised, unless by one challenge."""
        return CREDIT_LIMIT * self.base_work

    def price(self, state: npt.ArrayLike | None = None) -> float:
        """Price of the account's latest query in base prices, 1 for a new account."""
        vector = self._state(state, both=True)
        volume = float(self._multiples(vector[0] - 1.0, 1)[0])
        return min(max(1.0, _wealth(vector)) * volume, self.max_work / self.base_work)

    def second_wealth(self, state: npt.ArrayLike) -> float:
        """Wealth that account evidence has won, 0 where it has not begun."""
        *_, second = _wealths(self._state(state, both=True))
        return second

    def decayed(self, state: npt.ArrayLike, seconds: float) -> FloatArray:
        """Return the state after `seconds` without a query, the wealth halved per half-life.

        Wealth may be thrown away whenever it is, so the promises stay; an extractor may wait.

        Raises
        ------
        InvalidInput
            If seconds are negative or the state is not one.
        """
        vector = np.array(self._state(state, both=True))
        seconds = number(seconds, "seconds", 0.0)
        if self.half_life is not None:
            left = halved(seconds / self.half_life)
            vector[1 : len(_NEW)] *= left
            vector[len(_NEW) + 1 : -1] *= left
        return vector

    def publish(self, due: float) -> int:
        """Round what is due up to the work of a challenge, below 2**64.

        The published work is `base_work` times a number of few significant binary digits (four at
        the default `step`), so that it tells little of the scores; small multiples of the base
        price, a batch of ordinary queries say, are met exactly where `base_work` is an integer.
        What is too much is the account's credit.

        Parameters
        ----------
        due : float
            Expected SHA-256 evaluations; at least 0.

        Raises
        ------
        InvalidInput
            If it is negative or no finite number.
        """
        published = self.native.publish(due)
        if published is None:  # a number of another type, or none that can be due
            return self.publish(number(due, "due", 0.0))
        return published

    def to_json(self) -> str:
        """Return this tariff as a versioned JSON document, which `from_json` reads."""
        return document.write({"input": self.input, "parameters": asdict(self)})

    def _multiples(self, queries: float, more: int) -> FloatArray:
        """Multiples of the price of an account's next queries, (more,), by the volume schedule."""
        starts = np.array([start for start, _ in self.volume])
        multiples = np.array([1.0, *(multiple for _, multiple in self.volume)])
        return multiples[starts.searchsorted(queries + np.arange(1.0, more + 1.0), side="right")]

    def _columns(self, evidence: npt.ArrayLike) -> tuple[FloatArray, FloatArray | None]:
        columns = nonnegative_columns(evidence, "evidence")
        if columns.ndim == 1:
            return columns, None
        if not self.account_evidence:
            raise InvalidInput("this tariff uses no account evidence: it takes one column")
        return columns[:, 0], columns[:, 1]

    def _state(self, state: Any, *, both: bool = False) -> list[float]:
        """Check a state, which may have a second e-process where `both` may count."""
        vector = nonnegative(_NEW if state is None else state, "state")
        has_second = both and len(vector) == _BOTH
        if has_second and (vector[len(_NEW)] % 1.0 or vector[-1] > 1.0):
            raise _no_state(state)
        if not has_second and len(vector) != len(_NEW):
            raise _no_state(state)
        if not all(map(WEALTH_CAP.__ge__, vector)) or vector[0] % 1.0:
            raise _no_state(state)
        return vector


def _wealths(state: list[float]) -> tuple[float, float]:
    """Mean wealth of the bets of each e-process."""
    parts = state[1 : len(_NEW)], state[len(_NEW) + 1 : -1]
    first, second = (sum(part) / len(LAMBDAS) for part in parts)
    return first, second


def _wealth(state: list[float]) -> float:
    """Wealth that prices: that of the first e-process, or the mean of both."""
    first, second = _wealths(state)
    return (first + second) / 2.0 if len(state) == _BOTH and state[-1] else first


def _no_state(state: Any) -> InvalidInput:
    return InvalidInput(
        f"state of the evidence tariff is a count and {len(LAMBDAS)} wealths, with account evidence"
        f" the same twice and a capital of at most 1; got {state}"
    )


def _schedule(volume: Any) -> tuple[tuple[int, float], ...]:
    try:
        steps = [(start, multiple) for start, multiple in volume]
    except (TypeError, ValueError):
        raise InvalidInput(
            f"volume must be pairs of a count and a multiple, got {volume}"
        ) from None
    schedule = tuple(
        (int(number(start, "a count in volume", 1.0, 2.0**53)), number(multiple, "a multiple", 1.0))
        for start, multiple in steps
    )
    counts = [start for start, _ in schedule]
    if any(start != given for start, (given, _) in zip(counts, steps, strict=True)):
        raise InvalidInput(f"counts in volume must be whole, got {volume}")
    if counts != sorted(set(counts)):
        raise InvalidInput(f"counts in volume must ascend, got {counts}")
    return schedule
