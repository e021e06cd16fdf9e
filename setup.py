"""Compile csrc once as a static library and link both extension modules to it."""

import re
import shutil
import subprocess
import sysconfig
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
CLANG_CL = ["/O2", "/clang:-O3", "/clang:-std=c11"]
# hardening, each where the compiler and the linker take it
COMPILING = [
    ["-fstack-protector-strong"],
    ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"],
    ["-fcf-protection"],
]
LINKING = [["-Wl,-z,relro"], ["-Wl,-z,now"]]
PKGCONFIG = """\
prefix=${{pcfiledir}}/../..

Name: powfast
Description: Calibrated proof of work against model extraction
URL: https://github.com/powfast/powfast
Version: {version}
Cflags: -I${{prefix}}/include
Libs: ${{prefix}}/lib/{library}
"""
MISSING = (
    "powfast is built from C and C++, and there is no {name} here. Install a compiler and Python's "
    "headers: on Debian and Ubuntu apt install g++ python3-dev, on Fedora dnf install gcc-c++ "
    "python3-devel, on Alpine apk add g++ python3-dev, on macOS xcode-select --install."
)
MSVC = (
    "Microsoft's cl does not compile powfast, which needs the vector types of GCC and Clang. "
    "Install LLVM (winget install LLVM.LLVM): its clang-cl is used where it is on the PATH."
)


def prepare(compiler: Any) -> None:
    """Find the compiler before it is used, and let clang-cl stand in for Microsoft's cl."""
    if compiler.compiler_type == "msvc":
        clang_cl = shutil.which("clang-cl")
        if clang_cl is None:
            raise SystemExit(MSVC)
        if not compiler.initialized:
            compiler.initialize()
        compiler.cc = clang_cl
        return
    for command in (compiler.compiler_so, compiler.compiler_so_cxx):
        if shutil.which(command[0]) is None:
            raise SystemExit(MISSING.format(name=command[0]))
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        raise SystemExit(MISSING.format(name=f"Python.h in {include}"))


def flags_of(compiler: Any) -> tuple[list[str], list[str], list[str]]:
    """Return what a compiler takes: for the library, for what is linked to it, and to link."""
    if compiler.compiler_type == "msvc":
        return CLANG_CL, [], []
    with tempfile.TemporaryDirectory() as folder:
        source, compiled, linked = (Path(folder, name) for name in ("try.c", "try.o", "try.so"))
        source.write_text("int probe(void) { return 0; }\n")
        compiling = [*compiler.compiler_so, "-c", source, "-o", compiled]
        hardening = [*NO_DEBUG, *_accepted(compiling, COMPILING)]
        linking = [*compiler.linker_so, compiled, "-o", linked]
        return [*CFLAGS, *hardening], hardening, _accepted(linking, LINKING)


def _accepted(command: list[Any], choices: list[list[str]]) -> list[str]:
    def takes(flags: list[str]) -> bool:
        return not subprocess.run([*command, *flags], capture_output=True, check=False).returncode

    return [flag for flags in choices if takes(flags) for flag in flags]


def readme() -> str:
    """Return the README for a package index, where a relative link leads nowhere."""
    source = "https://github.com/powfast/powfast"
    text = re.sub(
        r"(!\[[^]]*\])\((?!https?:)", rf"\1({source}/raw/main/", Path("README.md").read_text()
    )
    return re.sub(r"\]\((?!https?:|#)", f"]({source}/blob/main/", text)


class BuildClib(build_clib):
    """Compile the library with the flags that the compiler takes."""

    def build_libraries(self, libraries: list[tuple[str, dict[str, Any]]]) -> None:
        """Compile."""
        prepare(self.compiler)
        flags, _, _ = flags_of(self.compiler)
        for _, options in libraries:
            options["cflags"] = flags
        super().build_libraries(libraries)


class BuildExt(build_ext):
    """Also put the header and the static library into the package, for whoever embeds them."""

    def build_extensions(self) -> None:
        """Compile and link, hardened."""
        prepare(self.compiler)
        _, compiling, linking = flags_of(self.compiler)
        for extension in self.extensions:
            extension.extra_compile_args = [*extension.extra_compile_args, *compiling]
            extension.extra_link_args = [*extension.extra_link_args, *linking]
        super().build_extensions()

    def run(self) -> None:
        """Link the extensions, then copy what they were linked from."""
        self.run_command("build_clib")
        super().run()
        package = Path("." if self.inplace else self.build_lib) / "powfast"
        name = self.compiler.library_filename("powfast")
        library = Path(self.get_finalized_command("build_clib").build_clib, name)
        for source, folder in ((Path("csrc/include/powfast.h"), "include"), (library, "lib")):
            self.mkpath(str(package / folder))
            shutil.copy(source, package / folder)
        self.mkpath(str(package / "lib/pkgconfig"))
        described = PKGCONFIG.format(version=self.distribution.get_version(), library=name)
        Path(package, "lib/pkgconfig/powfast.pc").write_text(described)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    cmdclass={"build_clib": BuildClib, "build_ext": BuildExt},
    libraries=[
        (
            "powfast",
            {
                "sources": SOURCES,
                "include_dirs": ["csrc/include"],
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
            cxx_std=17,
        )
    ],
    cffi_modules=["csrc/bindings/capi_build.py:ffibuilder"],
)
