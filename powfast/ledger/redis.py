"""The ledger of many hosts: Redis or Valkey carries the state, one script per operation.

`RedisLedger` blocks and `AsyncRedisLedger` awaits; what they send and read is the same code.
"""

from __future__ import annotations

import hashlib
import math
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.ledger.base import State
from powfast.tariff.checks import nonnegative_array
from powfast.tariff.evidence import LAMBDAS, MOST_WORK, EvidenceTariff
from powfast.tariff.recursion import WEALTH_CAP

if TYPE_CHECKING:
    import redis
    import redis.asyncio

# What `settle` does, in the same order and so to the same last bit. A page is the tariff's eight
# doubles and the carry.
_CHARGE = """
local known = redis.call('GET', KEYS[1])
if known then return known end
local base, opening, most, step, cap, ceiling = struct.unpack('<dddddd', ARGV[1])
local bets = {struct.unpack('<' .. string.rep('d', #ARGV[2] / 8), ARGV[2])}
table.remove(bets)
local function advance(key)
  local page = redis.call('GET', key)
  local state, carry = {}, 0
  for k = 0, #bets do
    state[k] = page and struct.unpack('<d', page, 8 * k + 1) or 0
  end
  if page then carry = struct.unpack('<d', page, 8 * #bets + 9) end
  local owed, first = 0, state[0] == 0
  for at = 1, #ARGV[3], 8 do
    local gain = struct.unpack('<d', ARGV[3], at) - 1
    state[0] = state[0] + 1
    local restart, total = 1 / (state[0] * (state[0] + 1)), 0
    for k = 1, #bets do
      local wealth = (state[k] + restart) * (1 + bets[k] * gain)
      if wealth > cap then wealth = cap end
      state[k] = wealth
      total = total + wealth
    end
    local work = math.min(base * math.max(total / #bets, 1), most)
    if first then work, first = work + opening, false end
    owed = owed + work
  end
  return owed, carry, state
end
local function write(key, state, carry)
  local page = {}
  for k = 0, #bets do page[k + 1] = struct.pack('<d', state[k]) end
  redis.call('SET', key, table.concat(page) .. struct.pack('<d', carry))
end
local owed, carry, state = advance(KEYS[2])
if KEYS[3] then
  local together, _, group = advance(KEYS[3])
  owed = math.max(owed, together)
  write(KEYS[3], group, 0)
end
local total = owed + carry
local fraction, exponent = math.frexp(math.min(total, 2 * ceiling) / base)
local quantum = step / 2
local multiple = math.ldexp(math.floor(fraction / quantum) * quantum, exponent)
local published = math.max(1, math.floor(multiple * base))
published = math.min(published, 2 * ceiling * (1 - quantum))
write(KEYS[2], state, math.max(0, total - published))
published = string.format('%.0f', published)
redis.call('SET', KEYS[1], published, 'PX', ARGV[4])
return published
"""


class _Commands:
    """Sends each operation's command; what comes back is its result, or can be awaited for it."""

    def __init__(
        self,
        client: redis.Redis | redis.asyncio.Redis,
        tariff: EvidenceTariff,
        *,
        remember: float = 3600.0,
        prefix: str = "powfast:",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if tariff.volume:
            raise InvalidInput("the Redis ledgers price no volume schedule: use a tariff without")
        limits = (tariff.base_work, tariff.opening_work, tariff.max_work, tariff.step)
        self._tariff = struct.pack("<6d", *limits, WEALTH_CAP, MOST_WORK)
        self._bets = struct.pack(f"<{len(LAMBDAS)}d", *LAMBDAS)
        self._remember = str(math.ceil(1000 * remember))
        self._prefix = prefix
        self._client = client
        self._script: Any = client.register_script(_CHARGE)
        self._clock = clock

    def _charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> Any:
        values = nonnegative_array(evidence, "evidence").astype("<f8").tobytes()
        request = hashlib.sha256(_name(account).encode() + request_id).hexdigest()
        keys = [self._key(account, group, f"charged:{request}"), self._page(account, group)]
        if group:
            keys.append(self._page("", group))
        return self._script(keys, [self._tariff, self._bets, values, self._remember])

    def _claim(self, challenge_id: bytes, milliseconds: int) -> Any:
        key = f"{self._prefix}{{{challenge_id.hex()}}}:spent"
        return self._client.set(key, 1, nx=True, px=milliseconds)

    def _left(self, expires: float) -> int:
        return max(0, math.ceil(1000 * (expires - self._clock())))

    def _read(self, account: str, group: str) -> Any:
        return self._client.get(self._page(account, group))

    def _page(self, account: str, group: str) -> str:
        return self._key(account, group, f"account:{_name(account)}" if account else "group")

    def _key(self, account: str, group: str, name: str) -> str:
        # One hash tag for all that a charge touches, so that a cluster keeps it on one node.
        tag = f"group:{_name(group)}" if group else f"account:{_name(account)}"
        return f"{self._prefix}{{{tag}}}:{name}"


class RedisLedger(_Commands):
    """Accounts, groups and spent challenges in Redis or Valkey, for any number of hosts.

    An account has to keep its group: its page lives beside the group's.

    Parameters
    ----------
    client : redis.Redis
        A client, with socket timeouts that a request can wait for.
    tariff : EvidenceTariff
        Prices the queries; every host has to be given the same. `InvalidInput` where it has a
        volume schedule, which the script does not know.
    remember : float
        Seconds for which a request is known to have been charged; at least a challenge's lifetime.
    prefix : str
        Begins every key.
    clock
        Seconds since the epoch.
    """

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        return int(self._charge(account, group, request_id, evidence)) if np.size(evidence) else 0

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        left = self._left(expires)
        return left > 0 and bool(self._claim(challenge_id, left))

    def state(self, account: str, group: str = "") -> State | None:
        """Return what is remembered of an account, or of a group (`account` empty)."""
        return _state(self._read(account, group))


class AsyncRedisLedger(_Commands):
    """`RedisLedger` behind an event loop: the same parameters, with a `redis.asyncio.Redis`."""

    async def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        if np.size(evidence) == 0:
            return 0
        return int(await self._charge(account, group, request_id, evidence))

    async def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        left = self._left(expires)
        return left > 0 and bool(await self._claim(challenge_id, left))

    async def state(self, account: str, group: str = "") -> State | None:
        """Return what is remembered of an account, or of a group (`account` empty)."""
        return _state(await self._read(account, group))


def _name(text: str) -> str:
    """Return a name of fixed length, so that nobody's account makes a key of its choice."""
    return hashlib.sha256(text.encode()).hexdigest()


def _state(page: Any) -> State | None:
    return None if page is None else np.frombuffer(page, "<f8")[:-1].copy()
