"""Answers that wait for their payment, or that were paid and may be asked for again.

A bounded cache that knows of no prices: who pays for an answer that is gone has the model run
again.

Accounts share the bytes. Each may hold as much as is still free (dynamic thresholds: Choudhury and
Hahne, 1998), and half of an equal share in any case: where that has no room, the answer that ends
first of the account that holds most makes some. So whoever holds at most half of an equal share
loses nothing to others, and finds room: at once for what counts at most 1 MiB, and for more
wherever that takes no more than `EVICT_AT_ONCE` answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

from powfast import _native
from powfast.errors import InvalidInput, require_int
from powfast.http import Answer
from powfast.kernel import native_kernel
from powfast.observers.base import Observer

OVERHEAD = 4096
"""Bytes that an answer counts beside its own, so that their number is bounded too."""

LARGEST_SHARE = 16
"""One answer counts at most the sixteenth of all bytes."""

EXPIRE_AT_ONCE = 100
EVICT_AT_ONCE = 256
"""How many answers one call drops at most, lest others wait for it; 256 count a MiB at least."""

_MOST = 2**53  # bytes: Redis counts in doubles


class Held(Protocol):
    """A place for answers; what its methods return may have to be awaited."""

    @property
    def max_answer(self) -> int:
        """Bytes of the largest answer that can be held: its body and its headers."""
        ...

    def put(self, account: str, run: bytes, answer: Answer) -> Any:
        """See `HeldAnswers.put`."""
        ...

    def get(self, account: str, run: bytes, until: float | None = None) -> Any:
        """See `HeldAnswers.get`."""
        ...


class HeldAnswers:
    """Answers in the memory of one process; thread-safe.

    Parameters
    ----------
    lifetime : float
        Seconds that an answer is kept for its payment.
    max_bytes : int
        Bytes of all answers together: the body and headers of each, and `OVERHEAD`.
    clock
        Seconds since the epoch.
    observer : Observer
        Is told how much is held, how many answers nobody paid for in time, and how many made room
        for others.

    Raises
    ------
    InvalidInput
        `lifetime` is not above 0, or `max_bytes` is no integer or below 0.
    """

    def __init__(
        self,
        *,
        lifetime: float = 120.0,
        max_bytes: int = 256 << 20,
        clock: Callable[[], float] = time.time,
        observer: Observer | None = None,
    ) -> None:
        self._lifetime = require_lifetime(lifetime)
        self.max_answer: int
        answer_bytes, self.max_answer = shares(max_bytes)
        self._clock = clock
        self._observer = observer
        self._answers = _native.HeldAnswers(
            native_kernel(), OVERHEAD, max_bytes, answer_bytes, EXPIRE_AT_ONCE, EVICT_AT_ONCE
        )

    def __len__(self) -> int:
        """Answers in memory, those among them that have ended since the latest calls."""
        return self._used()[0]

    @property
    def size(self) -> int:
        """Bytes of the answers in memory, `OVERHEAD` for each among them."""
        return self._used()[1]

    def put(self, account: str, run: bytes, answer: Answer) -> bool:
        """Keep the answer of a run, where there is room for it; return whether.

        A run that is put again has its answer replaced, and as much time left as before.

        Parameters
        ----------
        account : str
            Whose share it counts in.
        run : bytes
            16 random bytes.
        answer : Answer
            Status, headers and body.

        Raises
        ------
        TypeError
            One of them is none of these.
        """
        now = self._clock()
        kept = self._answers.put(account, run, answer, now, now + self._lifetime)
        if self._observer is not None:
            self._used()
        return kept

    def get(self, account: str, run: bytes, until: float | None = None) -> Answer | None:
        """Return the answer of a run, which stays; `None` where it is not held.

        Parameters
        ----------
        account : str
            As it was put.
        run : bytes
            16 random bytes.
        until : float
            Seconds since the epoch: the answer was paid, and is kept at least until then.

        Raises
        ------
        TypeError
            One of them is none of these.
        """
        now = self._clock()
        kept = self._answers.get(account, run, now, until)
        if self._observer is not None:
            self._used()
        return None if kept is None else Answer(*kept)

    def _used(self) -> tuple[int, int]:
        """Return answers and bytes; the observer hears of them."""
        answers, size, abandoned, evicted = self._answers.usage()
        if self._observer is not None:
            tell(self._observer, abandoned, evicted, answers=answers, bytes=size)
        return answers, size


def require_lifetime(seconds: float) -> float:
    """Return `seconds` where an answer can be kept for so long; else raise InvalidInput."""
    if not 0 < seconds < math.inf:
        raise InvalidInput(f"lifetime must be a number of seconds above 0, not {seconds}")
    return seconds


def shares(max_bytes: int) -> tuple[int, int]:
    """Return what one answer may count, and of that its body and headers.

    Raises
    ------
    InvalidInput
        `max_bytes` is no integer, or out of range.
    """
    largest = require_int("max_bytes", max_bytes, 0, _MOST) // LARGEST_SHARE
    return largest, max(0, largest - OVERHEAD)


def tell(observer: Observer, abandoned: int, evicted: int, **held: int) -> None:
    """Say what has gone, and what is held."""
    if abandoned:
        observer.event("abandoned", count=abandoned)
    if evicted:
        observer.event("evicted", count=evicted)
    observer.event("held", **held)
