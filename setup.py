"""Compile csrc once as a static library and link both extension modules to it."""

import shutil
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext

HEADERS = ["csrc/include/powfast.h", "csrc/powfast_impl.h", "csrc/kernels.def"]
HEADERS += sorted(str(path) for path in Path("csrc/kernels").glob("*.h"))
SOURCES = sorted(str(path) for path in Path("csrc").glob("*.c"))
SOURCES += sorted(str(path) for path in Path("csrc/kernels").glob("*.c"))
NO_DEBUG = ["-g0"]  # Python's own flags ask for debug information: four fifths of the wheel
# under Python's own -fwrapv GCC unrolls less, and verification takes half as long again
CFLAGS = ["-O3", "-fno-wrapv", "-fPIC", "-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra"]
CFLAGS += NO_DEBUG


class BuildExt(build_ext):
    """Also put the header and the static library into the package, for whoever embeds them."""

    def run(self) -> None:
        """Link the extensions, then copy what they were linked from."""
        super().run()
        package = Path("." if self.inplace else self.build_lib) / "powfast"
        library = Path(self.get_finalized_command("build_clib").build_clib, "libpowfast.a")
        for source, folder in ((Path("csrc/include/powfast.h"), "include"), (library, "lib")):
            self.mkpath(str(package / folder))
            shutil.copy(source, package / folder)


setup(
    cmdclass={"build_ext": BuildExt},
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
            sorted(str(path) for path in Path("csrc/bindings").rglob("*.cpp")),
            include_dirs=["csrc/include", "csrc/bindings"],
            depends=[
                *sorted(str(path) for path in Path("csrc/bindings").rglob("*.h")),
                *HEADERS,
                *SOURCES,
            ],
            extra_compile_args=NO_DEBUG,
            cxx_std=17,
        )
    ],
    cffi_modules=["csrc/bindings/capi_build.py:ffibuilder"],
)
