"""The ledger of many hosts: Redis or Valkey carries the state, one command per operation.

`RedisLedger` blocks and `AsyncRedisLedger` awaits; what they send and read is the same code.
"""

from __future__ import annotations

import hashlib
import math
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from powfast.errors import InvalidInput, StoreUnavailable
from powfast.stores.base import (
    CLOCK_SKEW,
    Page,
    State,
    Tariff,
    opened,
    opening_of,
    pardoned,
    queries_of,
    state_at,
)
from powfast.stores.redis_calls import Calls
from powfast.tariff import EvidenceTariff
from powfast.tariff.decay import HALVING_TERMS, NO_HALF_LEFT
from powfast.tariff.evidence import LAMBDAS, MOST_WORK, WEALTH_CAP

if TYPE_CHECKING:
    from powfast.stores.redis_calls import Client

# What `settle` does, in the same order and so to the same last bit. A page is the tariff's eight
# doubles, the carry, and the time of the latest charge.
_CHARGE = """
local known = redis.call('GET', KEYS[1])
if known then return known end
local function doubles(text)
  local values = {struct.unpack('<' .. string.rep('d', #text / 8), text)}
  table.remove(values)  -- where reading stopped
  return values
end
local base, opening, most, step, cap, ceiling, half_life, terms, none_left, ln2, now =
  unpack(doubles(ARGV[1]))
local bets, volume = doubles(ARGV[2]), doubles(ARGV[3])

local function halved(half_lives)
  if half_lives >= none_left then return 0 end
  local whole = math.floor(half_lives)
  local y, factor = (half_lives - whole) * ln2, 1
  for k = terms, 1, -1 do factor = 1 - y * factor / k end
  return math.ldexp(factor, -whole)
end

local function multiple(query)
  local found = 1
  for at = 1, #volume, 2 do
    if query >= volume[at] then found = volume[at + 1] end
  end
  return found
end

local function advance(key)
  local page = redis.call('GET', key)
  local state, carry, charged = {}, 0, now
  for k = 1, #bets + 1 do state[k] = 0 end
  if page then
    state = doubles(page)
    charged, carry = table.remove(state), table.remove(state)
  end
  if half_life > 0 and now > charged then
    local left = halved((now - charged) / half_life)
    for k = 2, #state do state[k] = state[k] * left end
  end
  local owed, new = 0, state[1] == 0
  for at = 1, #ARGV[4], 8 do
    local gain = struct.unpack('<d', ARGV[4], at) - 1
    local query = state[1] + 1
    local restart, total = 1 / (query * (query + 1)), 0
    for k, bet in ipairs(bets) do
      local wealth = (state[k + 1] + restart) * (1 + bet * gain)
      if wealth > cap then wealth = cap end
      state[k + 1] = wealth
      total = total + wealth
    end
    state[1] = query
    local work = math.min(base * math.max(total / #bets, 1) * multiple(query), most)
    if new then work, new = work + opening, false end
    owed = owed + work
  end
  return owed, carry, state, math.max(now, charged)
end

local function write(key, state, carry, charged)
  for k, value in ipairs(state) do state[k] = struct.pack('<d', value) end
  redis.call('SET', key, table.concat(state) .. struct.pack('<dd', carry, charged))
end

local owed, carry, state, charged = advance(KEYS[2])
if KEYS[3] then
  local together, _, group, at = advance(KEYS[3])
  owed = math.max(owed, together)
  write(KEYS[3], group, 0, at)
end
local total = owed + carry
local fraction, exponent = math.frexp(math.min(total, 2 * ceiling) / base)
local quantum = step / 2
local whole = math.ldexp(math.floor(fraction / quantum) * quantum, exponent)
local published = math.max(1, math.floor(whole * base))
published = math.min(published, 2 * ceiling * (1 - quantum))
write(KEYS[2], state, math.max(0, total - published), charged)
published = string.format('%.0f', published)
redis.call('SET', KEYS[1], published, 'PX', ARGV[5])
return published
"""


_REST = struct.Struct("<dd")  # what follows the state in a page


class _Commands:
    """Sends each operation's command; what comes back is its result, or can be awaited for it."""

    def __init__(
        self,
        client: Client,
        tariff: Tariff,
        *,
        remember: float = 3600.0,
        timeout: float = 0.5,
        prefix: str = "powfast:",
        clock: Callable[[], float] = time.time,
    ) -> None:
        tariff = self._tariff = require_priced_by_script(tariff)
        self._numbers = (
            *(tariff.base_work, tariff.opening_work, tariff.max_work, tariff.step),
            *(WEALTH_CAP, MOST_WORK, tariff.half_life or 0.0),
            *(HALVING_TERMS, NO_HALF_LEFT, math.log(2.0)),
        )
        self._bets = _doubles(LAMBDAS)
        self._volume = _doubles([number for step in tariff.volume for number in step])
        self._remember = str(math.ceil(1000 * remember))
        self._prefix = prefix
        self._client: Any = client
        self._script: Any = client.register_script(_CHARGE)
        self._clock = clock
        self._calls = Calls(client, timeout)

    def _charge(self, account: str, group: str, request_id: bytes, evidence: State) -> Any:
        request = hashlib.sha256(_name(account).encode() + request_id).hexdigest()
        keys = [self._key(account, group, f"charged:{request}"), self._page(account, group)]
        if group:
            keys.append(self._page("", group))
        numbers = _doubles([*self._numbers, self._clock()])
        tariff = [numbers, self._bets, self._volume]
        return self._script(keys, [*tariff, _doubles(evidence), self._remember])

    def _claim(self, challenge_id: bytes, milliseconds: int) -> Any:
        key = f"{self._prefix}{{{challenge_id.hex()}}}:spent"
        return self._client.set(key, 1, nx=True, px=milliseconds)

    def _remembered(self, expires: float) -> int:
        """Milliseconds for which to remember a challenge; 0 for one that has expired."""
        left = expires - self._clock()
        return math.ceil(1000 * (left + CLOCK_SKEW)) if left > 0 else 0

    def _read(self, account: str, group: str) -> Any:
        return self._client.get(self._page(account, group))

    def _state(self, packed: Any) -> State | None:
        if packed is None:
            return None
        if len(packed) < _REST.size or len(packed) % 8:
            raise StoreUnavailable("the page of this account is damaged")
        page = packed[: -_REST.size], *_REST.unpack(packed[-_REST.size :])
        return state_at(page, self._clock(), self._tariff)

    def _is_open(self, account: str, group: str) -> Any:
        return self._client.exists(self._page(account, group))

    def _open(self, account: str, group: str) -> Any:
        page = _packed(opened(self._tariff, self._clock()))
        return self._client.set(self._page(account, group), page, nx=True)

    def _reset(self, account: str, group: str) -> Any:
        page = _packed(pardoned(self._tariff, self._clock()))
        return self._client.set(self._page(account, group), page)

    def _page(self, account: str, group: str) -> str:
        return self._key(account, group, f"account:{_name(account)}" if account else "group")

    def _key(self, account: str, group: str, name: str) -> str:
        # One hash tag for all that a charge touches, so that a cluster keeps it on one node.
        tag = f"group:{_name(group)}" if group else f"account:{_name(account)}"
        return f"{self._prefix}{{{tag}}}:{name}"


class RedisLedger(_Commands):
    """Accounts, groups and spent challenges in Redis or Valkey, for any number of hosts.

    Parameters
    ----------
    client : redis.Redis or redis.RedisCluster
        A client, with socket timeouts that a request can wait for, and without retries;
        `open_ledger` makes one.
    tariff : EvidenceTariff
        Prices the queries; every host has to be given the same. The script knows no other kind.
    remember : float
        Seconds for which a request is known to have been charged; at least a challenge's lifetime.
    timeout : float
        Seconds after which a driver that awaits gives up; one that blocks goes by the client's.
    prefix : str
        Begins every key.
    clock
        Seconds since the epoch.
    """

    def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        queries = queries_of(evidence)
        if not queries:
            return 0
        return _work(self._calls.block(self._charge, account, group, request_id, queries))

    def opening(self, account: str, group: str) -> int:
        """See `Ledger.opening`."""
        work = opening_of(self._tariff)
        return 0 if not work or self._calls.block(self._is_open, account, group) else work

    def open(self, account: str, group: str) -> None:
        """See `Ledger.open`."""
        self._calls.block(self._open, account, group)

    def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        left = self._remembered(expires)
        return left > 0 and bool(self._calls.block(self._claim, challenge_id, left))

    def state(self, account: str, group: str = "") -> State | None:
        """See `Ledger.state`."""
        return self._state(self._calls.block(self._read, account, group))

    def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        self._calls.block(self._reset, account, group)

    def close(self) -> None:
        """Close the client."""
        self._calls.close()


class AsyncRedisLedger(_Commands):
    """`RedisLedger` behind an event loop: the same parameters, with a client of redis.asyncio."""

    async def charge(self, account: str, group: str, request_id: bytes, evidence: ArrayLike) -> int:
        """See `Ledger.charge`."""
        queries = queries_of(evidence)
        if not queries:
            return 0
        return _work(await self._calls.wait(self._charge, account, group, request_id, queries))

    async def opening(self, account: str, group: str) -> int:
        """See `Ledger.opening`."""
        work = opening_of(self._tariff)
        return 0 if not work or await self._calls.wait(self._is_open, account, group) else work

    async def open(self, account: str, group: str) -> None:
        """See `Ledger.open`."""
        await self._calls.wait(self._open, account, group)

    async def claim(self, challenge_id: bytes, expires: float) -> bool:
        """See `Ledger.claim`."""
        left = self._remembered(expires)
        return left > 0 and bool(await self._calls.wait(self._claim, challenge_id, left))

    async def state(self, account: str, group: str = "") -> State | None:
        """See `Ledger.state`."""
        return self._state(await self._calls.wait(self._read, account, group))

    async def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        await self._calls.wait(self._reset, account, group)

    async def close(self) -> None:
        """Close the client."""
        await self._calls.aclose()


def require_priced_by_script(tariff: Tariff) -> EvidenceTariff:
    """Return `tariff` where it is of the kind that the script prices."""
    if not isinstance(tariff, EvidenceTariff):
        raise InvalidInput(
            "the Redis ledgers price the evidence tariff alone: take memory:// or sqlite:///path"
            f" for {type(tariff).__name__}"
        )
    return tariff


def _name(text: str) -> str:
    """Return a name of fixed length, so that nobody's account makes a key of its choice."""
    return hashlib.sha256(text.encode()).hexdigest()


def _work(published: bytes) -> int:
    """Read what the script published; a page that holds no numbers makes it none."""
    if not published.isdigit():
        raise StoreUnavailable("the page of this account is damaged")
    return int(published)


def _packed(page: Page) -> bytes:
    state, carry, charged = page
    return (state or b"") + _REST.pack(carry, charged)


def _doubles(values: Any) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)
