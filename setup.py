"""Compile csrc once as a static library and link both extension modules to it."""

import shutil
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_py import build_py

HEADERS = ["csrc/include/powfast.h", "csrc/powfast_impl.h", "csrc/kernels.def"]
HEADERS += sorted(str(path) for path in Path("csrc/kernels").glob("*.h"))
SOURCES = sorted(str(path) for path in Path("csrc").glob("*.c"))
SOURCES += sorted(str(path) for path in Path("csrc/kernels").glob("*.c"))
CFLAGS = ["-O3", "-fPIC", "-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra"]


class BuildPy(build_py):
    """Also ship the public header, for whoever embeds the library."""

    def run(self) -> None:
        """Copy the modules, then the header."""
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib) / "powfast" / "include"
            self.mkpath(str(folder))
            shutil.copy("csrc/include/powfast.h", folder)


setup(
    cmdclass={"build_py": BuildPy},
    libraries=[
        (
            "powfast",
            {
                "sources": SOURCES,
                "include_dirs": ["csrc/include"],
                "cflags": CFLAGS,
                "obj_deps": {"": HEADERS},
            },
        )
    ],
    ext_modules=[
        Pybind11Extension(
            "powfast._native",
            ["csrc/bindings/native.cpp"],
            include_dirs=["csrc/include"],
            depends=HEADERS + SOURCES,
            cxx_std=17,
        )
    ],
    cffi_modules=["csrc/bindings/capi_build.py:ffibuilder"],
)
