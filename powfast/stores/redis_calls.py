"""Asking Redis, blocking or awaiting: what goes wrong there is an unavailable store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

from powfast.errors import StoreUnavailable

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    Client: TypeAlias = (
        redis.Redis | redis.RedisCluster | redis.asyncio.Redis | redis.asyncio.RedisCluster
    )


def script(*names: str) -> str:
    """Return the text of a script: these files of `lua/`, one after the other."""
    folder = resources.files("powfast.stores") / "lua"
    return "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names)


class Calls:
    """Makes calls of a client; whatever fails in the store raises `StoreUnavailable`.

    Parameters
    ----------
    client
        Of redis-py.
    timeout : float
        Seconds for a call that is awaited, whole. One that blocks is bounded by the client's own
        timeouts, each time it waits for the store.
    """

    def __init__(self, client: Client, timeout: float) -> None:
        from redis import exceptions

        # sentinels are asked over clients of their own, which nobody else closes
        manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
        self._clients: list[Any] = [client, *(() if manager is None else manager.sentinels)]
        self._nodes: Any = getattr(client, "nodes_manager", None)
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

    def close(self) -> None:
        """Close a client that blocks."""
        for client in self._clients:
            client.close()

    async def aclose(self) -> None:
        """Close a client that is awaited."""
        for client in self._clients:
            await client.aclose()
        if self._nodes is not None:  # of a cluster, which closes none while it looks for one
            await self._nodes.aclose()
            await self._nodes.aclose("startup_nodes")


def _unavailable(error: Exception) -> StoreUnavailable:
    said = str(error) or type(error).__name__
    return StoreUnavailable(f"the Redis store: {said}")
