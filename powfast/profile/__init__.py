"""How fast clients solve: measure a device, keep it as a profile, answer for a fleet of them."""

from powfast.profile.document import ClientProfile, Fleet
from powfast.profile.measure import hash_rate, measure_client
from powfast.profile.solve_time import affordable_work, evaluations, solve_seconds, tail, walk_worth

__all__ = [
    "ClientProfile",
    "Fleet",
    "affordable_work",
    "evaluations",
    "hash_rate",
    "measure_client",
    "solve_seconds",
    "tail",
    "walk_worth",
]
