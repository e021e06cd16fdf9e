"""What an endpoint holds while it answers one request, for servers that block and those that await.

`charge` prices an answer that is at hand and lets the endpoint go on: the server adapter withholds
the answer. `require` is for evidence known before the model runs: it raises until paid.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from numpy.typing import ArrayLike

from powfast.gate import Bill, run

CHARGE_KEY = "powfast.charge"
"""Where an ASGI scope, or a WSGI environment, carries the charge of its request."""


class Charge(Bill):
    """The charge of one request to a server that blocks: WSGI, `grpc.server`."""

    def charge(self, evidence: ArrayLike) -> None:
        """Charge this request for the evidence of its queries, (n,) numbers at least 0.

        Raises
        ------
        InvalidInput
            The evidence is malformed.
        RuntimeError
            The request was charged before, or its answer is already on the way.
        """
        run(self._charging(evidence))

    def require(self, evidence: ArrayLike) -> None:
        """Charge as `charge` does, and stop the endpoint here until the request is paid.

        Raises
        ------
        PaymentRequired
            The request is not paid yet. The adapter sends a challenge, whatever the framework
            makes of the exception.
        """
        run(self._requiring(evidence))


class AsyncCharge(Bill):
    """The charge of one request on an event loop: ASGI, `grpc.aio.server`.

    An answer that starts before its charge has been awaited ends in `RuntimeError`.
    """

    def charge(self, evidence: ArrayLike) -> Coroutine[Any, Any, None]:
        """See `Charge.charge`."""
        return self._begun(self._charging, evidence)

    def require(self, evidence: ArrayLike) -> Coroutine[Any, Any, None]:
        """See `Charge.require`."""
        return self._begun(self._requiring, evidence)

    def _begun(
        self, charging: Callable[[ArrayLike], Coroutine[Any, Any, None]], evidence: ArrayLike
    ) -> Coroutine[Any, Any, None]:
        self.pending = True

        async def done() -> None:
            try:
                await charging(evidence)
            finally:
                self.pending = False

        return done()


def carried(carrier: Mapping[str, Any], path: str) -> Any:
    """Return the charge that a request's scope or environment carries.

    Raises
    ------
    RuntimeError
        No middleware guards this path.
    """
    try:
        return carrier[CHARGE_KEY]
    except KeyError:
        raise RuntimeError(
            f"no PowMiddleware guards {path}: wrap the application in it, with paths that cover it"
        ) from None
