"""Answers that wait for their payment: computed once, released by the solution.

Bounded in number, bytes and time, per account and in all, so that unpaid inference is bounded too:
a request takes its place before the model runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from powfast import _native
from powfast.errors import TooManyUnpaid, require_int
from powfast.http import Answer
from powfast.kernel import native_kernel
from powfast.observers.base import Observer

_MOST = 2**62


class Held(Protocol):
    """A place for unpaid answers; what its methods return may have to be awaited."""

    @property
    def max_answer(self) -> int:
        """Bytes of the largest answer that can be held."""
        ...

    def reserve(self, account: str, digest: bytes) -> Any:
        """See `HeldAnswers.reserve`."""
        ...

    def fill(self, account: str, digest: bytes, work: int, answer: Any, size: int) -> Any:
        """See `HeldAnswers.fill`."""
        ...

    def release(self, account: str, digest: bytes) -> Any:
        """See `HeldAnswers.release`."""
        ...


class HeldAnswers:
    """Unpaid answers in the memory of one process; thread-safe.

    Parameters
    ----------
    lifetime : float
        Seconds that an answer is kept for its payment.
    per_account, in_all : int
        Unpaid requests of one account, and of all accounts together.
    account_bytes, all_bytes : int
        Bytes of held answers. An answer that does not fit is not kept: the model runs again once
        it is paid.
    clock
        Seconds; only differences matter.
    observer : Observer
        Is told how much is held, and how many answers nobody paid for in time.

    Raises
    ------
    InvalidInput
        A bound is no integer, or below 0.
    """

    def __init__(
        self,
        *,
        lifetime: float = 120.0,
        per_account: int = 64,
        in_all: int = 4096,
        account_bytes: int = 16 << 20,
        all_bytes: int = 256 << 20,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        self._lifetime = lifetime
        self._per_account = per_account
        self.max_answer = min(account_bytes, all_bytes)
        self._clock = clock
        self._observer = observer
        self._reserve, self._fill, self._release, self._usage = _native.held(
            native_kernel(),
            require_int("per_account", per_account, 0, _MOST),
            require_int("in_all", in_all, 0, _MOST),
            require_int("account_bytes", account_bytes, 0, _MOST),
            require_int("all_bytes", all_bytes, 0, _MOST),
        )

    def __len__(self) -> int:
        """Unpaid requests at this moment."""
        return self._used()[0]

    @property
    def size(self) -> int:
        """Bytes of the answers held at this moment."""
        return self._used()[1]

    def reserve(self, account: str, digest: bytes) -> int:
        """Take the place of a request; return its price, 0 where that is not known yet.

        A request that was asked before keeps its place.

        Raises
        ------
        TooManyUnpaid
            The account, or all accounts together, have too many unpaid requests.
        """
        now = self._clock()
        said = self._reserve(account, digest, now, now + self._lifetime)
        if self._observer is not None:
            self._used()
        if isinstance(said, int):
            return said
        limit = self._per_account if said == "account" else None
        raise TooManyUnpaid(beyond_limits(limit), self._lifetime)

    def fill(
        self, account: str, digest: bytes, work: int, answer: Answer | None, size: int
    ) -> None:
        """Keep the answer of a reserved request with its price, where there is room for it."""
        self._fill(account, digest, self._clock(), work, answer, size)
        if self._observer is not None:
            self._used()

    def release(self, account: str, digest: bytes) -> Answer | None:
        """Give the place of a request back, and return its answer (`None`: not kept)."""
        kept = self._release(account, digest, self._clock())
        if self._observer is not None:
            self._used()
        return None if kept is None else Answer(*kept)

    def _used(self) -> tuple[int, int]:
        """Return places and bytes; the observer hears of them."""
        places, size, abandoned = self._usage(self._clock())
        if self._observer is not None:
            if abandoned:
                self._observer.event("abandoned", count=abandoned)
            self._observer.event("held", answers=places, bytes=size)
        return places, size


def beyond_limits(per_account: int | None) -> str:
    """Say which bound a request went beyond: that of its account, or the one of all."""
    if per_account is None:
        return "the server holds too many unpaid answers: try again later"
    return f"{per_account} answers wait for payment: solve one of them first"
