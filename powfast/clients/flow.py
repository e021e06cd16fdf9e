"""What every client does with a challenge, whatever library carries it. Sends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from powfast.challenge import Challenge, decode, solve
from powfast.clients import ahead
from powfast.clients.prepaid import LOCK, Offer, Peer, Prepaid, origin_of
from powfast.errors import Cancelled, Declined, InvalidInput, TooMuchTime, TooMuchWork
from powfast.http import challenge_in, format_solution
from powfast.puzzle import MAX_WORKS, Algorithm, CancelFlag, Progress

DEFAULT_MAX_WORK = MAX_WORKS[Algorithm.SHA256]

MOST_CHALLENGES = 2
"""Of one call: what is asked before it runs, and what its answer has cost beyond that."""


class Payer:
    """Solves the challenges that servers ask for, within the limits of its owner.

    Threads and tasks may share one; what it keeps between challenges is what it has spent, and
    what it solves ahead: servers offer challenges over the next requests' work, which are solved
    in a thread of low priority and sent along with the next request to the same origin. In n
    requests to an origin that is at most n + 64 times the dearest challenge that one of them was
    paid with. It ends with the payer, with `close`, or when nothing was asked for a minute.

    Parameters
    ----------
    max_work : int
        Expected SHA-256 evaluations of one challenge; beyond it `TooMuchWork` is raised before
        anything is computed. By default what a laptop solves in about a minute: 2**32, at some
        70 million evaluations a second.
    max_total_work : int, optional
        The same of all challenges together, as long as this payer lives; unbounded by default.
    max_seconds : float, optional
        Seconds of solving after which `TooMuchTime` is raised.
    policy : callable, optional
        Called with the `Challenge` before anything is computed, on the thread that would solve
        it; where it returns false, `Declined` is raised. The `request` of a challenge that is
        solved ahead is empty.
    threads : int, optional
        Solver threads; all cores by default. One solves ahead.
    progress : callable, optional
        Called with (evaluations done, work) some times a second, on the thread that solves; not
        of what is solved ahead.
    """

    def __init__(
        self,
        *,
        max_work: int = DEFAULT_MAX_WORK,
        max_total_work: int | None = None,
        max_seconds: float | None = None,
        policy: Callable[[Challenge], bool] | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        if max_seconds is not None and not max_seconds > 0:
            raise InvalidInput(f"max_seconds must be positive seconds, not {max_seconds!r}")
        if max_total_work is not None and not max_total_work > 0:
            raise InvalidInput(f"max_total_work must be positive, not {max_total_work!r}")
        self.max_work = max_work
        self.max_total_work = max_total_work
        self.max_seconds = max_seconds
        self.policy = policy
        self.threads = threads
        self.progress = progress
        self.prepaid: Prepaid = Prepaid()
        self._spent = 0

    @property
    def spent(self) -> int:
        """Work of all challenges so far; of those that were cancelled, what was computed of it."""
        return self._spent

    def answer(self, response: Any, cancel: CancelFlag | None = None) -> str | None:
        """Return the `PoW-Solution` header that a response asks for, `None` where it asks for none.

        For libraries without a client here: send the same request once more with that header.

        Parameters
        ----------
        response
            Of nearly any HTTP library: its `status_code`, or `status`, and the `items()` of its
            `headers` are read.
        cancel : object with `is_set()`, optional
            Stops the solving within 50 ms.

        Raises
        ------
        InvalidInput
            The response has neither status nor headers.
        MalformedToken, Declined, TooMuchWork, TooMuchTime, Cancelled
            The challenge is not paid; see `pay`.
        """
        token = _asked_for(response)
        return None if token is None else self.pay(token, cancel)

    def pay(self, token: bytes, cancel: CancelFlag | None = None, peer: Peer | None = None) -> str:
        """Solve a challenge and return the `PoW-Solution` header's value.

        Parameters
        ----------
        token : bytes
            The challenge.
        cancel : object with `is_set()`, optional
            Stops the solving within 50 ms.
        peer : Peer, optional
            Whose challenge it is: what its requests cost bounds what is solved ahead for it.

        Raises
        ------
        MalformedToken
            The token is none.
        Declined, TooMuchWork
            The policy, `max_work` or what is left of `max_total_work` forbids it; nothing was
            computed.
        TooMuchTime, Cancelled
            `max_seconds` are over, or `cancel` is set.
        """
        challenge = decode(token)
        attempt = self._accepted(token, challenge, cancel)
        try:
            solution = attempt.solution_header(self.threads, self.progress)
        except BaseException:
            self._give_back(attempt.left)
            raise
        if peer is not None:
            self.prepaid.paid(peer, challenge.puzzle.evaluations)
        return solution

    def begin(self, peer: Peer) -> str | None:
        """Note that a request is sent; return the solution that goes along, where one is ready."""
        return self.prepaid.begin(peer)

    def hear(self, peer: Peer, headers: Any) -> None:
        """Note what the headers of an answer say; they have `get`, and names in lower case."""
        if self.prepaid.hear(peer, headers):
            ahead.start(self)

    def balance(self, url: str) -> int | None:
        """Return the credit that is left at the origin of a URL, in SHA-256 evaluations.

        It is what the latest answer with a balance said; `None` where there was none.
        """
        return self.prepaid.balance(origin_of(url))

    def close(self) -> None:
        """Solve nothing ahead any more. What a request itself has to pay is still paid."""
        self.prepaid.is_closed = True

    def begin_ahead(self) -> tuple[Offer, Attempt] | None:
        """Return what to solve ahead next, within the limits; `None` where there is nothing."""
        while (offer := self.prepaid.take()) is not None:
            unwanted = ahead.Unwanted(self.prepaid, offer)
            try:
                return offer, self._accepted(offer.token, offer.challenge, unwanted)
            except (Declined, TooMuchWork):
                self.prepaid.done(offer, None, 0)
        return None

    def end_ahead(self, offer: Offer, attempt: Attempt, solution: str | None) -> None:
        """Take what was solved ahead, or `None` for what was given up."""
        left = 0 if solution else attempt.left
        self._give_back(left)
        self.prepaid.done(offer, solution, offer.challenge.puzzle.evaluations - left)

    def _accepted(self, token: bytes, challenge: Challenge, cancel: CancelFlag | None) -> Attempt:
        if self.policy is not None and not self.policy(challenge):
            raise Declined(f"the policy declines a challenge of {challenge.work} evaluations")
        self._spend(challenge.puzzle.evaluations)
        return Attempt(token, challenge, _Patience(self.max_seconds, cancel))

    def _spend(self, work: int) -> None:
        if work > self.max_work:
            raise TooMuchWork(
                f"the challenge asks for {work} evaluations, allowed are {self.max_work}"
            )
        with LOCK:
            if self.max_total_work is not None and self._spent + work > self.max_total_work:
                raise TooMuchWork(
                    f"the challenge asks for {work} evaluations; of max_total_work,"
                    f" {self.max_total_work}, {self._spent} are spent and"
                    f" {self.max_total_work - self._spent} are left"
                )
            self._spent += work

    def _give_back(self, work: int) -> None:
        with LOCK:
            self._spent -= work


def _asked_for(response: Any) -> bytes | None:
    status = getattr(response, "status_code", None) or getattr(response, "status", None)
    items = getattr(getattr(response, "headers", None), "items", None)
    if not isinstance(status, int) or items is None:
        raise InvalidInput("a response has a status_code, or status, and headers with items()")
    asked = [value for name, value in items() if name.lower() == "www-authenticate"]
    return challenge_in(status, ", ".join(asked))


class Attempt:
    """One challenge that is being solved."""

    def __init__(self, token: bytes, challenge: Challenge, patience: _Patience) -> None:
        self.token = token
        self.challenge = challenge
        self._patience = patience
        self._done = 0

    @property
    def left(self) -> int:
        """What was not computed, in SHA-256 evaluations."""
        each = self.challenge.puzzle.evaluations // self.challenge.work
        return (self.challenge.work - self._done) * each

    def solution_header(self, threads: int | None = 1, progress: Progress | None = None) -> str:
        """Solve, and return the header's value.

        Raises
        ------
        TooMuchTime, Cancelled
            The patience is over.
        """

        def count(evaluations: int, work: int) -> None:
            self._done = min(evaluations, work)
            if progress is not None:
                progress(evaluations, work)

        work, patience = self.challenge.work, self._patience
        try:
            solution = solve(
                self.challenge, max_work=work, threads=threads, progress=count, cancel=patience
            )
        except Cancelled as stopped:
            if not patience.over:
                raise
            limit = f"{work} evaluations take more than {patience.seconds} s here"
            raise TooMuchTime(f"{limit}: {stopped}") from None
        return format_solution(self.token, solution)


class _Patience:
    """Set when its owner cancels, or when its seconds are over."""

    def __init__(self, seconds: float | None, cancel: CancelFlag | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._cancel = cancel
        self.over: bool = False

    def is_set(self) -> bool:
        if self._cancel is not None and self._cancel.is_set():
            return True
        self.over = self._end is not None and time.monotonic() >= self._end
        return self.over
