"""In which order should threads take the parts of a puzzle? Evaluations beyond the work, simulated.

    python benchmarks/thread_order.py [--threads 2] [--parts 16] [--puzzles 2000]

"spread": threads begin on different parts and help with the last ones, as csrc/solve.c does.
"together": all threads search one part after the other. A thread takes chunks of 4096 nonces,
stops at a solution, and notices only between chunks that another thread was faster.
"""

from __future__ import annotations

import argparse
import heapq

import numpy as np

CHUNK = 4096


def evaluations(solutions: list[int], threads: int, spread: bool) -> int:
    """Return what `threads` equally fast threads evaluate; solutions: each part's first nonce."""
    taken, open_ = [0] * len(solutions), set(range(len(solutions)))
    own = [(i if spread else 0) % len(solutions) for i in range(threads)]
    turn, total = threads, 0
    ready = [(0, thread, -1) for thread in range(threads)]  # time, thread, part it has solved
    while open_:
        now, thread, solved = heapq.heappop(ready)
        open_.discard(solved)
        if not open_:
            break
        if own[thread] not in open_:
            start = turn if spread else 0
            turn += 1
            own[thread] = min(open_, key=lambda part: (part - start) % len(solutions))
        part = own[thread]
        left = solutions[part] - taken[part]
        tried = left + 1 if 0 <= left < CHUNK else CHUNK
        taken[part] += CHUNK
        total += tried
        heapq.heappush(ready, (now + tried, thread, part if tried == left + 1 else -1))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--puzzles", type=int, default=2000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{'work':>10} {'spread':>8} {'together':>9}   evaluations beyond the least, in %")
    for work in (100_000, 500_000, 2_000_000):
        extra = {True: 0, False: 0}
        least = 0
        for _ in range(options.puzzles):
            solutions = (rng.geometric(options.parts / work, options.parts) - 1).tolist()
            least += sum(solutions) + options.parts
            for spread in extra:
                extra[spread] += evaluations(solutions, options.threads, spread)
        more = {spread: 100 * (total / least - 1) for spread, total in extra.items()}
        print(f"{work:10} {more[True]:8.2f} {more[False]:9.2f}")


if __name__ == "__main__":
    main()
