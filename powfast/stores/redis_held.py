"""Answers that wait for their payment, shared by many gateways: `powfast.stores.held` over Redis.

Everything lies under one hash tag, since a bound over all accounts has to be checked in one step;
so a cluster keeps it on one node, whose memory `all_bytes` bounds.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from powfast.errors import TooManyUnpaid
from powfast.http import Answer, bytes_of, text_of
from powfast.observers.base import Observer, Unobserved
from powfast.stores.held import beyond_limits
from powfast.stores.redis_calls import Calls

if TYPE_CHECKING:
    from powfast.stores.redis_calls import Client

# KEYS: when places end (sorted set), what they cost ("work size"), their answers, and what is held
# of each account ("places bytes") and, under the empty name, in all. A place's name is that of its
# account, of 32 bytes, and the request's. Times are milliseconds.
_COMMON = """
local ends, places, answers, held = unpack(KEYS)
local now, place, lifetime = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local account = string.sub(place, 1, 32)

local function pair(text)
  local first, second = string.match(text or '0 0', '^(%d+) (%d+)$')
  return first, tonumber(second)
end
local function count(name, more_places, more_bytes)
  local number, bytes = pair(redis.call('HGET', held, name))
  number, bytes = tonumber(number) + more_places, bytes + more_bytes
  if number == 0 then return redis.call('HDEL', held, name) end
  redis.call('HSET', held, name, string.format('%d %d', number, bytes))
end
local function count_both(name, more_places, more_bytes)
  count(name, more_places, more_bytes)
  count('', more_places, more_bytes)
end
local function drop(name)
  local known = redis.call('HGET', places, name)
  if not known then return '0' end
  local work, size = pair(known)
  redis.call('ZREM', ends, name)
  redis.call('HDEL', places, name)
  redis.call('HDEL', answers, name)
  count_both(string.sub(name, 1, 32), -1, -size)
  return work
end
local abandoned = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now)) do
  if drop(name) ~= '0' then abandoned = abandoned + 1 end
end
local function keep_all()  -- for as long as any place may last
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 2 * lifetime) end
end
local function reply(value)
  local number, bytes = pair(redis.call('HGET', held, ''))
  return {value, abandoned, tonumber(number), bytes}
end
"""
_RESERVE = """
local per_account, in_all = tonumber(ARGV[4]), tonumber(ARGV[5])
local work = '0'
local known = redis.call('HGET', places, place)
if known then
  work = pair(known)
else
  if tonumber((pair(redis.call('HGET', held, account)))) >= per_account then
    return reply('account')
  end
  if tonumber((pair(redis.call('HGET', held, '')))) >= in_all then return reply('all') end
  redis.call('HSET', places, place, '0 0')
  count_both(account, 1, 0)
end
redis.call('ZADD', ends, string.format('%.0f', now + lifetime), place)
keep_all()
return reply(work)
"""
_FILL = """
local size, account_bytes, all_bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local known = redis.call('HGET', places, place)
if not known then return reply('') end
local _, before = pair(known)
count_both(account, 0, -before)
redis.call('HDEL', answers, place)
local _, of_account = pair(redis.call('HGET', held, account))
local _, of_all = pair(redis.call('HGET', held, ''))
if ARGV[8] ~= '' and of_account + size <= account_bytes and of_all + size <= all_bytes then
  redis.call('HSET', answers, place, ARGV[8])
else
  size = 0
end
redis.call('HSET', places, place, ARGV[4] .. string.format(' %d', size))
count_both(account, 0, size)
keep_all()
return reply('')
"""
_RELEASE = """
local answer = redis.call('HGET', answers, place)
drop(place)
return reply(answer or '')
"""


class _Commands:
    """Sends each operation's script; reads what comes back."""

    def __init__(
        self,
        client: Client,
        *,
        lifetime: float = 120.0,
        per_account: int = 64,
        in_all: int = 4096,
        account_bytes: int = 16 << 20,
        all_bytes: int = 256 << 20,
        timeout: float = 0.5,
        prefix: str = "powfast:",
        clock: Callable[[], float] = time.time,
        observer: Observer | None = None,
    ) -> None:
        self._client: Any = client
        self._lifetime = lifetime
        self._limits = (per_account, in_all)
        self._byte_limits = (account_bytes, all_bytes)
        names = ("ends", "places", "answers", "accounts")
        self._keys = [f"{prefix}{{held}}:{name}" for name in names]
        self._reserving = self._client.register_script(_COMMON + _RESERVE)
        self._filling = self._client.register_script(_COMMON + _FILL)
        self._releasing = self._client.register_script(_COMMON + _RELEASE)
        self._clock = clock
        self._calls = Calls(client, timeout)
        self._observer = Unobserved() if observer is None else observer

    @property
    def max_answer(self) -> int:
        """Bytes of the largest answer that can be held."""
        return min(self._byte_limits)

    def _reserve(self, account: str, digest: bytes) -> Any:
        return self._reserving(self._keys, [*self._place(account, digest), *self._limits])

    def _reserved(self, reply: Any) -> int:
        said = self._read(reply)
        if said in (b"account", b"all"):
            limit = self._limits[0] if said == b"account" else None
            raise TooManyUnpaid(beyond_limits(limit), self._lifetime)
        return int(said)

    def _fill(
        self, account: str, digest: bytes, work: int, answer: Answer | None, size: int
    ) -> Any:
        packed = b"" if answer is None or size > self.max_answer else pack(answer)
        arguments = (work, size, *self._byte_limits, packed)
        return self._filling(self._keys, [*self._place(account, digest), *arguments])

    def _release(self, account: str, digest: bytes) -> Any:
        return self._releasing(self._keys, self._place(account, digest))

    def _released(self, reply: Any) -> Answer | None:
        packed = self._read(reply)
        return unpack(packed) if packed else None

    def _place(self, account: str, digest: bytes) -> list[Any]:
        """Return what every script begins with: now, whose place, and how long one lasts."""
        now, lifetime = math.floor(1000 * self._clock()), math.ceil(1000 * self._lifetime)
        return [now, hashlib.sha256(account.encode()).digest() + digest, lifetime]

    def _read(self, reply: Any) -> bytes:
        said, abandoned, answers, size = reply
        if abandoned:
            self._observer.event("abandoned", count=abandoned)
        self._observer.event("held", answers=answers, bytes=size, shared=True)
        value: bytes = said
        return value


class RedisHeldAnswers(_Commands):
    """Unpaid answers in Redis or Valkey: any gateway releases what another one holds.

    Parameters
    ----------
    client : redis.Redis or redis.RedisCluster
        A client, with socket timeouts that a request can wait for, and without retries;
        `powfast.stores.open_held` makes one.
    lifetime : float
        Seconds that an answer is kept for its payment.
    per_account, in_all : int
        Unpaid requests of one account, and of all accounts together.
    account_bytes, all_bytes : int
        Bytes of held answers. An answer that does not fit is not kept: the model runs again once
        it is paid.
    timeout : float
        Seconds after which a driver that awaits gives up; one that blocks goes by the client's.
    prefix : str
        Begins every key.
    clock
        Seconds since the epoch.
    observer : Observer
        Is told how much is held, and how many answers nobody paid for in time.
    """

    def reserve(self, account: str, digest: bytes) -> int:
        """Take the place of a request; return its price, 0 where that is not known yet.

        A request that was asked before keeps its place.

        Raises
        ------
        TooManyUnpaid
            The account, or all accounts together, have too many unpaid requests.
        StoreUnavailable
            The store did not answer in time or could not write.
        """
        return self._reserved(self._calls.block(self._reserve, account, digest))

    def fill(
        self, account: str, digest: bytes, work: int, answer: Answer | None, size: int
    ) -> None:
        """Keep the answer of a reserved request with its price, where there is room for it.

        Raises
        ------
        StoreUnavailable
            The store did not answer in time or could not write.
        """
        self._read(self._calls.block(self._fill, account, digest, work, answer, size))

    def release(self, account: str, digest: bytes) -> Answer | None:
        """Give the place of a request back, and return its answer (`None`: not kept).

        Raises
        ------
        StoreUnavailable
            The store did not answer in time; the answer may be gone.
        """
        return self._released(self._calls.block(self._release, account, digest))

    def close(self) -> None:
        """Close the client."""
        self._calls.close()


class AsyncRedisHeldAnswers(_Commands):
    """`RedisHeldAnswers` behind an event loop: the same, with a client of redis.asyncio."""

    async def reserve(self, account: str, digest: bytes) -> int:
        """See `RedisHeldAnswers.reserve`."""
        return self._reserved(await self._calls.wait(self._reserve, account, digest))

    async def fill(
        self, account: str, digest: bytes, work: int, answer: Answer | None, size: int
    ) -> None:
        """See `RedisHeldAnswers.fill`."""
        self._read(await self._calls.wait(self._fill, account, digest, work, answer, size))

    async def release(self, account: str, digest: bytes) -> Answer | None:
        """See `RedisHeldAnswers.release`."""
        return self._released(await self._calls.wait(self._release, account, digest))

    async def close(self) -> None:
        """Close the client."""
        await self._calls.aclose()


def pack(answer: Answer) -> bytes:
    """Return an answer as bytes: its head as one line of JSON, and its body."""
    head = json.dumps([answer.status, text_of(answer.headers)], separators=(",", ":"))
    return head.encode() + b"\n" + answer.body


def unpack(packed: bytes) -> Answer:
    """Return the answer that `pack` packed."""
    head, body = packed.split(b"\n", 1)
    status, headers = json.loads(head)
    return Answer(status, bytes_of(headers), body)
