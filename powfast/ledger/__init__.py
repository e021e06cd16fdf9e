"""What is remembered per account and group: charges, and the challenges that are spent."""

from powfast.ledger.base import AsyncLedger, Ledger
from powfast.ledger.memory import MemoryLedger
from powfast.ledger.redis import AsyncRedisLedger, RedisLedger
from powfast.ledger.redis_held import AsyncRedisHeldAnswers, RedisHeldAnswers
from powfast.ledger.sqlite import AsyncSQLiteLedger, SQLiteLedger
from powfast.ledger.urls import open_held, open_ledger

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
