"""What is being measured, and whether something else was running on it meanwhile."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from powfast.profile.document import Device
from powfast.puzzle import cores

# Instruction sets that the kernels use, under Linux's names.
_FEATURES = {"ssse3", "sse4_1", "avx2", "avx512f", "sha_ni", "asimd", "sha2"}

_BUSY_LOAD = 0.5
_BUSY_SHARE = 0.05
_STOLEN_SHARE = 0.01


def this_device() -> Device:
    """Return the processor, the system and the Python that this process runs on."""
    return Device(
        cpu=_cpu(),
        architecture=platform.machine() or "unknown",
        features=tuple(sorted(_FEATURES & set(_cpuinfo("flags", "Features").split()))),
        cores=cores(),
        system=f"{platform.system()} {platform.release()}".strip() or "unknown",
        agent=f"{platform.python_implementation()} {platform.python_version()}",
    )


def _cpu() -> str:
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    else:  # the device tree names the boards of processors that have no name
        name = _cpuinfo("model name") or _text("/proc/device-tree/model")
    return name.strip("\0\n ") or platform.processor() or "unknown"


def _cpuinfo(*fields: str) -> str:
    """Return the first of these fields that Linux tells, else nothing."""
    for line in _text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in fields:
            return value.strip()
    return ""


def _text(file: str) -> str:
    try:
        return Path(file).read_text()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds since the start of the machine, and of this process.

    Attributes
    ----------
    total, idle, stolen : float
        Of all processors, as Linux counts them; 0 elsewhere.
    own : float
        Of this process.
    load : float
        Average number of running processes in the last minute.
    """

    total: float
    idle: float
    stolen: float
    own: float
    load: float

    @classmethod
    def now(cls) -> Usage:
        """Return the usage so far."""
        ticks = [int(word) for word in _text("/proc/stat").partition("\n")[0].split()[1:9]]
        seconds = [count / os.sysconf("SC_CLK_TCK") for count in ticks] or [0.0] * 8
        _, _, _, idle, waiting, _, _, stolen = seconds  # proc(5)
        own = sum(os.times()[:2])
        return cls(sum(seconds), idle + waiting, stolen, own, os.getloadavg()[0])

    def disturbances(self, since: Usage) -> list[str]:
        """Return what else used the processors between `since` and this."""
        found = []
        if since.load > _BUSY_LOAD:
            found.append(f"the machine was busy before: load average {since.load:.1f}")
        total = self.total - since.total
        if total <= 0.0:
            return found
        stolen = (self.stolen - since.stolen) / total
        used = total - (self.idle - since.idle) - (self.stolen - since.stolen)
        others = (used - (self.own - since.own)) / total
        if others > _BUSY_SHARE:
            found.append(f"other processes took {others:.0%} of the processors meanwhile")
        if stolen > _STOLEN_SHARE:
            found.append(f"the hypervisor took {stolen:.0%} of the processors meanwhile")
        return found
