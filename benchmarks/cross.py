"""Compile the C library for platforms that are not at hand, and run what an emulator runs.

    python benchmarks/cross.py

Zig's Clang brings every platform's C library (pip install ziglang); a first run takes minutes to
build them. Programs for other CPUs run under qemu-user, those for Windows under Wine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import need

ROOT = Path(__file__).resolve().parents[1]
EMBED = ROOT / "examples/embedding/embed.c"
SOURCES = [*ROOT.glob("csrc/*.c"), *ROOT.glob("csrc/kernels/*.c"), EMBED]
STRICT = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc/include'}"]
RUNNERS = {
    "aarch64-linux-musl": "qemu-aarch64",
    "riscv64-linux-musl": "qemu-riscv64",
    "s390x-linux-musl": "qemu-s390x",
    "x86_64-windows-gnu": "wine64",
    "aarch64-windows-gnu": None,
    "x86_64-macos": None,
    "aarch64-macos": None,
}


def runner_of(target: str) -> str | None:
    """Return the program that runs a target's programs, where it is installed."""
    name = RUNNERS[target]
    return name and (shutil.which(name) or shutil.which(name, path="/usr/lib/wine"))


def main() -> None:
    need(packages=("ziglang",))
    for target in RUNNERS:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "embed.exe")
            command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *STRICT, *SOURCES]
            subprocess.run([*command, "-o", program], check=True)
            runner = runner_of(target)
            printed = subprocess.check_output([runner, program], text=True) if runner else ""
            print(f"{target:22}{printed.strip() or 'compiled'}")


if __name__ == "__main__":
    main()
