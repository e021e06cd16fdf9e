"""Both algorithms on every OpenCL device: its answers, and digests a second.

    python benchmarks/fairness/opencl.py [--seconds 3]

On a CPU, through PoCL, it shows that search.cl is right; what a CPU makes of code for a card says
nothing about cards. Needs pyopencl.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("search.cl")
STATE = 1 << 18  # bytes of a walk
LANES = 8  # work-items of a walk in local memory
HASHES, WALKS, WALKS_LOCALLY = "search_hashes", "search_walks", "search_walks_locally"


class Card:
    """An OpenCL device with the program on it, and memory for at most so many states."""

    def __init__(self, device: cl.Device, states: int) -> None:
        self.name = device.name
        self._queue = cl.CommandQueue(context := cl.Context([device]))
        program = cl.Program(context, SOURCE.read_text()).build()
        self._kernels = {name: cl.Kernel(program, name) for name in (HASHES, WALKS, WALKS_LOCALLY)}
        self._states = cl.Buffer(context, cl.mem_flags.READ_WRITE, states * STATE)

    def smallest(
        self, kernel: str, seed: bytes, part: int, first: int, walkers: int, count: int = 1
    ) -> NDArray[np.uint64]:
        """The smallest digest that each walker finds among `count` nonces of its own."""
        found = np.empty(walkers, np.uint64)
        words = np.frombuffer(seed, ">u4").astype(np.uint32)
        context, flags = self._queue.context, cl.mem_flags
        given = cl.Buffer(context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=words)
        buffer = cl.Buffer(context, flags.WRITE_ONLY, found.nbytes)
        task = [buffer, given, np.uint32(part), np.uint64(first), np.uint32(count)]
        if kernel == WALKS:
            task.append(self._states)
        items, group = (walkers * LANES, (LANES,)) if kernel == WALKS_LOCALLY else (walkers, None)
        self._kernels[kernel](self._queue, (items,), group, *task)
        cl.enqueue_copy(self._queue, found, buffer)
        return found

    def rate(self, kernel: str, walkers: int, count: int, seconds: float) -> float:
        """Digests a second."""
        self.smallest(kernel, bytes(32), 0, 0, walkers, count)  # compiled, and warm
        started, digests = time.perf_counter(), 0
        while time.perf_counter() < started + seconds:
            self.smallest(kernel, bytes(32), 0, digests, walkers, count)
            digests += walkers * count
        return digests / (time.perf_counter() - started)


def devices() -> list[cl.Device]:
    return [device for platform in cl.get_platforms() for device in platform.get_devices()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    seconds = parser.parse_args().seconds
    for device in devices():
        most = device.global_mem_size // 2 // STATE // 32 * 32
        most = min(most, device.max_mem_alloc_size // STATE)
        cached = max(32, device.global_mem_cache_size // STATE // 4)
        card = Card(device, most)
        print(f"{card.name}: {card.rate(HASHES, 1 << 16, 64, seconds):.4g} hashes a second")
        for walkers in (cached, 4 * cached, most):
            print(f"  {walkers} states: {card.rate(WALKS, walkers, 1, seconds):.4g} walks a second")
        if device.local_mem_size >= STATE * 5 // 8 + 64:
            rate = card.rate(WALKS_LOCALLY, device.max_compute_units, 16, seconds)
            print(f"  local memory: {rate:.4g} walks a second")


if __name__ == "__main__":
    main()
