"""Answers that wait, shared by many gateways: `powfast.stores.held` over Redis.

Everything lies under one hash tag, since all accounts share the bytes; so a cluster keeps it on
one node, whose memory `max_bytes` bounds.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from powfast.errors import StoreUnavailable
from powfast.http import Answer, bytes_of, text_of
from powfast.observers.base import Observer, Unobserved
from powfast.stores.held import (
    EVICT_AT_ONCE,
    EXPIRE_AT_ONCE,
    OVERHEAD,
    require_lifetime,
    shares,
    tell,
)
from powfast.stores.redis_calls import Calls

if TYPE_CHECKING:
    from powfast.stores.redis_calls import Client

_LUA = files("powfast.stores") / "lua"
_COMMON, _PUT, _GET = [
    (_LUA / f"{name}.lua").read_text() for name in ("held", "held_put", "held_get")
]


class _Commands:
    """Sends each operation's script; reads what comes back."""

    def __init__(
        self,
        client: Client,
        *,
        lifetime: float = 120.0,
        max_bytes: int = 256 << 20,
        timeout: float = 0.5,
        prefix: str = "powfast:",
        clock: Callable[[], float] = time.time,
        observer: Observer | None = None,
    ) -> None:
        self._lifetime = require_lifetime(lifetime)
        self.max_answer: int
        answer_bytes, self.max_answer = shares(max_bytes)
        self._bounds = (max_bytes, answer_bytes, EVICT_AT_ONCE)
        names = ("ends", "order", "shares", "sizes", "answers")
        self._keys = [f"{prefix}{{held}}:{name}" for name in names]
        scripts: Any = client
        self._putting = scripts.register_script(_COMMON + _PUT)
        self._getting = scripts.register_script(_COMMON + _GET)
        self._clock = clock
        self._calls = Calls(client, timeout)
        self._observer = Unobserved() if observer is None else observer

    def _put(self, account: str, run: bytes, answer: Answer) -> Any:
        size = len(answer.body) + sum(len(name) + len(value) for name, value in answer.headers)
        packed = pack(answer) if size <= self.max_answer else b""
        arguments = (size + OVERHEAD, *self._bounds, packed)
        return self._putting(self._keys, [*self._place(account, run), *arguments])

    def _get(self, account: str, run: bytes, until: float | None) -> Any:
        till = "" if until is None else math.ceil(1000 * until)
        return self._getting(self._keys, [*self._place(account, run), till])

    def _got(self, reply: Any) -> Answer | None:
        packed = self._read(reply)
        return unpack(packed) if packed else None

    def _place(self, account: str, run: bytes) -> list[Any]:
        """Return what every script begins with: now, whose answer, and how long one lasts."""
        now, lifetime = math.floor(1000 * self._clock()), math.ceil(1000 * self._lifetime)
        return [now, hashlib.sha256(account.encode()).digest(), run, lifetime, EXPIRE_AT_ONCE]

    def _read(self, reply: Any) -> bytes:
        said, abandoned, evicted, answers, size = reply
        tell(self._observer, abandoned, evicted, answers=answers, bytes=size, shared=True)
        value: bytes = said
        return value


class RedisHeldAnswers(_Commands):
    """Answers in Redis or Valkey: any gateway releases what another one holds.

    Parameters
    ----------
    client : redis.Redis or redis.RedisCluster
        A client, with socket timeouts that a request can wait for, and without retries;
        `powfast.stores.open_held` makes one.
    lifetime, max_bytes, observer
        As in `powfast.stores.held.HeldAnswers`.
    timeout : float
        Seconds after which a driver that awaits gives up; one that blocks goes by the client's.
    prefix : str
        Begins every key.
    clock
        Seconds since the epoch.

    Raises
    ------
    InvalidInput
        As `powfast.stores.held.HeldAnswers`.
    """

    def put(self, account: str, run: bytes, answer: Answer) -> bool:
        """See `powfast.stores.held.HeldAnswers.put`.

        Raises
        ------
        StoreUnavailable
            The store did not answer in time or could not write.
        """
        return bool(self._read(self._calls.block(self._put, account, run, answer)))

    def get(self, account: str, run: bytes, until: float | None = None) -> Answer | None:
        """See `powfast.stores.held.HeldAnswers.get`.

        Raises
        ------
        StoreUnavailable
            The store did not answer in time or could not write.
        """
        return self._got(self._calls.block(self._get, account, run, until))

    def close(self) -> None:
        """Close the client."""
        self._calls.close()


class AsyncRedisHeldAnswers(_Commands):
    """`RedisHeldAnswers` behind an event loop: the same, with a client of redis.asyncio."""

    async def put(self, account: str, run: bytes, answer: Answer) -> bool:
        """See `RedisHeldAnswers.put`."""
        return bool(self._read(await self._calls.wait(self._put, account, run, answer)))

    async def get(self, account: str, run: bytes, until: float | None = None) -> Answer | None:
        """See `RedisHeldAnswers.get`."""
        return self._got(await self._calls.wait(self._get, account, run, until))

    async def close(self) -> None:
        """Close the client."""
        await self._calls.aclose()


def pack(answer: Answer) -> bytes:
    """Return an answer as bytes: its head as one line of JSON, and its body."""
    head = json.dumps([answer.status, text_of(answer.headers)], separators=(",", ":"))
    return head.encode() + b"\n" + answer.body


def unpack(packed: bytes) -> Answer:
    """Return the answer that `pack` packed.

    Raises
    ------
    StoreUnavailable
        It is damaged.
    """
    try:
        head, body = packed.split(b"\n", 1)
        status, headers = json.loads(head)
        return Answer(int(status), bytes_of(headers), body)
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError):
        raise StoreUnavailable("a held answer in Redis is damaged") from None
