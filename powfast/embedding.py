"""Where the C library is, for whoever builds against it."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent
_LIBRARY = "powfast.lib" if os.name == "nt" else "libpowfast.a"


def get_include() -> str:
    """Return the folder of `powfast.h`."""
    return str(_PACKAGE / "include")


def get_library() -> str:
    """Return the path of the static library, which needs nothing but the C library."""
    return str(_PACKAGE / "lib" / _LIBRARY)


def get_pkgconfig() -> str:
    """Return the folder of `powfast.pc`, for `PKG_CONFIG_PATH`."""
    return str(_PACKAGE / "lib" / "pkgconfig")
