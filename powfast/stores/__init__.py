"""What is remembered per account and group: charges, and the challenges that are spent."""

from powfast.stores.base import AsyncLedger, Ledger
from powfast.stores.memory import MemoryLedger
from powfast.stores.redis import AsyncRedisLedger, RedisLedger
from powfast.stores.redis_held import AsyncRedisHeldAnswers, RedisHeldAnswers
from powfast.stores.sqlite import AsyncSQLiteLedger, SQLiteLedger
from powfast.stores.urls import open_held, open_ledger

__all__ = [
    "AsyncLedger",
    "AsyncRedisHeldAnswers",
    "AsyncRedisLedger",
    "AsyncSQLiteLedger",
    "Ledger",
    "MemoryLedger",
    "RedisHeldAnswers",
    "RedisLedger",
    "SQLiteLedger",
    "open_held",
    "open_ledger",
]
