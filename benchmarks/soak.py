"""Whether the server's memory stays flat under hours of load, in minutes.

    python benchmarks/soak.py [--minutes 10]

The service of `benchmarks/gate.py` with the store in memory, where everything that has a lifetime
lives ten seconds, takes new requests, their solutions, others, garbage, forgeries and floods in
turns of five seconds from wrk. Printed is the memory of the server's process (RSS) after every
round of them, and how it grew over the second half: thirty lifetimes in ten minutes.

What a server remembers goes with the requests a second, so every turn asks equally many, fewer
than the server could answer; a round that fell short of them says so. The solutions live ten
seconds as well: what is spent is remembered for the challenge's own lifetime and a minute.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path

from gate import CASES, Load, served
from measure import need

TURN = 5
REQUESTS = 10_000
"""Of each turn."""
LIFETIME = 10.0


def resident(process: int) -> float:
    """MiB of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    need("wrk", packages=("uvicorn",))
    end = time.monotonic() + 60 * parser.parse_args().minutes
    samples: list[tuple[int, float]] = []
    requests = 0
    with tempfile.TemporaryDirectory() as folder, served("soak") as server:
        load = Load(*server, Path(folder), many=2000, lifetime=LIFETIME)
        while time.monotonic() < end:
            before = requests
            for case in CASES:
                requests += int(load.run(case, TURN, most=REQUESTS)["requests"])
            samples.append((requests, resident(server[1])))
            short = len(CASES) * REQUESTS - (requests - before)
            note = f"  ({short:,} requests short: the machine is busy)" if short > 0 else ""
            print(f"{requests:10,} requests {samples[-1][1]:8.1f} MiB{note}", flush=True)
    half = samples[len(samples) // 2 :]
    slope, _ = statistics.linear_regression(*zip(*half, strict=True))
    print(
        f"second half: {min(mib for _, mib in half):.1f} .. {max(mib for _, mib in half):.1f} MiB,"
        f" {1e6 * slope:+.2f} MiB per million requests"
    )


if __name__ == "__main__":
    main()
