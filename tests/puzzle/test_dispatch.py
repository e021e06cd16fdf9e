"""Which kernel is chosen, and what is said when none can be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from powfast import _capi, kernel

ffi, lib = _capi.ffi, _capi.lib

NAMES = [
    ffi.string(lib.powfast_kernel_name(lib.powfast_kernel_at(i))).decode()
    for i in range(lib.powfast_kernel_count())
]
FEATURES = lib.powfast_cpu_features()
BITS = [1 << i for i in range(32) if FEATURES >> i & 1]
MASKS = [sum(bit for j, bit in enumerate(BITS) if i >> j & 1) for i in range(2 ** len(BITS))]


def select(name: bytes | None, features: int) -> tuple[int, str | None]:
    kernel = ffi.new("powfast_kernel **")
    out = ffi.cast("const powfast_kernel **", kernel)
    status = lib.powfast_kernel_select(out, ffi.NULL if name is None else name, features)
    if kernel[0] == ffi.NULL:
        return status, None
    return status, ffi.string(lib.powfast_kernel_name(kernel[0])).decode()


def supported(mask: int) -> list[str]:
    kernels = map(lib.powfast_kernel_at, range(len(NAMES)))
    flags = [lib.powfast_kernel_supported(kernel, mask) for kernel in kernels]
    return [name for name, flag in zip(NAMES, flags, strict=True) if flag]


@pytest.mark.parametrize("mask", MASKS)
def test_every_feature_masked(mask, monkeypatch):
    monkeypatch.delenv("POWFAST_KERNEL", raising=False)
    assert "scalar" in supported(mask)
    assert select(None, mask) == (lib.POWFAST_OK, supported(mask)[0])
    for name in NAMES:
        wanted = (
            (lib.POWFAST_OK, name)
            if name in supported(mask)
            else (lib.POWFAST_UNSUPPORTED_KERNEL, None)
        )
        assert select(name.encode(), mask) == wanted


def test_unknown_name():
    assert select(b"none-such", FEATURES) == (lib.POWFAST_UNKNOWN_KERNEL, None)


def python(code: str, kernel: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "POWFAST_KERNEL"}
    if kernel is not None:
        environment["POWFAST_KERNEL"] = kernel
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


SOLVE = """
from powfast import kernel, puzzle
task = puzzle.Puzzle(bytes(32), 5000, 3)
assert puzzle.verify(task, puzzle.solve(task))
print(kernel.active_kernel())
"""


@pytest.mark.parametrize("name", supported(FEATURES))
def test_environment_forces_a_kernel(name):
    done = python(SOLVE, name)
    assert (done.stdout.strip(), done.stderr) == (name, "")


@pytest.mark.parametrize("name", [None, ""])
def test_without_environment_the_first_supported_one(name):
    assert python(SOLVE, name).stdout.strip() == supported(FEATURES)[0]


def test_unknown_kernel_is_an_error_that_names_the_available():
    done = python(SOLVE, "none-such")
    assert "KernelError: POWFAST_KERNEL='none-such': there is no such kernel" in done.stderr
    assert "available: " + ", ".join(supported(FEATURES)) in done.stderr


def test_listing():
    infos = kernel.kernels()
    assert [info.name for info in infos] == NAMES
    assert [info.name for info in infos if info.active] == [kernel.active_kernel()]
    assert [info.name for info in infos if info.supported and info.trusted] == supported(FEATURES)
