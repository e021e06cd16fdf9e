"""Asking Redis, blocking or awaiting: what goes wrong there is an unavailable store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from powfast.errors import StoreUnavailable


class Calls:
    """Makes calls of a client; whatever fails in the store raises `StoreUnavailable`.

    Parameters
    ----------
    timeout : float
        Seconds for a call that is awaited, whole. One that blocks is bounded by the client's own
        timeouts, each time it waits for the store.
    """

    def __init__(self, timeout: float) -> None:
        from redis import exceptions

        self._timeout = timeout
        self._faults = (exceptions.RedisError, exceptions.RedisClusterException, OSError)

    def block(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call, and return what the store says."""
        try:
            return call(*arguments)
        except self._faults as error:
            raise _unavailable(error) from error

    async def wait(self, call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Call, and await what the store says."""
        try:
            async with asyncio.timeout(self._timeout):
                return await call(*arguments)
        except self._faults as error:
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> StoreUnavailable:
    said = str(error) or type(error).__name__
    return StoreUnavailable(f"the Redis store: {said}")
