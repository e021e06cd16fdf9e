"""What is remembered per account and group: charges, and the challenges that are spent."""

from powfast.ledger.base import AsyncLedger, Ledger
from powfast.ledger.memory import MemoryLedger
from powfast.ledger.redis import AsyncRedisLedger, RedisLedger
from powfast.ledger.sqlite import SQLiteLedger

__all__ = [
    "AsyncLedger",
    "AsyncRedisLedger",
    "Ledger",
    "MemoryLedger",
    "RedisLedger",
    "SQLiteLedger",
]
