"""What the gate tells of itself, without knowing who listens: metrics, logs or traces."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Observer(Protocol):
    """Listens to a gate.

    Nothing it is told carries a key, a solution, an answer or the name of an account.
    """

    def event(self, name: str, **fields: str | float) -> None:
        """Take note of what happened, see docs/operations.md for the names and fields."""
        ...

    def span(self, name: str) -> AbstractContextManager[object]:
        """Surround a step that takes time."""
        ...


class Unobserved:
    """Listens to nothing."""

    def event(self, name: str, **fields: str | float) -> None:
        """Take no note."""

    def span(self, name: str) -> AbstractContextManager[object]:
        """Surround nothing."""
        return _NOTHING


_NOTHING = nullcontext()
