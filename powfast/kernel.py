"""Which kernel of the C library hashes here, and hashing with it."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from powfast import _native
from powfast.errors import KernelError


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """One compiled kernel: can this CPU run it, does its self-test pass, is it in use."""

    name: str
    supported: bool
    trusted: bool
    active: bool


def kernels() -> list[KernelInfo]:
    """Return the compiled kernels, best first.

    Raises
    ------
    KernelError
        As `active_kernel`.
    """
    active = active_kernel()
    return [KernelInfo(*row, active=row[0] == active) for row in _native.kernels()]


def active_kernel() -> str:
    """Return the name of the kernel in use.

    Raises
    ------
    KernelError
        If POWFAST_KERNEL names a kernel that is unknown, that this CPU cannot run, or that fails
        its self-test.
    """
    return native_kernel().name


@cache
def native_kernel() -> _native.Kernel:
    """Return the kernel in use; see `active_kernel`."""
    name, status, above = _native.select_kernel()
    wanted = os.environ.get("POWFAST_KERNEL")
    if name is not None:
        if above and not wanted:
            warnings.warn(
                f"kernel {name} is used, for {', '.join(above)} failed the self-test here",
                RuntimeWarning,
                stacklevel=2,
            )
        return _native.Kernel(name)
    reason = {
        _native.UNKNOWN_KERNEL: "there is no such kernel",
        _native.UNSUPPORTED_KERNEL: "this CPU cannot run it",
    }.get(status, "it fails its self-test on this machine")
    names = ", ".join(name for name, _, trusted in _native.kernels() if trusted)
    raise KernelError(f"POWFAST_KERNEL={wanted!r}: {reason}; available: {names}")


@cache
def walking_kernel() -> _native.Kernel:
    """Return the kernel in use, whose walks (docs/cachewalk.md) have given known answers here.

    Raises
    ------
    KernelError
        As `active_kernel`, or if the walks give other answers.
    """
    kernel = native_kernel()
    if not kernel.walk_selftest():
        raise KernelError(f"kernel {kernel.name}: walks give wrong answers on this machine")
    return kernel


def sha256(message: bytes) -> bytes:
    """Return the digest of a short message, in less time than hashlib takes to begin."""
    return _hasher()(message)


def sha256_of_fields(*fields: bytes) -> bytes:
    """Return the digest over each field after its length, 64 bits and big-endian.

    So that no two sequences of fields share a digest.
    """
    digest = _field_hasher()(*fields)
    if digest is None:
        hashed = hashlib.sha256()
        for field in fields:
            hashed.update(len(field).to_bytes(8, "big"))
            hashed.update(field)
        digest = hashed.digest()
    return digest


@cache
def _field_hasher() -> Callable[..., bytes | None]:
    return native_kernel().field_hasher()


@cache
def _hasher() -> Callable[[bytes], bytes]:
    return native_kernel().hasher()
