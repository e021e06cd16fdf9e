"""Solving in a thread of its own, so that no event loop waits for it."""

from __future__ import annotations

import threading

from powfast.clients.flow import Payer
from powfast.clients.prepaid import Peer
from powfast.errors import MissingExtra

try:
    from anyio import to_thread
except ImportError as _missing:
    raise MissingExtra(
        "asynchronous clients need anyio: pip install 'powfast[client]'"
    ) from _missing


async def pay(payer: Payer, token: bytes, peer: Peer) -> str:
    """Pay as `Payer.pay` does, off the loop; cancelling the task cancels the solving."""
    cancel = threading.Event()
    try:
        return await to_thread.run_sync(payer.pay, token, cancel, peer, abandon_on_cancel=True)
    finally:
        cancel.set()
