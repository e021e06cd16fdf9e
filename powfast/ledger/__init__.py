"""What is remembered per account and group: who was charged what, and which challenges are spent."""

from powfast.ledger.base import AsyncLedger, Ledger
from powfast.ledger.memory import MemoryLedger

__all__ = ["AsyncLedger", "Ledger", "MemoryLedger"]
