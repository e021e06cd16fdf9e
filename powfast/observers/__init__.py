"""Who listens to a gate: metrics for Prometheus, structured logs, OpenTelemetry spans."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

from powfast.observers.base import Observer, Unobserved


class Several:
    """Tells several observers, in order."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self.observers = observers

    def event(self, name: str, **fields: str | float) -> None:
        """Tell all of them."""
        for observer in self.observers:
            observer.event(name, **fields)

    def span(self, name: str) -> AbstractContextManager[object]:
        """Surround a step with the spans of all."""
        stack = ExitStack()
        for observer in self.observers:
            stack.enter_context(observer.span(name))
        return stack


def together(*observers: Observer) -> Observer:
    """Make one observer of any number."""
    return Several(observers) if len(observers) > 1 else next(iter(observers), Unobserved())
