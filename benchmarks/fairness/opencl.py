"""Both algorithms on every OpenCL device: its answers, and digests a second.

    python benchmarks/fairness/opencl.py [--seconds 3]

On a CPU, through PoCL, it shows that search.cl is right; what a CPU makes of code for a card says
nothing about cards. Needs pyopencl.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("search.cl")
STATE = 1 << 18  # bytes of a walk
LOCAL_BYTES = 160 * 1024 + 64  # of one whose every fourth row is kept
LANES = 8  # work-items of a walk in local memory
HASHES, WALKS, WALKS_LOCALLY = "search_hashes", "search_walks", "search_walks_locally"
HASH = hashlib.sha256(bytes(range(32)) + b"powfast/v1:" + bytes(12)).digest()[:8]
WALK = 0x608545191421D53F
KNOWN = {HASHES: int.from_bytes(HASH, "big"), WALKS: WALK, WALKS_LOCALLY: WALK}
"""Digests for seed 00 01 .. 1f, part 0, nonce 0."""


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


def numbers_of_states(device: cl.Device) -> list[int]:
    """From a quarter of a card's cache to half of its memory; on a CPU they say nothing."""
    cached = max(32, device.global_mem_cache_size // STATE // 4)
    if device.type & cl.device_type.CPU:
        return [cached]
    most = min(device.global_mem_size // 2, device.max_mem_alloc_size) // STATE // 32 * 32
    return [cached << k for k in range(20) if cached << k <= most] or [most]


def require_known(card: Card, kernel: str) -> None:
    found = card.smallest(kernel, bytes(range(32)), 0, 0, 1).tolist()
    if found != [KNOWN[kernel]]:
        raise SystemExit(f"{card.name}: {kernel} gives {found}, not {KNOWN[kernel]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    seconds = parser.parse_args().seconds
    for device in devices():
        numbers = numbers_of_states(device)
        card = Card(device, numbers[-1])
        require_known(card, HASHES)
        print(f"{card.name}: {card.rate(HASHES, 1 << 16, 64, seconds):.4g} hashes a second")
        require_known(card, WALKS)
        for walkers in numbers:
            print(f"  {walkers} states: {card.rate(WALKS, walkers, 1, seconds):.4g} walks a second")
        if device.local_mem_size >= LOCAL_BYTES:
            require_known(card, WALKS_LOCALLY)
            rate = card.rate(WALKS_LOCALLY, device.max_compute_units, 16, seconds)
            print(f"  local memory: {rate:.4g} walks a second")


if __name__ == "__main__":
    main()
