"""How long an event loop stands still while a challenge is solved beside it.

    python benchmarks/stall.py [--rounds 15] [--seconds 0.5]

Each round watches one loop that wants to wake every millisecond: idle, while a challenge of so
many seconds is paid off the loop by one thread and by one for each core, and while it is solved
on the loop itself. Printed is the longest stall of a round: its median and worst.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from measure import warn_if_busy

from powfast import Issuer
from powfast.clients.flow import Payer
from powfast.clients.off_loop import pay
from powfast.puzzle import Puzzle, solve_counted

ISSUER = Issuer({"a": bytes(32)})


def challenge_of(seconds: float, threads: int | None) -> bytes:
    """Return a token that takes this machine about so long."""
    start = time.perf_counter()
    _, evaluations = solve_counted(Puzzle(bytes(32), 1 << 23, 64), threads=threads)
    rate = evaluations / (time.perf_counter() - start)
    return ISSUER.issue(work=round(rate * seconds), parts=64)


async def longest_stall(during: Awaitable[object]) -> float:
    """Seconds between two wakes, at worst, less the millisecond asked for."""
    task = asyncio.ensure_future(during)
    longest, last = 0.0, time.perf_counter()
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last - 0.001), now
    await task
    return longest


async def on_the_loop(payer: Payer, token: bytes) -> str:
    return payer.pay(token)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    given = parser.parse_args()
    warn_if_busy()
    one, every = Payer(threads=1), Payer()
    cheap, dear = challenge_of(given.seconds, 1), challenge_of(given.seconds, None)
    cases: dict[str, Callable[[], Awaitable[object]]] = {
        "idle": lambda: asyncio.sleep(given.seconds),
        "paying, one thread": lambda: pay(one, cheap),
        "paying, every core": lambda: pay(every, dear),
        "solving on the loop": lambda: on_the_loop(every, dear),
    }
    stalls: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(given.rounds):
        for name, case in cases.items():
            stalls[name].append(asyncio.run(longest_stall(case())) * 1000)
    print(f"{'longest stall, ms':24}{'median':>8}{'worst':>8}")
    for name, found in stalls.items():
        print(f"{name:24}{statistics.median(found):8.1f}{max(found):8.1f}")


if __name__ == "__main__":
    main()
