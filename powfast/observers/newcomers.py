"""What newcomers pay, for whoever listens: their pool's price, and when it rises."""

from __future__ import annotations

from threading import Lock

from powfast.observers.base import Observer

LEVELS = (2, 10, 100)
"""Base prices at which a pool of newcomers is hot, hotter, and as hot as during an extraction."""

_MOST_POOLS = 4096


class Newcomers:
    """Tells an observer once when a pool's price passes a level, and again after it was at half.

    Every process says so for itself. Thread-safe.

    Parameters
    ----------
    observer : Observer
        Is told.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = Lock()
        self._passed: dict[str, int] = {}
        """Of each hot pool the highest level that it has passed."""

    def pay(self, pool: str, price: float) -> None:
        """Take note of what a newcomer of a pool pays, in base prices."""
        if price < LEVELS[0] and pool not in self._passed:
            return
        with self._lock:
            before = self._passed.pop(pool, 0)
            now = max((level for level in LEVELS if _is_at(level, price, before)), default=0)
            if now:
                self._passed[pool] = now
            if len(self._passed) > _MOST_POOLS:
                del self._passed[next(iter(self._passed))]
        for level in LEVELS:
            if before < level <= now:
                self._observer.event("newcomers", pool=pool, level=level, price=price)


def _is_at(level: int, price: float, before: int) -> bool:
    """Whether a price is at a level; once it has passed that, until it is at half of it."""
    return price >= level or (level <= before and price > level / 2)
