"""Checks of arguments at the edge of the package: what passes is clean, whatever came in."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.errors import InvalidInput
from powfast.leakage.arrays import Floats, Integers
from powfast.leakage.gnmax import MOST_VOTES

_LARGEST = 2**53
_HUGE = 1e100


def positive(value: Any, name: str) -> float:
    """Return a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidInput(f"{name} must be a number above 0, not {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > 0.0):
        raise InvalidInput(f"{name} must be finite and above 0, not {value!r}")
    return number


def probability(value: Any, name: str) -> float:
    """Return a number strictly between 0 and 1."""
    number = positive(value, name)
    if number >= 1.0:
        raise InvalidInput(f"{name} must lie between 0 and 1, not {value!r}")
    return number


def whole(value: Any, name: str, least: int = 1) -> int:
    """Return an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidInput(f"{name} must be an integer of at least {least}, not {value!r}")
    return int(value)


def _array(values: ArrayLike, name: str, kinds: str) -> NDArray[Any]:
    """Return an array whose dtype is of one of the kinds; nothing is cast silently."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInput(f"{name} must be a rectangular array: {error}") from None
    if array.dtype.kind not in kinds:
        raise InvalidInput(f"{name} must not be an array of {array.dtype}")
    return array


def integers(values: ArrayLike, name: str) -> Integers:
    """Return integers of any numeric type as int64; floats must be whole numbers."""
    array = _array(values, name, "iuf")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InvalidInput(f"{name} must be finite")
        if (np.abs(array) > _LARGEST).any() or (array != np.trunc(array)).any():
            raise InvalidInput(f"{name} must be whole numbers up to 2**53")
    elif array.dtype.kind == "u" and array.size and array.max() > _LARGEST:
        raise InvalidInput(f"{name} must be whole numbers up to 2**53")
    return np.ascontiguousarray(array, dtype=np.int64)


def votes(values: ArrayLike, teachers: int | None = None) -> Integers:
    """Return (n, C) nonnegative int64 votes of which every row sums to the same K >= 1."""
    array = integers(values, "votes")
    if array.ndim != 2 or array.shape[1] < 2:
        raise InvalidInput(f"votes must be (n, C) with at least two classes, not {array.shape}")
    if len(array) == 0:
        return array
    if array.min() < 0 or array.max() > MOST_VOTES:
        raise InvalidInput("votes must be counts from 0 to 2**31")
    totals = array.sum(axis=1)
    expected = int(totals[0]) if teachers is None else teachers
    if expected < 1 or (totals != expected).any():
        wrong = int(totals[np.argmax(totals != expected)])
        raise InvalidInput(f"every row of votes must sum to the {expected} teachers, not {wrong}")
    return array


def matrix(values: ArrayLike, name: str, columns: int | None = None) -> Floats:
    """Return a contiguous, finite (n, d) float64 array, of `columns` columns where given."""
    array = np.ascontiguousarray(_array(values, name, "biuf"), dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InvalidInput(f"{name} must be (n, d) with d >= 1, not {array.shape}")
    if columns is not None and array.shape[1] != columns:
        raise InvalidInput(f"{name} must have {columns} columns, not {array.shape[1]}")
    if not np.isfinite(array).all():
        raise InvalidInput(f"{name} must be finite")
    return array


def features(values: ArrayLike, name: str, columns: int | None = None) -> Floats:
    """Return a matrix of values small enough that their squares are finite as well."""
    array = matrix(values, name, columns)
    if (np.abs(array) > _HUGE).any():
        raise InvalidInput(f"{name} must not exceed 1e100 in size")
    return array


def probabilities(values: ArrayLike, rows: int | None = None) -> Floats:
    """Return (n, C) nonnegative rows that sum to one within 1e-3."""
    array = matrix(values, "probabilities")
    if array.shape[1] < 2:
        raise InvalidInput("probabilities must have at least two columns")
    if (array < 0.0).any() or (np.abs(array.sum(axis=1) - 1.0) > 1e-3).any():
        raise InvalidInput("probabilities must be nonnegative rows that sum to 1")
    if rows is not None and len(array) != rows:
        raise InvalidInput(f"probabilities must have {rows} rows, not {len(array)}")
    return array


def chances(values: ArrayLike, rows: int | None = None) -> Floats:
    """Return (n, L) numbers from 0 to 1, each a probability of its own."""
    array = matrix(values, "probabilities")
    if (array < 0.0).any() or (array > 1.0).any():
        raise InvalidInput("probabilities of labels must lie between 0 and 1")
    if rows is not None and len(array) != rows:
        raise InvalidInput(f"probabilities must have {rows} rows, not {len(array)}")
    return array


def numbers(values: ArrayLike, rows: int | None = None) -> Floats:
    """Return (n,) finite numbers; (n, 1) are taken as such."""
    array = np.asarray(_array(values, "predictions", "biuf"), dtype=np.float64)
    if array.shape[1:] == (1,):
        array = array[:, 0]
    if array.ndim != 1 or (rows is not None and len(array) != rows):
        raise InvalidInput(f"predictions must be ({rows or 'n'},), not {np.shape(values)}")
    if not np.isfinite(array).all():
        raise InvalidInput("predictions must be finite")
    return array


def labels(values: ArrayLike, rows: int) -> NDArray[Any]:
    """Return (n,) labels of any sortable type, without NaN."""
    array = _array(values, "labels", "biufUS")
    if array.shape != (rows,):
        raise InvalidInput(f"labels must be ({rows},), one per row, not {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput("labels must be finite")
    return array


def uniforms(values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Return (n, 1) or (n, m) numbers strictly between 0 and 1, for scores of shape (n, m)."""
    array = np.asarray(_array(values, "ties", "f"), dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.shape not in {(shape[0], 1), shape}:
        raise InvalidInput(f"ties must be ({shape[0]},) or {shape}, not {np.shape(values)}")
    if not ((array > 0.0) & (array < 1.0)).all():
        raise InvalidInput("ties must lie strictly between 0 and 1")
    return array
