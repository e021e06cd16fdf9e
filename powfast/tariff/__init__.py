"""Ledger state and evidence to work, in expected SHA-256 evaluations.

A tariff is a pure function: it knows evidence only as arrays, and neither accounts nor clocks.
"""

from __future__ import annotations

from powfast.tariff.calibration import Calibration, HasHashRate, calibrate
from powfast.tariff.drift import check
from powfast.tariff.evidence import LAMBDAS, EvidenceTariff
from powfast.tariff.iclr2022 import Iclr2022Tariff
from powfast.tariff.loading import Tariff, from_json
from powfast.tariff.simulation import Simulation, simulate
from powfast.tariff.traces import load_traces, save_traces
from powfast.tariff.verdict import Verdict, judge

__all__ = [
    "LAMBDAS",
    "Calibration",
    "EvidenceTariff",
    "HasHashRate",
    "Iclr2022Tariff",
    "Simulation",
    "Tariff",
    "Verdict",
    "calibrate",
    "check",
    "from_json",
    "judge",
    "load_traces",
    "save_traces",
    "simulate",
]
