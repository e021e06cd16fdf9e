"""The thread in which a payer solves ahead: one core's idle time, and only while there is work."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

from powfast.clients.prepaid import Offer, Prepaid
from powfast.errors import PowfastError

if TYPE_CHECKING:
    from powfast.clients.flow import Attempt, Payer

_LEAST_URGENT = 19
_LAST_SECONDS = 1.0  # for a policy that takes its time

_threads: WeakSet[threading.Thread] = WeakSet()
_exiting = threading.Event()


def start(payer: Payer) -> None:
    """Solve what is pending for a payer, as long as it lives and is not closed."""
    if _exiting.is_set():
        return
    thread = threading.Thread(target=_run, args=(ref(payer),), name="powfast-ahead", daemon=True)
    _threads.add(thread)
    try:
        thread.start()
    except RuntimeError:  # no more threads: what is pending is asked for when it is needed
        payer.prepaid.has_solver = False


class Unwanted:
    """Set once nobody waits for the solution of an offer any more."""

    def __init__(self, prepaid: Prepaid, offer: Offer) -> None:
        self._prepaid = ref(prepaid)
        self._offer = offer

    def is_set(self) -> bool:
        """Return whether to stop."""
        prepaid = self._prepaid()
        return prepaid is None or _exiting.is_set() or not prepaid.wants(self._offer)


def _run(owner: ref[Payer]) -> None:
    _yield_to_others()
    try:
        while (begun := _next(owner)) is not None:
            offer, attempt = begun
            solution = None
            with suppress(PowfastError):  # Cancelled, TooMuchTime
                solution = attempt.solution_header()
            _done(owner, offer, attempt, solution)
    except BaseException:  # of the owner's policy
        _failed(owner)
        raise


def _next(owner: ref[Payer]) -> tuple[Offer, Attempt] | None:
    payer = owner()  # held no longer than this takes: nobody solves for who is gone
    return None if payer is None else payer.begin_ahead()


def _done(owner: ref[Payer], offer: Offer, attempt: Attempt, solution: str | None) -> None:
    payer = owner()
    if payer is not None:
        payer.end_ahead(offer, attempt, solution)


def _failed(owner: ref[Payer]) -> None:
    payer = owner()
    if payer is not None:
        payer.prepaid.has_solver = False


def _yield_to_others() -> None:
    """Lower the priority of this thread; only Linux has one for each thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_URGENT)


@atexit.register
def _end() -> None:
    """Leave no thread in native code while the interpreter goes away under it."""
    _exiting.set()
    for thread in tuple(_threads):
        thread.join(_LAST_SECONDS)
