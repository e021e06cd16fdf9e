"""What every client does with a challenge, whatever library carries it. Sends nothing."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from powfast.challenge import solve
from powfast.http import SOLUTION_HEADER, challenge_in, format_solution

DEFAULT_MAX_WORK = 2**36


class Payer:
    """Solves the challenges that servers ask for, within the limits of its owner.

    Parameters
    ----------
    max_work : int
        Expected SHA-256 evaluations of one challenge; beyond it `TooMuchWork` is raised before
        anything is computed.
    threads : int, optional
        Solver threads; all cores by default.
    progress
        Called with (evaluations done, work) a few times a second.
    """

    def __init__(
        self,
        *,
        max_work: int = DEFAULT_MAX_WORK,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.max_work = max_work
        self.threads = threads
        self.progress = progress

    def pay(self, token: bytes, cancel: threading.Event | None = None) -> str:
        """Solve a challenge and return the `PoW-Solution` header's value.

        Raises
        ------
        TooMuchWork, MalformedToken, Cancelled
            Nothing was found; see `powfast.solve`.
        """
        solution = solve(
            token,
            max_work=self.max_work,
            threads=self.threads,
            progress=self.progress,
            cancel=cancel,
        )
        return format_solution(token, solution)


class HttpxFlow(Payer):
    """The auth flow shared by httpx and httpx2: one challenge is paid per logical request."""

    requires_request_body = True  # the request is sent twice, so its body must be replayable

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send, pay where asked to, and send again."""
        request.read()
        response = yield request
        token = _asked_for(response)
        if token is not None:
            request.headers[SOLUTION_HEADER] = self.pay(token)
            yield request

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Do the same off the event loop; cancelling the request cancels the solving."""
        from anyio import to_thread

        await request.aread()
        response = yield request
        token = _asked_for(response)
        if token is not None:
            cancel = threading.Event()
            try:
                paid = await to_thread.run_sync(self.pay, token, cancel, abandon_on_cancel=True)
            finally:
                cancel.set()
            request.headers[SOLUTION_HEADER] = paid
            yield request


def _asked_for(response: Any) -> bytes | None:
    return challenge_in(response.status_code, response.headers.get("www-authenticate"))
