"""A client profile of a device that does not exist, for tests of what is done with profiles."""

from __future__ import annotations

from powfast.profile import ClientProfile
from powfast.profile.document import Device, Rate, Solver, SolveTimes, Sustained, WalkRates


def example(
    hash_rate: float = 2e7, threads: int = 2, name: str = "example", walks: float | None = None
) -> ClientProfile:
    single = hash_rate / threads
    rates = [Rate("shani", count, single * count, (single, hash_rate)) for count in {1, threads}]
    return ClientProfile(
        name=name,
        device=Device("none", "x86_64", ("sha_ni",), threads, "Linux 6", "CPython 3.11"),
        powfast="0.1.0",
        measured="2026-01-02T03:04:05Z",
        quick=True,
        kernel="shani",
        solver=Solver(threads, 16384, 1e-5),
        rates=tuple(rates),
        sustained=Sustained(1.0, (hash_rate,) * 3),
        solving=(SolveTimes(10_000, 16, threads, 100, 1_000_000, 0.001, 0.002, 0.003),),
        server=None,
        warnings=(),
        walks=None if walks is None else WalkRates(walks / threads, walks),
    )
