"""Compile csrc once as a static library and link both extension modules to it."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

HEADERS = ["csrc/include/powfast.h", "csrc/powfast_impl.h", "csrc/walk.h", "csrc/kernels.def"]
HEADERS += sorted(str(path) for path in Path("csrc/kernels").glob("*.h"))
SOURCES = sorted(str(path) for path in Path("csrc").glob("*.c"))
SOURCES += sorted(str(path) for path in Path("csrc/kernels").glob("*.c"))
NO_DEBUG = ["-g0"]  # Python's own flags ask for debug information: four fifths of the wheel
# under Python's own -fwrapv GCC unrolls less, and verification takes half as long again
CFLAGS = ["-O3", "-fno-wrapv", "-fPIC", "-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra"]
CFLAGS += NO_DEBUG
# hardening, each where the compiler and the linker take it
COMPILING = [
    ["-fstack-protector-strong"],
    ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"],
    ["-fcf-protection"],
]
LINKING = [["-Wl,-z,relro"], ["-Wl,-z,now"]]


def hardening(compiler: Any) -> tuple[list[str], list[str]]:
    """Return the flags to compile, and to link, with that a build command's compiler takes."""
    with tempfile.TemporaryDirectory() as folder:
        source, compiled, linked = (Path(folder, name) for name in ("try.c", "try.o", "try.so"))
        source.write_text("int probe(void) { return 0; }\n")
        compiling = [*compiler.compiler_so, "-c", source, "-o", compiled]
        linking = [*compiler.linker_so, compiled, "-o", linked]
        return _accepted(compiling, COMPILING), _accepted(linking, LINKING)


def _accepted(command: list[Any], choices: list[list[str]]) -> list[str]:
    def takes(flags: list[str]) -> bool:
        return not subprocess.run([*command, *flags], capture_output=True, check=False).returncode

    return [flag for flags in choices if takes(flags) for flag in flags]


class BuildClib(build_clib):
    """Harden the library."""

    def build_libraries(self, libraries: list[tuple[str, dict[str, Any]]]) -> None:
        """Compile."""
        flags, _ = hardening(self.compiler)
        for _, options in libraries:
            options["cflags"] = [*options["cflags"], *flags]
        super().build_libraries(libraries)


class BuildExt(build_ext):
    """Also put the header and the static library into the package, for whoever embeds them."""

    def build_extensions(self) -> None:
        """Compile and link, hardened."""
        compiling, linking = hardening(self.compiler)
        for extension in self.extensions:
            extension.extra_compile_args = [*extension.extra_compile_args, *compiling]
            extension.extra_link_args = [*extension.extra_link_args, *linking]
        super().build_extensions()

    def run(self) -> None:
        """Link the extensions, then copy what they were linked from."""
        self.run_command("build_clib")
        super().run()
        package = Path("." if self.inplace else self.build_lib) / "powfast"
        library = Path(self.get_finalized_command("build_clib").build_clib, "libpowfast.a")
        for source, folder in ((Path("csrc/include/powfast.h"), "include"), (library, "lib")):
            self.mkpath(str(package / folder))
            shutil.copy(source, package / folder)


setup(
    cmdclass={"build_clib": BuildClib, "build_ext": BuildExt},
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
