"""How fast a client solves: measured hash rates of this machine."""

from powfast.profile.measure import Rate, hash_rate, hash_rates

__all__ = ["Rate", "hash_rate", "hash_rates"]
