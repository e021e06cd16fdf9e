"""What a payer solves ahead of need: what is pending, what is ready for whom, and when to stop.

An answer whose account has little credit left brings a challenge that is bound to the account
alone (`PoW-Challenge`). Its solution goes along with the next request of the account, whatever that
is. Nothing is sent and no thread is started here.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakSet

from powfast.challenge import Challenge, decode
from powfast.errors import PowfastError
from powfast.http import CHALLENGE_HEADER, RECEIPT_HEADER, challenge_in

REQUESTS_AHEAD = 64
"""Work is done ahead for so many requests at most, each as dear as the dearest one so far."""

IDLE_SECONDS = 60.0
"""Nothing is solved for whom nothing was asked for so long."""

LOCK = threading.Lock()
"""Of all payers: it is held for some additions, and payers can be pickled."""

_REMEMBERED = 256  # peers of one payer

_BALANCE = re.compile(r"\bbalance=(\d{1,20})\b")

_PORTS = {"http": 80, "https": 443}


class Peer(NamedTuple):
    """Who is asked, and as whom: a solution is for one account at one origin."""

    origin: str
    authorization: str = ""


def peer_of(request: Any) -> Peer:
    """Return whom a request is sent to; its `url` and `headers` are read."""
    return Peer(origin_of(str(request.url)), request.headers.get("authorization", ""))


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL as text, equal where the origins are."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS.get(parts.scheme)}"


class Offer(NamedTuple):
    """A challenge that may be solved ahead, until `expires` on this machine's clock."""

    peer: Peer
    token: bytes
    challenge: Challenge
    expires: float


@dataclass(slots=True)
class _Purse:
    """What is known of a peer."""

    asked: float = 0.0  # when something was asked or answered last
    requests: int = 0
    dearest: int = 0  # work of the dearest challenge that one of its requests was paid with
    ahead: int = 0  # work done ahead
    balance: int | None = None  # credit, as the last answer said
    pending: Offer | None = None
    ready: tuple[str, float] | None = None  # the header's value, and when it expires

    def takes(self, offer: Offer, now: float) -> bool:
        """Return whether an offer is worth solving."""
        if self.pending is not None and self.pending.expires > now:
            return False
        if self.ready is not None and self.ready[1] > now:
            return False
        most = (REQUESTS_AHEAD + self.requests) * self.dearest
        return self.ahead + offer.challenge.puzzle.evaluations <= most


class Prepaid:
    """What one payer has pending and ready, by peer.

    Parameters
    ----------
    clock : callable
        Seconds, of which only differences count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._purses: OrderedDict[Peer, _Purse] = OrderedDict()
        self.is_closed = False
        self.has_solver: bool = False
        """Whether somebody takes what is pending, until there is nothing."""
        _ALL.add(self)

    def __reduce__(self) -> Any:
        return Prepaid, ()  # what is ready here is sent from here

    def begin(self, peer: Peer) -> str | None:
        """Note that a request goes out; return the solution to send along, where one is ready."""
        with LOCK:
            purse = self._purse(peer)
            purse.requests += 1
            ready, purse.ready = purse.ready, None
            return ready[0] if ready is not None and ready[1] > purse.asked else None

    def paid(self, peer: Peer, work: int) -> None:
        """Note what the challenge of a request itself has cost."""
        with LOCK:
            purse = self._purse(peer)
            purse.dearest = max(purse.dearest, work)

    def hear(self, peer: Peer, headers: Any) -> bool:
        """Note what an answer says; return whether a solver has to be started."""
        receipt = _BALANCE.search(headers.get(RECEIPT_HEADER.lower()) or "")
        offer = _offer(peer, headers.get(CHALLENGE_HEADER.lower()), self._clock())
        with LOCK:
            purse = self._purse(peer)
            purse.balance = int(receipt[1]) if receipt else purse.balance
            if offer is None or self.is_closed or not purse.takes(offer, purse.asked):
                return False
            purse.pending = offer
            starts, self.has_solver = not self.has_solver, True
            return starts

    def take(self) -> Offer | None:
        """Return what to solve next, the cheapest first; the solver ends where there is nothing."""
        with LOCK:
            for purse in self._purses.values():
                if purse.pending is not None and not self.wants(purse.pending):
                    purse.pending = None
            pending = [purse.pending for purse in self._purses.values() if purse.pending]
            self.has_solver = bool(pending)
            return min(pending, key=lambda offer: offer.challenge.puzzle.evaluations, default=None)

    def wants(self, offer: Offer) -> bool:
        """Return whether an offer is still worth solving."""
        purse = self._purses.get(offer.peer)
        if self.is_closed or purse is None or purse.pending is not offer:
            return False
        return self._clock() < min(offer.expires, purse.asked + IDLE_SECONDS)

    def done(self, offer: Offer, solution: str | None, work: int) -> None:
        """Take the header's value, or `None` for what was given up, and the work it took."""
        with LOCK:
            purse = self._purses.get(offer.peer)
            if purse is None or purse.pending is not offer:
                return
            purse.ahead += work
            purse.pending = None
            if solution is not None:
                purse.ready = solution, offer.expires

    def balance(self, origin: str) -> int | None:
        """Return the credit that the last answer of an origin left."""
        with LOCK:
            told = [purse.balance for peer, purse in self._purses.items() if peer.origin == origin]
        return told[-1] if told else None

    def forget(self) -> None:
        """Let go of everything: this is a copy of the process that asked."""
        self._purses.clear()
        self.has_solver = False

    def _purse(self, peer: Peer) -> _Purse:
        purse = self._purses.setdefault(peer, _Purse())
        self._purses.move_to_end(peer)
        if len(self._purses) > _REMEMBERED:
            self._purses.popitem(last=False)
        purse.asked = self._clock()
        return purse


def _offer(peer: Peer, header: str | None, now: float) -> Offer | None:
    """Return the challenge of an answer, where it is one for any request of the account."""
    try:
        token = challenge_in(402, header)
        challenge = None if token is None else decode(token)
    except PowfastError:  # the answer is good, whatever comes with it
        return None
    if token is None or challenge is None or challenge.request:
        return None
    return Offer(peer, token, challenge, now + challenge.expires - challenge.issued)


# -- copies of the process


_ALL: WeakSet[Prepaid] = WeakSet()


def _in_child() -> None:
    LOCK.release()
    for prepaid in tuple(_ALL):
        prepaid.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_in_child)
