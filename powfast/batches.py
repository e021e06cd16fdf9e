"""How many queries one request may have."""

from __future__ import annotations

from powfast.bill import Bill, Phase
from powfast.errors import TooManyQueries, UncountedQueries, require_int
from powfast.observers.base import Observer

UNCOUNTED = 64
"""Queries of a request that are answered where nobody had counted them before they ran."""


class Batches:
    """Refuses requests of too many queries.

    Parameters
    ----------
    most : int
        Queries of one request.
    observer : Observer
        Is told of a batch that ran for the price of one query and has been read.

    Raises
    ------
    InvalidInput
        `most` is no integer, or below 1.
    """

    def __init__(self, most: int, observer: Observer) -> None:
        self._most, self._observer = require_int("max_queries", most, 1, 2**53), observer

    def require_few(self, queries: int) -> None:
        """Refuse more queries than are answered at once.

        Raises
        ------
        TooManyQueries
            The request has to be split.
        """
        if queries > self._most:
            raise TooManyQueries(
                f"this request has {queries} queries, at most {self._most} are answered at once:"
                " split it"
            )

    def require_counted(self, bill: Bill, queries: int) -> None:
        """Refuse a batch that has run, and that nobody had counted.

        Raises
        ------
        UncountedQueries
            Its answer can still be withheld.
        """
        if queries > UNCOUNTED and bill.phase is Phase.CHARGING:
            raise UncountedQueries(
                f"this request has {queries} queries, and at most {UNCOUNTED} are answered where"
                " nobody counts them before they run: split it; or let the server's operator count"
                " them (queries=), or require their price before they run"
            )
        self.note_uncounted(queries)

    def note_uncounted(self, queries: int) -> None:
        """Tell of queries that nobody had counted and that have been read: they are charged."""
        if queries > UNCOUNTED:
            self._observer.event("uncounted", queries=queries)
