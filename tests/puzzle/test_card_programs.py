"""benchmarks/fairness: programs for cards, held to the vectors and to the library on a CPU."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT, missing, needs
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import cachewalk64, digest64

FOLDER = ROOT / "benchmarks" / "fairness"
VECTORS = ROOT / "tests" / "vectors"
WALKS = ("search_walks", "search_walks_locally")
CUDA = """
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#include <__clang_cuda_builtin_vars.h>
__device__ void __syncwarp(unsigned mask) { __nvvm_bar_warp_sync(mask); }
__device__ unsigned long long __shfl_sync(unsigned mask, unsigned long long word, int lane, int) {
    unsigned low = __nvvm_shfl_sync_idx_i32(mask, (int)word, lane, 0x181f);
    return (unsigned long long)__nvvm_shfl_sync_idx_i32(mask, (int)(word >> 32), lane, 0x181f) << 32
           | low;
}
#include "search.cl"
"""


Smallest = Callable[..., list[int]]


@pytest.fixture(scope="module")
def smallest() -> Iterator[Smallest]:
    """Run a kernel in a process of its own: what a driver starts stays there."""
    needs("pyopencl")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        if not pool.submit(_devices).result():
            missing("no OpenCL device: install pocl-opencl-icd")
        yield lambda *task: pool.submit(_smallest, *task).result()


def _devices() -> int:
    return len(_module("opencl").devices())


@cache
def _card() -> Any:
    opencl = _module("opencl")
    return opencl.Card(opencl.devices()[0], states=8)


def _smallest(*task: Any) -> list[int]:
    found: list[int] = _card().smallest(*task).tolist()
    return found


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fairness_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kernel", "file"),
    [("search_hashes", "puzzle.json"), *((kernel, "cachewalk.json") for kernel in WALKS)],
)
def test_known_answers(smallest: Smallest, kernel: str, file: str) -> None:
    for known in json.loads((VECTORS / file).read_text())["digests"]:
        task = bytes.fromhex(known["seed"]), known["part"], known["nonce"]
        assert smallest(kernel, *task, 1) == [known["digest64"]]


@pytest.mark.parametrize("kernel", ["search_hashes", *WALKS])
@settings(max_examples=3)
@given(
    st.binary(min_size=32, max_size=32), st.integers(0, 1023), st.integers(0, 2**64 - 9),
    st.integers(1, 4), st.integers(1, 2),
)  # fmt: skip
def test_each_walker_takes_the_smallest_of_its_own(
    smallest: Smallest, kernel: str, seed: bytes, part: int, first: int, walkers: int, count: int
) -> None:
    digest = digest64 if kernel == "search_hashes" else cachewalk64
    digests = [digest(seed, part, first + i) for i in range(walkers * count)]
    expected = [min(digests[i * count :][:count]) for i in range(walkers)]
    assert smallest(kernel, seed, part, first, walkers, count) == expected


def test_the_kernels_are_cuda_too(tmp_path: Path) -> None:
    """Compiled to a card's assembly without NVIDIA's headers; no card runs it here."""
    (tmp_path / "card.cu").write_text(CUDA)
    flags = ["-nocudainc", "-nocudalib", "--cuda-device-only", "--cuda-gpu-arch=sm_75"]
    flags += ["-O2", "-Werror", "-Wno-unknown-cuda-version", f"-I{FOLDER}", "-S"]
    clang = shutil.which("clang-19") or missing("no clang-19")
    files = [tmp_path / "card.cu", "-o", tmp_path / "card.s"]
    done = subprocess.run([clang, *flags, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assembly = (tmp_path / "card.s").read_text()
    for kernel in ("search_hashes", *WALKS):
        assert f".entry {kernel}(" in assembly


def test_the_page_has_the_models_tables() -> None:
    model = _module("model")
    page = model.PAGE.read_text()
    assert model.written(page) == page, "run python benchmarks/fairness/model.py --write"


def test_the_model_by_hand() -> None:
    """An H100: 3350 GB/s over 1.375 MiB; a walk that fills, then takes steps, in 50 MB."""
    model = _module("model")
    (card,) = (card for card in model.cards() if "H100" in card["card"])
    walks = model.walks(card)
    assert walks["memory"] == pytest.approx(3350e9 / (1.375 * 2**20))
    fill, steps = 4096 * 40 + 1023 * 279, 2048 * (279 + 40)
    space = (fill * 128 + steps * 256) / (fill + steps) * 1024
    assert walks["cache, all rows"] == pytest.approx(50e6 / space * 1.98e9 / (fill + steps))
    own = 4096 * 40 + 1023 * 30 + 2048 * (30 + 160)
    assert walks["own memory"] == pytest.approx(132 * 1.98e9 / own)
    assert model.rates(card)["hashes"] == pytest.approx(126.9e9 / 8)
