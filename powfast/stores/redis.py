"""The ledger of many hosts: Redis or Valkey carries the records, one script per operation.

`RedisLedger` blocks and `AsyncRedisLedger` awaits; what they send and read is the same code. The
scripts lie in `lua/`, behind `lua/ledger.lua`, which knows how records look.
"""

from __future__ import annotations

import hashlib
import math
import struct
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from powfast.accounts import SharedName
from powfast.sketch import Advance
from powfast.stores.base import (
    CLOCK_SKEW,
    RERUNS,
    AccountRecord,
    Charged,
    Entry,
    Limits,
    Outcome,
    Paid,
    Queries,
    Redeemed,
    Verdict,
    half_life_of,
    queries_of,
    require_evidence_tariff,
    tag_of,
)
from powfast.stores.packing import PackedAdvance, packed_advances, record_of, sketch_of
from powfast.stores.redis_calls import Calls, script
from powfast.tariff import EvidenceTariff
from powfast.tariff.decay import HALVING_TERMS, NO_HALF_LEFT
from powfast.tariff.evidence import LAMBDAS, POOL_KEEPS, POOL_SHARE, WEALTH_CAP

if TYPE_CHECKING:
    from powfast.stores.redis_calls import Client


_SHARDS = 16
"""Of a cluster: so many pools of newcomers for each name, lest one node has all accounts."""


_RECORD_BYTES = 8 * (len(LAMBDAS) + 8)
_SECOND_BYTES = 8 * (len(LAMBDAS) + 2)
"""Of an account's record, which a sketch may follow, and of the second e-process before that."""


class _Commands:
    """Sends each operation's script; what comes back is its reply, or can be awaited for it."""

    def __init__(
        self,
        client: Client,
        tariff: EvidenceTariff,
        *,
        remember: float = 3600.0,
        timeout: float = 0.5,
        prefix: str = "powfast:",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tariff: EvidenceTariff = require_evidence_tariff(tariff)
        rules = (
            *(tariff.base_work, tariff.max_work, tariff.opening_work),
            *(WEALTH_CAP, tariff.credit_limit, RERUNS, CLOCK_SKEW),
            *(HALVING_TERMS, NO_HALF_LEFT, math.log(2.0)),
            *(tariff.probation, POOL_KEEPS, POOL_SHARE, tariff.honest_mean),
            tariff.account_evidence,
        )
        volume = [number for step in tariff.volume for number in step]
        self._rules = [_doubles(rules), _doubles(LAMBDAS), _doubles(volume)]
        self._remember = math.ceil(1000 * remember)
        self._prefix = prefix
        # of a cluster, which runs a script where all its keys have one slot
        self._shards = _SHARDS if hasattr(client, "nodes_manager") else 0
        self._client: Any = client
        self._scripts: dict[str, Any] = {
            operation: client.register_script(script("ledger", operation))
            for operation in ("enter", "charge", "leave", "redeem", "report", "account")
        }
        self._clock = clock
        self._calls = Calls(client, timeout)

    def _enter(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        limits: Limits,
        again: Paid | None,
        queries: int,
        newcomers: str,
    ) -> Any:
        challenge_id = again.challenge_id if again else b""
        keys = self._keys(account, group, digest, challenge_id, newcomers)
        given = [run, _doubles((*limits, queries)), _again(again)]
        return self._ask("enter", keys, account, group, given)

    def _charge(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        queries: Queries,
        paid: Paid | None,
        newcomers: str,
        added: tuple[PackedAdvance | None, PackedAdvance | None],
    ) -> Any:
        challenge_id = paid.challenge_id if paid else b""
        keys = self._keys(account, group, digest, challenge_id, newcomers)
        given = [run, _doubles(queries), tag_of(queries)]
        if any(added):
            given += [part for advance in added for part in advance or (b"", b"", b"")]
        return self._ask("charge", keys, account, group, given)

    def _leave(self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome) -> Any:
        keys = self._keys(account, group, digest)
        return self._ask("leave", keys, account, group, [run, outcome.name])

    def _redeem(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge_id: bytes,
        expires: float,
        work: int,
    ) -> Any:
        keys = self._keys(account, group, digest, challenge_id)
        return self._ask("redeem", keys, account, group, [_doubles((expires, work, bool(digest)))])

    def _report(
        self,
        account: str,
        group: str,
        report: bytes,
        queries: Queries,
        paid: float,
        newcomers: str,
    ) -> Any:
        keys = self._keys(account, group, b"report:" + report, newcomers=newcomers)
        given = [_doubles(queries), _doubles((paid,))]
        return self._ask("report", keys, account, group, given)

    def _account(self, account: str, group: str) -> Any:
        return self._ask("account", [self._record(account, group)], account or group, "", [])

    def _reset(self, account: str, group: str) -> Any:
        state = [1.0, *(0.0 for _ in LAMBDAS)]
        now = self._clock()
        record = _doubles([*state, 0.0, 0.0, 0.0, 1.0, 0.0, now, now])
        return self._client.set(self._record(account, group), record)

    def _newcomers(self, key: str) -> Any:
        return self._client.get(key)

    def _reset_newcomers(self, key: str) -> Any:
        now = self._clock()
        return self._client.set(key, _doubles([0.0] * 13 + [now, now]))

    def _ask(
        self, operation: str, keys: list[str], account: str, group: str, given: list[Any]
    ) -> Any:
        moment = (
            *(self._clock(), self._remember),
            *(half_life_of(self.tariff, name) for name in (account, group)),
            isinstance(account, SharedName),
        )
        return self._scripts[operation](keys, [*self._rules, _doubles(moment), *given])

    def _keys(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge_id: bytes = b"",
        newcomers: str = "",
    ) -> list[str]:
        request = hashlib.sha256(_name(account).encode() + digest).hexdigest()
        return [
            self._record(account, group),
            self._key(account, group, f"request:{request}"),
            self._key(account, group, f"spent:{challenge_id.hex()}"),
            self._pool(newcomers, self._shard(account, group)),
            *([self._record("", group)] if group else []),
        ]

    def _record(self, account: str, group: str) -> str:
        return self._key(account, group, f"account:{_name(account)}" if account else "group")

    def _key(self, account: str, group: str, name: str) -> str:
        tag = f"group:{_name(group)}" if group else f"account:{_name(account)}"
        return f"{self._prefix}{self._shard(account, group)}{{{tag}}}:{name}"

    def _shard(self, account: str, group: str) -> str:
        """Return the hash tag of all that an operation touches; none where there is one node."""
        if not self._shards:
            return ""
        return f"{{{int(_name(group or account)[:8], 16) % self._shards}}}"

    def _pool(self, name: str, shard: str) -> str:
        return f"{self._prefix}{shard}newcomers:{_name(name)}"

    def _pools(self, name: str) -> list[str]:
        shards = [f"{{{n}}}" for n in range(self._shards)] or [""]
        return [self._pool(name, shard) for shard in shards]


class RedisLedger(_Commands):
    """Accounts, groups, requests and spent challenges in Redis or Valkey, for any number of hosts.

    Parameters
    ----------
    client : redis.Redis or redis.RedisCluster
        A client, with socket timeouts that a request can wait for, and without retries;
        `open_ledger` makes one.
    tariff : EvidenceTariff
        Prices the queries; every host has to be given the same.
    remember : float
        Seconds for which a request is remembered; at least a challenge's lifetime.
    timeout : float
        Seconds after which a driver that awaits gives up; one that blocks goes by the client's.
    prefix : str
        Begins every key.
    clock
        Seconds since the epoch.

    Raises
    ------
    InvalidInput
        The tariff is of another kind.
    """

    def enter(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        limits: Limits,
        again: Paid | None = None,
        queries: int = 1,
        newcomers: str = "",
    ) -> Entry:
        """See `Ledger.enter`."""
        given = account, group, digest, run, limits, again, queries, newcomers
        return _entry(self._calls.block(self._enter, *given))

    def charge(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        evidence: ArrayLike,
        paid: Paid | None = None,
        newcomers: str = "",
        advance: Advance | None = None,
        group_advance: Advance | None = None,
    ) -> Charged:
        """See `Ledger.charge`."""
        queries = queries_of(evidence)
        added = packed_advances(self.tariff, group, len(queries), advance, group_advance)
        given = account, group, digest, run, queries, paid, newcomers, added
        return _charged(self._calls.block(self._charge, *given))

    def leave(self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome) -> None:
        """See `Ledger.leave`."""
        self._calls.block(self._leave, account, group, digest, run, outcome)

    def redeem(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge_id: bytes,
        expires: float,
        work: int,
    ) -> Redeemed:
        """See `Ledger.redeem`."""
        given = account, group, digest, challenge_id, expires, work
        return _redeemed(self._calls.block(self._redeem, *given))

    def report(
        self,
        account: str,
        group: str,
        report: bytes,
        evidence: ArrayLike,
        paid: float,
        newcomers: str = "",
    ) -> None:
        """See `Ledger.report`."""
        queries = queries_of(evidence)
        if queries:
            given = account, group, report, queries, paid, newcomers
            self._calls.block(self._report, *given)

    def account(self, account: str, group: str = "") -> AccountRecord | None:
        """See `Ledger.account`."""
        return _account_record(self._calls.block(self._account, account, group))

    def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        self._calls.block(self._reset, account, group)

    def newcomers(self, pool: str = "") -> AccountRecord | None:
        """See `Ledger.newcomers`."""
        return _hottest([self._calls.block(self._newcomers, key) for key in self._pools(pool)])

    def reset_newcomers(self, pool: str = "") -> None:
        """See `Ledger.reset_newcomers`."""
        for key in self._pools(pool):
            self._calls.block(self._reset_newcomers, key)

    def close(self) -> None:
        """Close the client."""
        self._calls.close()


class AsyncRedisLedger(_Commands):
    """`RedisLedger` behind an event loop: the same parameters, with a client of redis.asyncio."""

    async def enter(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        limits: Limits,
        again: Paid | None = None,
        queries: int = 1,
        newcomers: str = "",
    ) -> Entry:
        """See `Ledger.enter`."""
        given = account, group, digest, run, limits, again, queries, newcomers
        return _entry(await self._calls.wait(self._enter, *given))

    async def charge(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        evidence: ArrayLike,
        paid: Paid | None = None,
        newcomers: str = "",
        advance: Advance | None = None,
        group_advance: Advance | None = None,
    ) -> Charged:
        """See `Ledger.charge`."""
        queries = queries_of(evidence)
        added = packed_advances(self.tariff, group, len(queries), advance, group_advance)
        given = account, group, digest, run, queries, paid, newcomers, added
        return _charged(await self._calls.wait(self._charge, *given))

    async def leave(
        self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome
    ) -> None:
        """See `Ledger.leave`."""
        await self._calls.wait(self._leave, account, group, digest, run, outcome)

    async def redeem(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge_id: bytes,
        expires: float,
        work: int,
    ) -> Redeemed:
        """See `Ledger.redeem`."""
        given = account, group, digest, challenge_id, expires, work
        return _redeemed(await self._calls.wait(self._redeem, *given))

    async def report(
        self,
        account: str,
        group: str,
        report: bytes,
        evidence: ArrayLike,
        paid: float,
        newcomers: str = "",
    ) -> None:
        """See `Ledger.report`."""
        queries = queries_of(evidence)
        if queries:
            given = account, group, report, queries, paid, newcomers
            await self._calls.wait(self._report, *given)

    async def account(self, account: str, group: str = "") -> AccountRecord | None:
        """See `Ledger.account`."""
        return _account_record(await self._calls.wait(self._account, account, group))

    async def reset(self, account: str, group: str = "") -> None:
        """See `Ledger.reset`."""
        await self._calls.wait(self._reset, account, group)

    async def newcomers(self, pool: str = "") -> AccountRecord | None:
        """See `Ledger.newcomers`."""
        keys = self._pools(pool)
        return _hottest([await self._calls.wait(self._newcomers, key) for key in keys])

    async def reset_newcomers(self, pool: str = "") -> None:
        """See `Ledger.reset_newcomers`."""
        for key in self._pools(pool):
            await self._calls.wait(self._reset_newcomers, key)

    async def close(self) -> None:
        """Close the client."""
        await self._calls.aclose()


def _again(again: Paid | None) -> str:
    if again is None:
        return ""
    return "unread" if again.unread else "read"


def _entry(reply: Any) -> Entry:
    verdict, work, run, *sketches = reply
    return Entry(Verdict[verdict.decode()], _numbers(work)[0], run, *map(sketch_of, sketches))


def _charged(reply: Any) -> Charged:
    return Charged(*_numbers(reply))


def _redeemed(reply: Any) -> Redeemed:
    verdict, run, numbers = reply
    return Redeemed(Verdict[verdict.decode()], run, *_numbers(numbers))


def _account_record(reply: Any) -> AccountRecord | None:
    if reply is None:
        return None
    sketch = reply[_RECORD_BYTES:]
    *state, balance, unpaid, _, opened, surcharged, charged, _ = _numbers(reply[:_RECORD_BYTES])
    state += _numbers(sketch[:_SECOND_BYTES])
    return record_of(state, balance, unpaid, bool(opened), surcharged, charged, sketch)


def _hottest(replies: list[Any]) -> AccountRecord | None:
    found = [record for record in map(_account_record, replies) if record is not None]
    return max(found, key=lambda record: float(record.state[1:8].sum()), default=None)


def _name(text: str) -> str:
    """Return a name of fixed length, so that nobody's account makes a key of its choice."""
    return hashlib.sha256(text.encode()).hexdigest()


def _doubles(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def _numbers(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 8}d", packed)
