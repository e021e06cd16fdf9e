"""Build powfast._capi: the C ABI through cffi, taken verbatim from the public header."""

from pathlib import Path

from cffi import FFI

HEADER = Path(__file__).resolve().parents[1] / "include" / "powfast.h"

_declarations = HEADER.read_text().split("/* cdef: begin", 1)[1]
_declarations = _declarations.split("*/", 1)[1].split("/* cdef: end", 1)[0]

ffibuilder = FFI()
ffibuilder.cdef(_declarations)
ffibuilder.set_source(
    "powfast._capi",
    '#include "powfast.h"',
    include_dirs=["csrc/include"],
    depends=["csrc/include/powfast.h"],
)
