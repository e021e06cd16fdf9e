"""Sketches, and what is added to them, as the bytes that stores keep and send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from powfast.errors import InvalidInput, StoreUnavailable
from powfast.sketch import VERSION_BYTES, Advance, Sketch
from powfast.stores.base import AccountRecord
from powfast.tariff import EvidenceTariff


class PackedAdvance(NamedTuple):
    """An `Advance` as stores send it: doubles, little-endian."""

    evidence: bytes
    vectors: bytes
    version: bytes


def packed_advances(
    tariff: EvidenceTariff,
    group: str,
    queries: int,
    advance: Advance | None,
    group_advance: Advance | None,
) -> tuple[PackedAdvance | None, PackedAdvance | None]:
    """Check what a request of so many queries adds to the sketches of its account and group.

    Raises
    ------
    InvalidInput
        It is of another number of queries, or nobody keeps a sketch.
    """
    if advance is None and group_advance is None:  # every request of most tariffs
        return None, None
    if not tariff.account_evidence:
        raise InvalidInput("this tariff uses no account evidence: EvidenceTariff(account_evidence)")
    if group_advance is not None and not group:
        raise InvalidInput("group_advance is for a request that has a group")
    return _packed(advance, queries), _packed(group_advance, queries)


def _packed(advance: Advance | None, queries: int) -> PackedAdvance | None:
    if advance is None:
        return None
    if len(advance.evidence) != queries:
        raise InvalidInput(
            f"account evidence of {len(advance.evidence)} queries, the request has {queries}"
        )
    vectors = np.concatenate([advance.sums, advance.fixed])
    evidence, numbers = (part.astype("<f8").tobytes() for part in (advance.evidence, vectors))
    return PackedAdvance(evidence, numbers, advance.version)


_SKETCH_DOUBLES = 10
_SKETCH_HEAD = 8 * _SKETCH_DOUBLES + VERSION_BYTES


def sketch_of(packed: bytes | None) -> Sketch | None:
    """Return the sketch that stores keep behind an account's record; None of nothing.

    Raises
    ------
    StoreUnavailable
        It is damaged.
    """
    if not packed:
        return None
    vectors = np.frombuffer(packed, "<f4", offset=_SKETCH_HEAD).reshape(2, -1).astype(np.float64)
    if not np.isfinite(vectors).all():
        raise StoreUnavailable("a record of this account is damaged")
    sums, fixed = vectors
    return Sketch(sums, fixed, packed[8 * _SKETCH_DOUBLES : _SKETCH_HEAD])


def record_of(
    state: Sequence[float],
    balance: float,
    unpaid_runs: float,
    opened: bool,
    surcharged: float,
    charged: float,
    sketch: bytes | None,
) -> AccountRecord:
    """Return the record of an account from what a store keeps."""
    numbers = np.array(state), balance, unpaid_runs, opened, surcharged, charged
    return AccountRecord(*numbers, sketch_of(sketch))
