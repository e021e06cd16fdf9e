"""A state as ledgers keep it: its doubles, little-endian, one after the other.

One object instead of one for each number: a million accounts take half the memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from powfast.errors import InvalidInput
from powfast.tariff.checks import FloatArray

_DOUBLE = np.dtype("<f8")


def packed(state: npt.ArrayLike) -> bytes:
    """Return the bytes of a state."""
    return np.asarray(state, _DOUBLE).tobytes()


def unpacked(state: bytes) -> FloatArray:
    """Return the state that `packed` packed.

    Raises
    ------
    InvalidInput
        These are no doubles.
    """
    if not isinstance(state, bytes) or len(state) % _DOUBLE.itemsize:
        raise InvalidInput("a packed state is doubles of eight bytes each")
    return np.frombuffer(state, _DOUBLE).astype(np.float64, copy=False)
