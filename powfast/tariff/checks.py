"""Checks of what comes from outside: arrays and numbers, one clear error each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from powfast import _native
from powfast.errors import InvalidInput

FloatArray = npt.NDArray[np.float64]


def nonnegative(values: Any, name: str) -> list[float]:
    """`values` as a list of n floats, none of them negative or NaN; infinity passes.

    NumPy takes longer to look at the few numbers of a request than their price takes.
    """
    if _native.are_nonnegative(values):
        return list(values)
    numbers: list[float] = nonnegative_array(values, name).tolist()
    return numbers


def nonnegative_array(values: npt.ArrayLike, name: str) -> FloatArray:
    """`values` as (n,) float64, none of them negative or NaN; infinity passes."""
    array = _vector(values, name)
    if not (array >= 0.0).all():
        raise InvalidInput(f"{name} must be nonnegative, and no NaN")
    return array


def nonnegative_columns(values: npt.ArrayLike, name: str) -> FloatArray:
    """`values` as (n,) or (n, 2) float64, none of them negative or NaN; infinity passes."""
    array = np.asarray(values)
    if array.ndim != 2:
        return nonnegative_array(array, name)
    if array.shape[1] != 2:
        raise InvalidInput(f"{name} must have one or two columns, got shape {array.shape}")
    flat = nonnegative_array(array.reshape(-1), name)
    return flat.reshape(-1, 2)


def alike(traces: list[FloatArray]) -> list[FloatArray]:
    """`traces` if all of them have account evidence, or none."""
    if len({trace.ndim for trace in traces}) > 1:
        raise InvalidInput("either all traces have account evidence, a second column, or none")
    return traces


def _vector(values: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "fiu"):
        raise InvalidInput(
            f"{name} must be one-dimensional and real, got shape {array.shape} of {array.dtype}"
        )
    return array.astype(np.float64, copy=False)


def number(value: Any, name: str, low: float, high: float = math.inf) -> float:
    """`value` as a finite float in [low, high]."""
    if type(value) is float and low <= value <= high and value != math.inf:
        return value  # on the way of every request
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InvalidInput(f"{name} must be a number, got {type(value).__name__}")
    if not (low <= value <= high and math.isfinite(value)):
        raise InvalidInput(f"{name} must be finite and in [{low:g}, {high:g}], got {value}")
    return float(value)
