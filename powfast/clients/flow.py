"""What every client does with a challenge, whatever library carries it. Sends nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from powfast.challenge import Challenge, decode, solve
from powfast.errors import Cancelled, Declined, InvalidInput, TooMuchTime, TooMuchWork
from powfast.http import challenge_in, format_solution
from powfast.puzzle import MAX_WORKS, Algorithm, CancelFlag, Progress

DEFAULT_MAX_WORK = MAX_WORKS[Algorithm.SHA256]

_SPENDING = threading.Lock()  # of all payers: it is held for an addition, and they can be pickled


class Payer:
    """Solves the challenges that servers ask for, within the limits of its owner.

    Threads and tasks may share one; what it keeps between challenges is what it has spent.

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
        it; where it returns false, `Declined` is raised.
    threads : int, optional
        Solver threads; all cores by default.
    progress : callable, optional
        Called with (evaluations done, work) some times a second, on the thread that solves.
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

    def pay(self, token: bytes, cancel: CancelFlag | None = None) -> str:
        """Solve a challenge and return the `PoW-Solution` header's value.

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
        if self.policy is not None and not self.policy(challenge):
            raise Declined(f"the policy declines a challenge of {challenge.work} evaluations")
        each = challenge.puzzle.evaluations // challenge.work
        self._spend(challenge.puzzle.evaluations)
        done = 0

        def progress(evaluations: int, work: int) -> None:
            nonlocal done
            done = min(evaluations, work)
            if self.progress is not None:
                self.progress(evaluations, work)

        patience = _Patience(self.max_seconds, cancel)
        try:
            solution = solve(
                challenge,
                max_work=challenge.work,
                threads=self.threads,
                progress=progress,
                cancel=patience,
            )
        except BaseException as stopped:
            self._give_back((challenge.work - done) * each)
            if not isinstance(stopped, Cancelled) or not patience.over:
                raise
            limit = f"{challenge.work} evaluations take more than {self.max_seconds} s here"
            raise TooMuchTime(f"{limit}: {stopped}") from None
        return format_solution(token, solution)

    def _spend(self, work: int) -> None:
        if work > self.max_work:
            raise TooMuchWork(
                f"the challenge asks for {work} evaluations, allowed are {self.max_work}"
            )
        with _SPENDING:
            if self.max_total_work is not None and self._spent + work > self.max_total_work:
                raise TooMuchWork(
                    f"the challenge asks for {work} evaluations; of max_total_work,"
                    f" {self.max_total_work}, {self._spent} are spent and"
                    f" {self.max_total_work - self._spent} are left"
                )
            self._spent += work

    def _give_back(self, work: int) -> None:
        with _SPENDING:
            self._spent -= work


def _asked_for(response: Any) -> bytes | None:
    status = getattr(response, "status_code", None) or getattr(response, "status", None)
    items = getattr(getattr(response, "headers", None), "items", None)
    if not isinstance(status, int) or items is None:
        raise InvalidInput("a response has a status_code, or status, and headers with items()")
    asked = [value for name, value in items() if name.lower() == "www-authenticate"]
    return challenge_in(status, ", ".join(asked))


class _Patience:
    """Set when its owner cancels, or when its seconds are over."""

    def __init__(self, seconds: float | None, cancel: CancelFlag | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._cancel = cancel
        self.over = False

    def is_set(self) -> bool:
        if self._cancel is not None and self._cancel.is_set():
            return True
        self.over = self._end is not None and time.monotonic() >= self._end
        return self.over
