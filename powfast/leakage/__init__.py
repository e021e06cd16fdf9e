"""Leakage: votes to scores to evidence. Knows nothing of HTTP, ledger or tariff.

A score says how much answering a query reveals, evidence how unusual its scores are among
honest queries. Neither is a privacy guarantee.
"""

from powfast.leakage.accountant import Accountant
from powfast.leakage.density import ClassDensity
from powfast.leakage.direction import OwnDirection
from powfast.leakage.estimator import Estimate, LeakageEstimator, entropy, margin
from powfast.leakage.neighbours import NeighbourVotes
from powfast.leakage.reference import HonestReference
from powfast.leakage.report import Report, report_files
from powfast.leakage.stress import stress_evidence, stress_inputs
from powfast.leakage.teachers import TeacherEnsemble, from_predictions
from powfast.leakage.votes import Scorer, from_labels, from_votes, warmup

__all__ = [
    "Accountant",
    "ClassDensity",
    "Estimate",
    "HonestReference",
    "LeakageEstimator",
    "NeighbourVotes",
    "OwnDirection",
    "Report",
    "Scorer",
    "TeacherEnsemble",
    "entropy",
    "from_labels",
    "from_predictions",
    "from_votes",
    "margin",
    "report_files",
    "stress_evidence",
    "stress_inputs",
    "warmup",
]
