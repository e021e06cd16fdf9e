"""The decision: admit, challenge or refuse. No socket, no clock, no framework.

A step that needs the ledger is yielded as a call; `run` and `run_async` are the two drivers, so
that one logic serves blocking and asynchronous stores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from powfast.challenge import Issuer, Receipt
from powfast.errors import AlreadyRedeemed, InvalidInput
from powfast.held import HeldAnswers
from powfast.http import parse_solution
from powfast.ledger import AsyncLedger, Ledger

MAX_NAME_BYTES = 255

T = TypeVar("T")
Flow = Generator[Callable[[], Any], Any, T]


@dataclass(frozen=True)
class Asked:
    """Who asks what: the account, its group, and the digest of the request."""

    account: str
    group: str
    digest: bytes

    def __post_init__(self) -> None:
        for name in (self.account, self.group):
            if not isinstance(name, str) or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
                raise InvalidInput(
                    f"an account or group is text of at most {MAX_NAME_BYTES} bytes in UTF-8"
                )


class Gate:
    """Prices requests, issues their challenges and redeems the solutions.

    Parameters
    ----------
    issuer : Issuer
        Signs and checks challenges.
    ledger
        Charges accounts and spends challenges; its methods may be coroutines.
    held : HeldAnswers
        Where answers wait for their payment.
    """

    def __init__(
        self, issuer: Issuer, ledger: Ledger | AsyncLedger, held: HeldAnswers | None = None
    ) -> None:
        self.issuer = issuer
        self.ledger = ledger
        self.held = HeldAnswers(lifetime=issuer.ttl) if held is None else held

    def charge(self, asked: Asked, evidence: ArrayLike) -> Flow[int]:
        """Charge a request for what its answer reveals, and return the work it has to pay."""
        work: int = yield partial(
            self.ledger.charge, asked.account, asked.group, asked.digest, evidence
        )
        return work

    def challenge(self, asked: Asked, work: int) -> bytes:
        """Issue a challenge over `work`, bound to who asked what."""
        return self.issuer.issue(
            work=work, account=asked.account, group=asked.group, request=asked.digest
        )

    def redeem(self, asked: Asked, header: str) -> Flow[Receipt]:
        """Check a `PoW-Solution` header and spend its challenge.

        Raises
        ------
        Refused
            One leaf per reason; nothing was written.
        """
        token, solution = parse_solution(header)
        receipt = self.issuer.check(token, solution, account=asked.account, request=asked.digest)
        fresh = yield partial(self.ledger.claim, receipt.challenge_id, receipt.expires)
        if not fresh:
            raise AlreadyRedeemed("the challenge was redeemed before: ask for a new one")
        return receipt


def run(flow: Flow[T]) -> T:
    """Drive a flow over a blocking ledger."""
    try:
        result = next(flow)()
        while True:
            result = flow.send(result)()
    except StopIteration as stop:
        value: T = stop.value
        return value


async def run_async(flow: Flow[T]) -> T:
    """Drive a flow on an event loop, over either kind of ledger."""
    try:
        result = next(flow)()
        while True:
            result = flow.send(await result if inspect.isawaitable(result) else result)()
    except StopIteration as stop:
        value: T = stop.value
        return value
