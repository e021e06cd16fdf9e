"""Leakage: votes to scores to evidence. Knows nothing of HTTP, ledger or tariff.

A score says how much answering a query reveals, evidence how unusual its scores are among
honest queries. Neither is a privacy guarantee.
"""

from powfast.leakage.estimator import LeakageEstimator, entropy
from powfast.leakage.neighbours import NeighbourVotes
from powfast.leakage.reference import HonestReference
from powfast.leakage.teachers import TeacherEnsemble
from powfast.leakage.votes import from_votes, warmup

__all__ = [
    "HonestReference",
    "LeakageEstimator",
    "NeighbourVotes",
    "TeacherEnsemble",
    "entropy",
    "from_votes",
    "warmup",
]
