"""powfast: calibrated proof of work against model extraction.

The public names are imported when first used: `import powfast` loads neither Numba nor any
web framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import powfast.errors as errors
    import powfast.leakage as leakage
    import powfast.tariff as tariff
    from powfast.challenge import Challenge, Issuer, Receipt, decode, solve, verify
    from powfast.embedding import get_include, get_library, get_pkgconfig
    from powfast.errors import PowfastError
    from powfast.gate import Gate
    from powfast.puzzle import Puzzle
    from powfast.stores import MemoryLedger

__all__ = [
    "Challenge",
    "Gate",
    "Issuer",
    "MemoryLedger",
    "PowfastError",
    "Puzzle",
    "Receipt",
    "__version__",
    "decode",
    "errors",
    "get_include",
    "get_library",
    "get_pkgconfig",
    "leakage",
    "solve",
    "tariff",
    "verify",
]
__version__ = "0.1.0"

_HOME = {
    "Challenge": "challenge",
    "Gate": "gate",
    "Issuer": "challenge",
    "MemoryLedger": "stores",
    "PowfastError": "errors",
    "Puzzle": "puzzle",
    "Receipt": "challenge",
    "decode": "challenge",
    "get_include": "embedding",
    "get_library": "embedding",
    "get_pkgconfig": "embedding",
    "solve": "challenge",
    "verify": "challenge",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"powfast.{_HOME[name]}"), name)
    if name in __all__:
        return import_module(f"powfast.{name}")
    raise AttributeError(f"module 'powfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
