"""The paper's tariff, as its authors ran it: for comparison, and to show what is weak in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from powfast.errors import InvalidInput
from powfast.tariff import document
from powfast.tariff.checks import FloatArray, nonnegative_array, number

_GROWTH = 1.0075  # seconds per unit of difference, as a factor
LEAST_SECONDS, MOST_SECONDS = 0.1, 2948.467908
_BITS_AT_ONE_SECOND, _BITS_PER_DECADE = 18.531750860923125, 3.5142902866282806
_LEAST_BITS = 16


@dataclass(frozen=True)
class Iclr2022Tariff:
    """Work from per-query eps: one puzzle per request, from how far an account is off a line.

    With n queries of summed cost C so far, seconds = clip(1.0075^|C - (slope n + intercept)|,
    0.1, 2948.467908) and bits = int(18.53175 + 3.51429 log10 seconds), at least 16: Dziedzic,
    Kaleem, Lu, Papernot, "Increasing the Cost of Model Extraction with Calibrated Proof of Work"
    (ICLR 2022), section 4 and the authors' code.

    Parameters
    ----------
    slope, intercept : float
        Expected cost over query count of an honest user.

    Raises
    ------
    InvalidInput
        If a parameter is not a finite number.
    """

    slope: float
    intercept: float

    input: ClassVar[str] = "iclr2022"
    base_work: ClassVar[float] = 2.0**18
    opening_work: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        for name in ("slope", "intercept"):
            object.__setattr__(self, name, number(getattr(self, name), name, -np.inf))

    @classmethod
    def fit(cls, queries: npt.ArrayLike, costs: npt.ArrayLike) -> Iclr2022Tariff:
        """Least squares of an honest user's cost over its query count, (m,) each, m at least 2.

        Raises
        ------
        InvalidInput
            If the arrays are invalid, differ in length or hold fewer than two query counts.
        """
        n, cost = nonnegative_array(queries, "queries"), nonnegative_array(costs, "costs")
        if len(n) != len(cost) or len(np.unique(n)) < 2:
            raise InvalidInput("queries and costs must be of one length, with two counts at least")
        centred = n - n.mean()
        slope = float(centred @ cost / (centred @ centred))
        return cls(slope, float(cost.mean() - slope * n.mean()))

    def seconds(self, queries: npt.ArrayLike, costs: npt.ArrayLike) -> FloatArray:
        """Seconds of the puzzle after `queries` queries of summed cost `costs`, elementwise."""
        difference = np.abs(np.asarray(costs) - self.expected(queries))
        # The exponent is capped first: beyond it the seconds are, and never overflow.
        capped = np.minimum(difference, np.log(2 * MOST_SECONDS) / np.log(_GROWTH))
        seconds: FloatArray = np.clip(_GROWTH**capped, LEAST_SECONDS, MOST_SECONDS)
        return seconds

    def expected(self, queries: npt.ArrayLike) -> FloatArray:
        """Honest cost of `queries` queries, elementwise."""
        return self.slope * np.asarray(queries, dtype=np.float64) + self.intercept

    @staticmethod
    def bits(seconds: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Leading zero bits of a puzzle of these positive seconds, elementwise."""
        fitted = _BITS_AT_ONE_SECOND + _BITS_PER_DECADE * np.log10(seconds)
        return np.maximum(np.trunc(fitted), _LEAST_BITS).astype(np.int64)

    def work(
        self, costs: npt.ArrayLike, state: npt.ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Price one request: the whole puzzle stands on its last query, zeros before it.

        Parameters
        ----------
        costs : (n,) array_like
            `iclr2022` eps of each query, nonnegative.
        state : (2,) array_like, optional
            Queries and cost so far; a new account where it is None.

        Returns
        -------
        work : (n,) float64
            Expected SHA-256 evaluations.
        state : (2,) float64

        Raises
        ------
        InvalidInput
            If costs are negative, infinite, NaN or not one-dimensional, or the state is not one.
        """
        costs = nonnegative_array(costs, "costs")
        before = nonnegative_array([0.0, 0.0] if state is None else state, "state")
        if before.shape != (2,) or not np.isfinite(before).all() or not np.isfinite(costs).all():
            raise InvalidInput("state of the paper's tariff is queries and cost; all finite")
        after = before + np.array([len(costs), costs.sum()])
        work = np.zeros(len(costs))
        work[-1:] = 2.0 ** self.bits(self.seconds(*after))
        return work, after

    def publish(self, due: float) -> int:
        """Return what is due as it is: whole bits are coarse already."""
        return max(1, int(number(due, "due", 0.0)))

    def to_json(self) -> str:
        """Return this tariff as a versioned JSON document, which `from_json` reads."""
        return document.write({"input": self.input, "parameters": asdict(self)})
