"""What an endpoint holds while it answers one request, for servers that block and those that await.

`charge` prices an answer that is at hand and lets the endpoint go on: the server adapter withholds
the answer. `require` is for evidence known before the model runs: it raises until paid.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from powfast.bill import Bill, Event, Evidence
from powfast.gate import run

BILL_KEY = "powfast.bill"
"""Where an ASGI scope, or a WSGI environment, carries the bill of its request."""


class BlockingBill(Bill):
    """The bill of one request to a server that blocks: WSGI, `grpc.server`."""

    def charge(self, evidence: Evidence) -> None:
        """Charge this request for its queries.

        Parameters
        ----------
        evidence : (n,) array_like, or estimate
            Numbers at least 0; or what `LeakageEstimator.estimate` returns, which adds account
            evidence where the tariff uses it.

        Raises
        ------
        InvalidInput
            The evidence is malformed.
        TooManyQueries
            The request has more queries than the gate answers at once, or (`UncountedQueries`) than
            it lets run uncounted; the adapter says so.
        RuntimeError
            The request was charged before, or its answer is already on the way.
        """
        self.advance(Event.CHARGE)
        run(self.charging(evidence))

    def require(self, evidence: Evidence) -> None:
        """Charge as `charge` does, and stop the endpoint here until the request is paid.

        Raises
        ------
        PaymentRequired
            The request is not paid yet. The adapter sends a challenge, whatever the framework
            makes of the exception.
        """
        self.advance(Event.CHARGE)
        run(self.requiring(evidence))


class AsyncBill(Bill):
    """The bill of one request on an event loop: ASGI, `grpc.aio.server`.

    An answer that starts before its charge has been awaited ends in `RuntimeError`.
    """

    def charge(self, evidence: Evidence) -> Coroutine[Any, Any, None]:
        """See `BlockingBill.charge`."""
        return self._begun(self.charging, evidence)

    def require(self, evidence: Evidence) -> Coroutine[Any, Any, None]:
        """See `BlockingBill.require`."""
        return self._begun(self.requiring, evidence)

    def _begun(
        self, charging: Callable[[Evidence], Coroutine[Any, Any, None]], evidence: Evidence
    ) -> Coroutine[Any, Any, None]:
        self.advance(Event.CHARGE)
        return charging(evidence)


def carried(carrier: Mapping[str, Any], path: str) -> Any:
    """Return the bill that a request's scope or environment carries.

    Raises
    ------
    RuntimeError
        No middleware guards this path.
    """
    try:
        return carrier[BILL_KEY]
    except KeyError:
        raise RuntimeError(
            f"no PowMiddleware guards {path}: wrap the application in it, with paths that cover it"
        ) from None
