"""Everything that remembers: accounts and what they paid, spent challenges, held answers."""

from powfast.stores.base import AccountRecord, AsyncLedger, Ledger
from powfast.stores.held import HeldAnswers
from powfast.stores.memory import MemoryLedger
from powfast.stores.redis import AsyncRedisLedger, RedisLedger
from powfast.stores.redis_held import AsyncRedisHeldAnswers, RedisHeldAnswers
from powfast.stores.sqlite import SQLiteLedger
from powfast.stores.sqlite_async import AsyncSQLiteLedger
from powfast.stores.urls import open_held, open_ledger

__all__ = [
    "AccountRecord",
    "AsyncLedger",
    "AsyncRedisHeldAnswers",
    "AsyncRedisLedger",
    "AsyncSQLiteLedger",
    "HeldAnswers",
    "Ledger",
    "MemoryLedger",
    "RedisHeldAnswers",
    "RedisLedger",
    "SQLiteLedger",
    "open_held",
    "open_ledger",
]
