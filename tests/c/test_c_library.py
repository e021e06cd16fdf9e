"""Build the C library with one compiler line and run its tests: sanitized, and elsewhere."""

from __future__ import annotations

import shutil

import pytest
from conftest import ROOT
from toolchain import CSRC, HERE, PASSED, SOURCES, STRICT, build, run, tool, wasi_flags

VECTORS = [ROOT / "tests/vectors" / name for name in ("puzzle.json", "cachewalk.json")]
SANITIZED = ["-g", "-fno-sanitize-recover=all"]


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("gcc", ["-O3"]),
        ("clang", ["-O3"]),
        ("gcc", ["-DPOWFAST_NO_SIMD", "-march=x86-64"]),
        ("clang", [*SANITIZED, "-fsanitize=address,undefined"]),
    ],
    ids=["gcc", "clang", "no-simd", "sanitized"],
)
@pytest.mark.parametrize("source", ["test_library.c", "test_account.c"])
def test_library_alone(tmp_path, name, flags, source):
    assert run(build(tmp_path, name, *flags, source=source)).endswith(PASSED)


def test_threads_share_a_solver_without_a_race(tmp_path):
    flags = [*SANITIZED, "-fsanitize=thread", "-pthread", "-D_POSIX_C_SOURCE=200809L"]
    program = build(tmp_path, "clang", *flags, source="test_threads.c")
    assert run(program).endswith(PASSED)


@pytest.mark.parametrize(
    ("compile_with", "emulate_with", "kernels"),
    [
        (["aarch64-linux-gnu-gcc", "-static"], ["qemu-aarch64"], "armv8 vector scalar"),
        (["clang", "--target=aarch64-linux-gnu", "-static"], ["qemu-aarch64"],
         "armv8 vector scalar"),
        (["s390x-linux-gnu-gcc", "-static"], ["qemu-s390x"], "scalar"),
        (["clang", "--target=wasm32-wasi", "--sysroot=/usr", "-msimd128"],
         ["node", "--no-warnings", *wasi_flags(), str(HERE / "run_wasi.mjs")], "vector scalar"),
    ],
    ids=["armv8-gcc", "armv8-clang", "big-endian", "wasm"],
)  # fmt: skip
def test_library_on_other_machines(tmp_path, compile_with, emulate_with, kernels):
    accounts = build(tmp_path, *compile_with, source="test_account.c")
    assert run(tool(emulate_with[0]), *emulate_with[1:], accounts).endswith(PASSED)
    program = build(tmp_path, *compile_with)
    said = run(tool(emulate_with[0]), *emulate_with[1:], program)
    assert said.endswith(PASSED)
    assert [line.split()[0] for line in said.splitlines()[:-1]] == kernels.split()


def test_module_for_the_browser_solves_the_vectors(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", tool("clang"))
    module = tmp_path / "powfast.wasm"
    run(tool("sh"), CSRC / "wasm" / "build.sh", module)
    said = run(tool("node"), HERE / "run_wasm.mjs", module, *VECTORS)
    assert said.startswith("vector: ")
    assert said.endswith(PASSED)


def test_avx512_lanes_without_avx512(tmp_path):
    """SIMDe lowers avx512.c to AVX2, so that its logic is held to the vectors natively."""
    avx512 = CSRC / "kernels" / "avx512.c"
    lowered, others = tmp_path / "avx512.o", [path for path in SOURCES if path != avx512]
    compile_ = [tool("clang"), "-std=c11", "-O1", *STRICT]  # GCC takes half a minute for it
    run(*compile_, "-mavx2", "-Wno-psabi", f"-I{HERE / 'lowered'}", "-c", avx512, "-o", lowered)
    program = tmp_path / "program"
    run(*compile_, HERE / "test_library.c", *others, lowered, "-o", program)
    said = run(program)
    assert said.endswith(PASSED)
    assert ("avx512" in said) == ("avx2" in said)
    assert "zmm" not in run(tool("objdump"), "-d", lowered)


def test_hostile_bytes_find_no_way_out_of_bounds(tmp_path):
    """A bounded run of libFuzzer over the committed corpus and what grows from it."""
    flags = [*SANITIZED, "-fsanitize=fuzzer,address,undefined"]
    program = build(tmp_path, "clang", *flags, source="fuzz_token.c")
    grown = tmp_path / "grown"
    grown.mkdir()
    run(program, "-max_total_time=6", "-max_len=1200", grown, HERE / "corpus")


@pytest.mark.parametrize(
    ("name", "language"),
    [("gcc", "-xc"), ("g++", "-xc++"), ("clang", "-xc"), ("clang++", "-xc++")],
)
def test_header_compiles_alone(name, language):
    run(tool(name), language, *STRICT, "-fsyntax-only", CSRC / "include" / "powfast.h")


@pytest.mark.parametrize(
    ("header", "right", "wrong", "unbroken"),
    [
        ("lanes.h", "BIG_SIGMA1(x) XOR3(ROTR(x, 6)", "BIG_SIGMA1(x) XOR3(ROTR(x, 7)",
         {"avx512vl+shani", "shani", "none"}),
        ("lanes.h", "i += (uint32_t)__builtin_ctz(hits)", "i += (uint32_t)__builtin_ctz(hits) + 1",
         {"avx512vl+shani", "shani", "none"}),
        ("schedule.h", "(t) == 20 || (t) == 22", "(t) == 22", {"shani", "none"}),
    ],
)  # fmt: skip
def test_a_kernel_that_gives_wrong_answers_is_passed_over(tmp_path, header, right, wrong, unbroken):
    """The lanes of a copy of the library are broken; whatever is made of them must not be used."""
    csrc = shutil.copytree(CSRC, tmp_path / "csrc")
    path = csrc / "kernels" / header
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    sources = [*csrc.glob("*.c"), *csrc.glob("kernels/*.c")]
    run(tool("gcc"), "-O1", f"-I{csrc / 'include'}", HERE / "chosen.c",
        *sources, "-o", tmp_path / "chosen")  # fmt: skip
    chosen, *failed = run(tmp_path / "chosen").split()
    assert {"-scalar", "-vector"} <= set(failed)
    assert chosen in unbroken
