"""OpenTelemetry: a span for each step of the gate, events on the span they happen in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from powfast.errors import MissingExtra

try:
    from opentelemetry import trace
except ImportError as _missing:
    raise MissingExtra("tracing needs OpenTelemetry: pip install 'powfast[tracing]'") from _missing


class Tracing:
    """Opens spans "powfast.gate", "powfast.ledger" and "powfast.verify".

    Parameters
    ----------
    provider
        Makes the tracer; OpenTelemetry's global one by default.
    """

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("powfast", tracer_provider=provider)

    def event(self, name: str, **fields: str | float) -> None:
        """Add the event to the current span."""
        trace.get_current_span().add_event(f"powfast.{name}", fields)

    @contextmanager
    def span(self, name: str) -> Iterator[object]:
        """Open a span, child of the current one; of what fails in it only the kind is recorded.

        An endpoint's exception may quote what it was about to answer.
        """
        with self._tracer.start_as_current_span(
            f"powfast.{name}", record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise
