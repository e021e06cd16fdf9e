"""Which challenges were spent, in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

Claim = Callable[[bytes, float], bool]
"""Called with an id and when it expires, in seconds since the epoch; true once for each id."""


class SpentChallenges:
    """Which challenges are redeemed, in this process: a thread-safe `Claim`.

    Ids are kept in buckets by expiry and whole buckets are dropped when their time is over, so
    that memory is bounded by what was redeemed within one lifetime of a challenge.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, width: float = 10.0) -> None:
        self._clock, self._width = clock, width
        self._buckets: defaultdict[int, set[bytes]] = defaultdict(set)
        self._swept = 0
        self._lock = threading.Lock()

    def __call__(self, challenge_id: bytes, expires: float) -> bool:
        """Return True the first time an unexpired `challenge_id` is seen, else False."""
        return self.claim_many([(challenge_id, expires)])[0]

    def claim_many(self, challenges: Sequence[tuple[bytes, float]]) -> list[bool]:
        """Claim several at once: for each (id, expires), in order, as a call would say."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            return [expires > now and self._add(id_, expires) for id_, expires in challenges]

    def __contains__(self, challenge_id: bytes) -> bool:
        """Return whether it was claimed and is remembered."""
        with self._lock:
            return any(challenge_id in spent for spent in self._buckets.values())

    def _add(self, challenge_id: bytes, expires: float) -> bool:
        spent = self._buckets[int(expires // self._width)]
        before = len(spent)
        spent.add(challenge_id)
        return len(spent) > before

    def _forget(self, now: float) -> None:
        current = int(now // self._width)
        if current != self._swept:
            for bucket in [bucket for bucket in self._buckets if bucket < current]:
                del self._buckets[bucket]
            self._swept = current

    def __len__(self) -> int:
        """Return how many redeemed challenges are remembered."""
        with self._lock:
            return sum(map(len, self._buckets.values()))
