from collections.abc import Callable, Mapping
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

Solution = tuple[int, ...]
Fields = tuple[bytes, str, int, int, str, str, bytes, float, float]

MAX_PARTS: int
MAX_TOKEN_BYTES: int
UNKNOWN_KERNEL: int
UNSUPPORTED_KERNEL: int

def kernels() -> list[tuple[str, bool, bool]]: ...
def select_kernel() -> tuple[str | None, int, list[str]]: ...

class Kernel:
    def __init__(self, name: str) -> None: ...
    @property
    def name(self) -> str: ...
    def verifier(self) -> Callable[[bytes, int, int, Solution], bool]: ...
    def hasher(self) -> Callable[[bytes], bytes]: ...
    def field_hasher(self) -> Callable[..., bytes | None]: ...
    def verify_tuples(
        self,
        seeds: npt.NDArray[np.uint8],
        works: npt.NDArray[np.uint64],
        solutions: list[Solution],
        parts: int,
    ) -> npt.NDArray[np.bool_]: ...
    def verify_batch(
        self,
        seeds: npt.NDArray[np.uint8],
        works: npt.NDArray[np.uint64],
        nonces: npt.NDArray[np.uint64],
    ) -> npt.NDArray[np.bool_]: ...

def decode(kernel: Kernel, token: object) -> tuple[Fields, bytes] | int: ...
def default_parts(work: int) -> int: ...
def base64url(given: bytes, /) -> str: ...
def asking(token: bytes, /) -> tuple[bytes, bytes]: ...

Page = tuple[bytes | None, float, float]

class Find(Protocol):
    @overload
    def __call__(self, account: str, group: str, /) -> Page | None: ...
    @overload
    def __call__(
        self, account: str, group: str, request: bytes, now: float, /
    ) -> int | Page | None: ...

class Write(Protocol):
    @overload
    def __call__(self, account: str, group: str, page: Page, /) -> None: ...
    @overload
    def __call__(
        self, account: str, group: str, page: Page, request: bytes, work: int, /
    ) -> None: ...

def books(kernel: Kernel, max_accounts: int, remember: float, now: float) -> tuple[Find, Write]: ...
def held(
    kernel: Kernel, per_account: int, in_all: int, account_bytes: int, all_bytes: int
) -> tuple[
    Callable[[str, bytes, float, float], int | str],
    Callable[[str, bytes, float, int, Any, int], None],
    Callable[[str, bytes, float], Any],
    Callable[[float], tuple[int, int, int]],
]: ...

Numbers = tuple[float, float, float, float, float]

def price_few(
    evidence: list[float],
    state: bytes,
    multiples: list[float] | None,
    numbers: Numbers,
    bets: tuple[float, ...],
    /,
) -> tuple[float, bytes] | None: ...
def price_many(
    evidence: npt.NDArray[np.float64],
    state: npt.NDArray[np.float64],
    multiples: npt.NDArray[np.float64] | None,
    numbers: Numbers,
    bets: tuple[float, ...],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None: ...
def are_nonnegative(values: object, /) -> bool: ...
def publish(
    owed: float, carry: float, base_work: float, step: float, /
) -> tuple[int, float] | None: ...

class Ring:
    def __init__(self, kernel: Kernel, keys: list[tuple[str, bytes]]) -> None: ...
    def issuer(
        self,
    ) -> Callable[[bytes, int, int | None, float, int, object, object, object], bytes | None]: ...
    def checker(
        self, refusals: Mapping[int, tuple[type[Exception], str]]
    ) -> Callable[[object, object, float, object, object], Fields]: ...
    def check_many(
        self,
        tokens: tuple[object, ...],
        solutions: tuple[object, ...],
        now: int,
        accounts: tuple[object, ...],
        requests: tuple[object, ...],
    ) -> tuple[npt.NDArray[np.uint8], list[tuple[bytes, float]]]: ...

class Solver:
    def __init__(self, kernel: Kernel, seed: bytes, work: int, parts: int) -> None: ...
    def run(self, seconds: float, threads: int) -> bool: ...
    def stop(self) -> None: ...
    @property
    def evaluations(self) -> int: ...
    @property
    def nonces(self) -> tuple[int, ...]: ...
