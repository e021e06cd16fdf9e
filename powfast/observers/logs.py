"""Structured logs: one JSON object per event, through the standard library's logging."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager, nullcontext

_LEVELS = {
    "store-error": logging.ERROR,
    "refused": logging.WARNING,
    "newcomers": logging.WARNING,
    "uncounted": logging.WARNING,
    "held": logging.DEBUG,
}


class Logs:
    """Writes every event to a logger: `{"event": "challenged", "work": 2000}`.

    Events are logged as INFO; refusals, newcomers whose price rises and batches that nobody counted
    as WARNING; a failing store as ERROR, and how much is held as DEBUG. No event carries a key, a
    solution, an answer or the name of an account.

    Parameters
    ----------
    logger
        "powfast" by default.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger("powfast") if logger is None else logger

    def event(self, name: str, **fields: str | float) -> None:
        """Log one event, where its level is wanted."""
        level = _LEVELS.get(name, logging.INFO)
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", json.dumps({"event": name, **fields}))

    def span(self, name: str) -> AbstractContextManager[object]:
        """Log nothing: spans are for traces and histograms."""
        return _NOTHING


_NOTHING = nullcontext()
