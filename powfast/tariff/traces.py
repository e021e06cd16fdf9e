"""Files of traces: what accounts sent, as NumPy archives that name the kind of input they hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from powfast.archives import read_npz
from powfast.errors import InvalidInput
from powfast.tariff.checks import FloatArray, alike, nonnegative_columns


def save_traces(file: Path, traces: Iterable[npt.ArrayLike], kind: str = "evidence") -> None:
    """Write one account's input after the other, with the queries of each.

    Parameters
    ----------
    file : Path
        An .npz archive of `kind`, `values` (float64) and `queries` (int64, per account).
    traces : iterable of (n_i,) array_like
        Or all of them (n_i, 2), with account evidence.
    kind : str
        What the values are: the `input` of a tariff.

    Raises
    ------
    InvalidInput
        If a trace is negative, NaN or of another shape, or some have account evidence only.
    """
    accounts = alike([nonnegative_columns(trace, "a trace") for trace in traces])
    np.savez_compressed(
        file,
        kind=np.array(kind),
        values=np.concatenate(accounts) if accounts else np.empty(0),
        queries=np.array([len(trace) for trace in accounts], dtype=np.int64),
    )


def load_traces(file: Path, kind: str = "evidence") -> list[FloatArray]:
    """Read what `save_traces` wrote.

    Raises
    ------
    InvalidInput
        If the file is no such archive, holds another kind of input, or invalid values.
    OSError
        If the file cannot be read.
    """
    found, values, queries = read_npz(file, "kind", "values", "queries").values()
    if found.shape != () or str(found) != kind:
        raise InvalidInput(f"{file} holds {str(found)!r}, the tariff takes {kind!r}")
    if queries.ndim != 1 or queries.dtype.kind not in "iu" or (queries < 0).any():
        raise InvalidInput(f"{file}: queries must be one count per account")
    values = nonnegative_columns(values, f"{file}: values")
    total = sum(queries.tolist())  # which no count is large enough to overflow
    if total != len(values):
        raise InvalidInput(f"{file}: queries add up to {total}, values are {len(values)}")
    return np.split(values, queries.cumsum()[:-1]) if len(queries) else []
