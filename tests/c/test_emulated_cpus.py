"""Detection, dispatch and every x86 kernel on CPUs that Bochs emulates, AVX-512 included.

The payload is a ROM in place of the BIOS, so that real encodings meet real CPUID in a second.
"""

from __future__ import annotations

import re

import pytest
from toolchain import CSRC, HERE, SOURCES, run, tool

FREESTANDING = [
    "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-builtin",
    "-fno-tree-loop-distribute-patterns", "-fno-stack-protector", "-fno-pie", "-no-pie",
    "-mno-red-zone", "-static", "-nostdlib", "-Wl,--build-id=none",
]  # fmt: skip


@pytest.fixture(scope="module")
def rom(tmp_path_factory):
    bochs, folder = HERE / "bochs", tmp_path_factory.mktemp("bochs")
    script, elf = f"-Wl,-T,{bochs / 'rom.ld'}", folder / "rom.elf"
    sources = [bochs / "start.S", bochs / "payload.c", *SOURCES]
    run(tool("gcc"), *FREESTANDING, script, f"-I{CSRC / 'include'}", *sources, "-o", elf)
    run(tool("objcopy"), "-O", "binary", elf, folder / "rom.bin")
    return folder / "rom.bin"


@pytest.mark.parametrize(
    ("model", "kernels"),
    [
        ("tigerlake", "avx512vl+shani avx512+shani avx512 shani avx2 vector scalar"),
        ("corei7_skylake_x", "avx512 avx2 vector scalar"),
        ("ryzen", "shani avx2 vector scalar"),
        ("corei7_haswell_4770", "avx2 vector scalar"),
        ("corei7_sandy_bridge_2600k", "vector scalar"),
        ("athlon64_clawhammer", "vector scalar"),
    ],
)
def test_kernels_of_a_cpu_model(rom, tmp_path, model, kernels):
    settings = (HERE / "bochs" / "bochsrc").read_text()
    settings = settings.replace("CPU_MODEL", model).replace("rom.bin", str(rom))
    (tmp_path / "bochsrc").write_text(settings.replace("bochs.log", str(tmp_path / "log")))
    (tmp_path / "debugger").write_text("continue\n")
    command = [tool("bochs"), "-q", "-f", tmp_path / "bochsrc", "-rc", tmp_path / "debugger"]
    said = run(*command, status=1)  # a requested shutdown ends Bochs with 1
    assert re.findall(r"(\S+) right", said) == kernels.split()
    assert "wrong" not in said
