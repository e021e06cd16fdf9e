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
    from powfast.challenge import Challenge, Issuer, Receipt, decode
    from powfast.errors import PowfastError
    from powfast.gate import Gate
    from powfast.puzzle import Puzzle, solve, verify

_HOME = {
    "Challenge": "challenge",
    "Gate": "gate",
    "Issuer": "challenge",
    "PowfastError": "errors",
    "Puzzle": "puzzle",
    "Receipt": "challenge",
    "decode": "challenge",
    "solve": "challenge",
    "verify": "puzzle",
}
_MODULES = ("errors", "leakage", "tariff")

__all__ = [*_HOME, *_MODULES, "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"powfast.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"powfast.{name}")
    raise AttributeError(f"module 'powfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
