"""What the queries of an account add up to, as estimators make it and ledgers keep it.

An estimator of account evidence reads the sketch as it was before a request and says what the
request adds. A ledger knows nothing of what the numbers mean, but for the first: how many queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from powfast.errors import InvalidInput

VERSION_BYTES = 8
MOST_NUMBERS = 512
"""Numbers of each of a sketch's two vectors, at most."""
MOST = 2.0**60
"""Magnitude of each number that is added, at most."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """What the queries of an account add up to, kept as 32-bit floats.

    A count that grows by one stands still at 2**24.

    Attributes
    ----------
    sums : (m,) float64
        Of which the first counts the queries.
    fixed : (m,) float64
        The sums as they were at a moment that the estimator chose; zeros before.
    version : bytes
        Eight bytes that name the estimator. For another one the sketch says nothing: start anew.
    """

    sums: npt.NDArray[np.float64]
    fixed: npt.NDArray[np.float64]
    version: bytes


@dataclass(frozen=True, eq=False)
class Advance:
    """What a request adds to the sketch of its account, or of its group.

    Parameters
    ----------
    evidence : (n,) array_like
        Account evidence of each of its queries, from what was known before it: nonnegative, at
        most 1 on average given the past where the account is honest.
    sums : (m,) array_like
        What is added to the sketch's, m from 1 to 512.
    fixed : (m,) array_like
        What replaces the sketch's where it counts more queries; zeros to replace nothing.
    version : bytes
        Eight bytes, not all zero, that name the estimator. A sketch of another version, or another
        m, is dropped first, and the wealth that account evidence has won begins anew.

    Raises
    ------
    InvalidInput
        If evidence is negative, NaN or not one-dimensional; if sums or fixed differ in length, have
        no or more than 512 numbers, one beyond ±2**60 or NaN, or a negative count; or if the
        version is another thing.
    """

    evidence: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]
    fixed: npt.NDArray[np.float64]
    version: bytes

    def __post_init__(self) -> None:
        for name in ("evidence", "sums", "fixed"):
            object.__setattr__(self, name, _vector(getattr(self, name), name))
        if not (self.evidence >= 0.0).all():
            raise InvalidInput("account evidence must be nonnegative, and no NaN")
        if not 1 <= len(self.sums) == len(self.fixed) <= MOST_NUMBERS:
            raise InvalidInput(
                f"sums and fixed must be of one length from 1 to {MOST_NUMBERS}, got "
                f"{len(self.sums)} and {len(self.fixed)}"
            )
        for name, numbers in (("sums", self.sums), ("fixed", self.fixed)):
            if not (abs(numbers) <= MOST).all() or numbers[0] < 0.0:
                raise InvalidInput(
                    f"{name} must be within 2**60, no NaN, and begin with a count of queries"
                )
        if type(self.version) is not bytes or len(self.version) != VERSION_BYTES:
            raise InvalidInput(f"version must be {VERSION_BYTES} bytes, got {self.version!r}")
        if not any(self.version):
            raise InvalidInput("version must not be all zeros: they stand for no estimator")


def _vector(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "fiu"):
        raise InvalidInput(
            f"{name} must be one-dimensional and real, got shape {array.shape} of {array.dtype}"
        )
    return array.astype(np.float64, copy=False)
