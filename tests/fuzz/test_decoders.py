"""No bytes from outside raise anything but a PowfastError, and none are admitted."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import decoders
import pytest
from conftest import missing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from powfast.errors import PowfastError


@st.composite
def nearly(draw: st.DrawFn, samples: tuple[bytes, ...]) -> bytes:
    """Return a sample that is cut, spliced, or has other bytes here and there; or any bytes."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted(draw(st.integers(0, len(data))) for _ in range(2))
        change = draw(st.sampled_from(["flip", "cut", "repeat", "replace"]))
        if change == "flip" and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del data[start:end]
        elif change == "repeat":
            data[start:start] = data[start:end]
        elif change == "replace":
            data[start:end] = draw(st.binary(max_size=12))
    return bytes(data)


@pytest.mark.parametrize("decoder", decoders.SAMPLES, ids=lambda each: each.__name__)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_bytes_end_in_a_value_or_one_typed_error(
    decoder: Callable[[bytes], None], data: st.DataObject
) -> None:
    given_bytes = data.draw(nearly(decoders.SAMPLES[decoder]))
    try:
        decoder(given_bytes)
    except PowfastError as error:
        assert str(error)


@pytest.mark.parametrize("decoder", decoders.SAMPLES, ids=lambda each: each.__name__)
def test_text_of_every_plane_and_depth(decoder: Callable[[bytes], None]) -> None:
    hostile = [
        b"",
        b"\x00" * 1000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b'"' + b"\\" * 9999,
        "".join(map(chr, range(0x600, 0x700))).encode(),
        b"\xed\xa0\x80" * 10,
        random.Random(0).randbytes(20_000),
    ]
    for each in hostile:
        try:
            decoder(each)
        except PowfastError as error:
            assert str(error)


def test_a_fuzzer_guided_by_coverage_finds_nothing(tmp_path: Path) -> None:
    if find_spec("atheris") is None:
        missing("atheris, which is for Linux on x86-64, is not installed")
    script = Path(__file__).with_name("fuzz_decoders.py")
    options = ["-runs=20000", "-max_total_time=20", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done " in done.stderr  # so many runs in so many seconds
