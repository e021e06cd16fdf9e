"""The bindings under ASan and UBSan: they keep accounts and answers for whoever asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import ROOT, needs
from toolchain import CSRC, SOURCES, run, tool

pybind11 = needs("pybind11")

SANITIZED = ["-g", "-O1", "-fPIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TESTS = [
    "serving/test_held.py",
    "serving/test_ledger.py",
    "serving/test_ledger_accounting.py",
    "serving/test_ledger_exploits.py",
    "serving/test_ledger_histories.py",
    "serving/test_memory_ledger.py",
    "serving/test_sqlite_ledger.py",
    "challenge",
    "puzzle",
]


def compiled(folder: Path, source: Path) -> Path:
    """Compile one file of the library or of its bindings, which pybind11's headers may warn in."""
    bindings = source.suffix == ".cpp"
    language = [tool("g++"), "-std=c++17"] if bindings else [tool("gcc"), "-std=c11"]
    warnings = ["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", f"-I{CSRC / 'include'}"]
    warnings += [f"-I{CSRC / 'bindings'}"]
    foreign = ["-isystem", pybind11.get_include(), "-isystem", sysconfig.get_path("include")]
    made = folder / f"{source.name}.o"
    run(*language, *SANITIZED, *warnings, *foreign, "-c", source, "-o", made)
    return made


def test_bindings_under_sanitizers(tmp_path):
    package = tmp_path / "powfast"
    shutil.copytree(ROOT / "powfast", package, ignore=shutil.ignore_patterns("_native.*.so"))
    sources = [*SOURCES, *CSRC.glob("bindings/**/*.cpp")]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: compiled(tmp_path, source), sources))
    module = package / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    run(tool("g++"), "-shared", *SANITIZED, *objects, "-o", module)
    libraries = [run(tool("gcc"), f"-print-file-name=lib{name}.so") for name in ("asan", "ubsan")]
    preloaded = {
        "LD_PRELOAD": " ".join(libraries).replace("\n", ""),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
    }
    where = "import powfast._native as native; print(native.__file__)"
    options = {"cwd": tmp_path, "env": os.environ | preloaded, "check": False, "text": True}
    found = subprocess.run([sys.executable, "-c", where], stdout=subprocess.PIPE, **options)
    assert found.stdout == f"{module}\n"
    here = ["--rootdir", ROOT, "-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider"]
    tests = ["-k", "not redis and not room", *(ROOT / "tests" / name for name in TESTS)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", f"pythonpath={tmp_path}", *here, *tests],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
