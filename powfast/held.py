"""Answers that wait for their payment: computed once, released by the solution.

Bounded in number, bytes and time, per account and in all, so that unpaid inference is bounded too:
a request takes its place before the model runs.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import Any, Protocol

from powfast.errors import TooManyUnpaid
from powfast.http import Answer
from powfast.observer import Observer, Unobserved

Key = tuple[str, bytes]


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
        self._observer = Unobserved() if observer is None else observer
        self._lifetime = lifetime
        self._per_account, self._in_all = per_account, in_all
        self._account_bytes, self._all_bytes = account_bytes, all_bytes
        self.max_answer = min(account_bytes, all_bytes)
        self._clock = clock
        # First in, first expired: expiry, work, size, then the answer, laid flat. Of a plain tuple
        # of atoms the collector lets go at once; nested or named ones it walks again and again.
        self._places: OrderedDict[Key, tuple[Any, ...]] = OrderedDict()
        self._of: dict[str, tuple[int, int]] = {}  # account -> places, bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Unpaid requests at this moment."""
        with self._lock:
            self._drop_expired()
            return len(self._places)

    @property
    def size(self) -> int:
        """Bytes of the answers held at this moment."""
        with self._lock:
            self._drop_expired()
            return self._bytes

    def reserve(self, account: str, digest: bytes) -> int:
        """Take the place of a request; return its price, 0 where that is not known yet.

        A request that was asked before keeps its place.

        Raises
        ------
        TooManyUnpaid
            The account, or all accounts together, have too many unpaid requests.
        """
        key = (account, digest)
        with self._lock:
            expires = self._drop_expired() + self._lifetime
            place = self._places.pop(key, None)
            if place is not None:
                self._places[key] = (expires, *place[1:])
                work: int = place[1]
                return work
            places, size = self._of.get(account, (0, 0))
            if places >= self._per_account:
                raise TooManyUnpaid(beyond_limits(self._per_account), self._lifetime)
            if len(self._places) >= self._in_all:
                raise TooManyUnpaid(beyond_limits(None), self._lifetime)
            self._of[account] = (places + 1, size)
            self._places[key] = (expires, 0, 0)
            return 0

    def fill(
        self, account: str, digest: bytes, work: int, answer: Answer | None, size: int
    ) -> None:
        """Keep the answer of a reserved request with its price, where there is room for it."""
        key = (account, digest)
        with self._lock:
            place = self._places.get(key)
            if place is None:
                return
            expires, before = place[0], place[2]
            places, held = self._of[account]
            more = size - before
            if held + more > self._account_bytes or self._bytes + more > self._all_bytes:
                answer, size, more = None, 0, -before
            self._places[key] = (expires, work, size, *_flat(answer))
            self._of[account] = (places, held + more)
            self._bytes += more
            self._report()

    def release(self, account: str, digest: bytes) -> Answer | None:
        """Give the place of a request back, and return its answer (`None`: not kept)."""
        with self._lock:
            self._drop_expired()
            answer = self._drop((account, digest))
            self._report()
            return answer

    def _drop(self, key: Key) -> Answer | None:
        place = self._places.pop(key, None)
        if place is None:
            return None
        places, held = self._of.pop(key[0])
        if places > 1:
            self._of[key[0]] = (places - 1, held - place[2])
        self._bytes -= place[2]
        return _answer(place[3:])

    def _report(self) -> None:
        self._observer.event("held", answers=len(self._places), bytes=self._bytes)

    def _drop_expired(self) -> float:
        """Give up what nobody paid for in time; return the time."""
        now = self._clock()
        while self._places:
            key, place = next(iter(self._places.items()))
            if place[0] > now:
                break
            self._drop(key)
            if place[1]:
                self._observer.event("abandoned", count=1)
        return now


def _flat(answer: Answer | None) -> tuple[Any, ...]:
    if answer is None:
        return ()
    return (answer.status, answer.body, *chain.from_iterable(answer.headers))


def _answer(flat: tuple[Any, ...]) -> Answer | None:
    if not flat:
        return None
    status, body, *headers = flat
    return Answer(status, tuple(zip(headers[::2], headers[1::2], strict=True)), body)


def beyond_limits(per_account: int | None) -> str:
    """Say which bound a request went beyond: that of its account, or the one of all."""
    if per_account is None:
        return "the server holds too many unpaid answers: try again later"
    return f"{per_account} answers wait for payment: solve one of them first"
