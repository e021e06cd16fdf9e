"""atheris (libFuzzer, coverage-guided) over every decoder: the first byte names it.

python tests/fuzz/fuzz_decoders.py [libFuzzer's options, such as -max_total_time=600] [CORPUS]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["powfast"]):
    import decoders

from powfast.errors import PowfastError

DECODERS = list(decoders.SAMPLES)


def one_input(data: bytes) -> None:
    if data:
        with contextlib.suppress(PowfastError):
            DECODERS[data[0] % len(DECODERS)](data[1:])


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        for number, samples in enumerate(decoders.SAMPLES.values()):
            for each, sample in enumerate(samples):
                Path(corpus, f"{number}-{each}").write_bytes(bytes([number]) + sample)
        atheris.Setup([*sys.argv, corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
