from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Solution = tuple[int, ...]
Fields = tuple[bytes, str, int, int, str, str, bytes, float, float, int]
Headers = tuple[tuple[bytes, bytes], ...]

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
    def walk_selftest(self) -> bool: ...
    def verifier(self) -> Callable[[bytes, int, int, Solution], bool]: ...
    def hasher(self) -> Callable[[bytes], bytes]: ...
    def field_hasher(self) -> Callable[..., bytes | None]: ...
    def verify_tuples(
        self,
        seeds: npt.NDArray[np.uint8],
        works: npt.NDArray[np.uint64],
        solutions: list[Solution],
        parts: int,
        algorithm: int,
    ) -> npt.NDArray[np.bool_]: ...
    def verify_batch(
        self,
        seeds: npt.NDArray[np.uint8],
        works: npt.NDArray[np.uint64],
        nonces: npt.NDArray[np.uint64],
        algorithm: int,
    ) -> npt.NDArray[np.bool_]: ...

def decode(kernel: Kernel, token: object) -> tuple[Fields, bytes] | int: ...
def default_parts(work: int) -> int: ...
def base64url(given: bytes, /) -> str: ...
def from_base64url(text: str, /) -> bytes | None: ...

Run = bytes
Half = tuple[float, float]
Party = tuple[bytes | None, float, bool]
Limits = tuple[float, float, float]
AccountFields = tuple[tuple[float, ...], float, float, bool, float, float, bytes | None]
Advance = tuple[bytes, bytes, bytes]

class MemoryLedger:
    """The accounts of one process, see `powfast.stores.base.Ledger` for each operation."""

    def __init__(
        self,
        kernel: Kernel,
        tariff: Tariff,
        half_lives: Half,
        shared_name: type[str],
        max_accounts: int,
        remember: float,
        skew: float,
        now: float,
    ) -> None: ...
    def enter(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: Run,
        limits: Limits,
        again: tuple[bytes, float, bool] | None,
        queries: int,
        newcomers: str,
        now: float,
        /,
    ) -> tuple[int, float, Run, bytes | None, bytes | None]:
        """Return the verdict, the work it is about, the run, and both sketches."""
    def charge(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: Run,
        evidence: list[float],
        paid: tuple[bytes, float, bool] | None,
        newcomers: str,
        advance: Advance | None,
        group_advance: Advance | None,
        now: float,
        /,
    ) -> tuple[float, float, float, float, float]:
        """Return the fields of `Charged`."""
    def leave(
        self, account: str, group: str, digest: bytes, run: Run, outcome: int, now: float, /
    ) -> None:
        """End a run."""
    def redeem(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge: tuple[bytes, float],
        work: int,
        now: float,
        /,
    ) -> tuple[int, Run, float, float]:
        """Return the verdict, the run that was paid for, what is still due, and the balance."""
    def report(
        self,
        account: str,
        group: str,
        report: bytes,
        evidence: list[float],
        paid: float,
        newcomers: str,
        now: float,
        /,
    ) -> None:
        """Charge an answer that was read."""
    def account(self, account: str, group: str, now: float, /) -> AccountFields | None:
        """Return an account's fields, see `AccountRecord`."""
    def reset(self, account: str, group: str, now: float, /) -> None:
        """Let an account owe nothing."""
    def newcomers(self, pool: str, /) -> AccountFields | None:
        """Return a pool's fields."""
    def reset_newcomers(self, pool: str, now: float, /) -> None:
        """Let nothing unusual have happened to a pool."""

class HeldAnswers:
    """The answers that one process holds; times are seconds of any clock."""

    def __init__(
        self,
        kernel: Kernel,
        overhead: int,
        all_bytes: int,
        answer_bytes: int,
        expire_at_once: int,
        evict_at_once: int,
    ) -> None:
        """`overhead` counts in the bytes of all and of one answer."""
    def put(
        self,
        account: str,
        run: bytes,
        answer: tuple[int, Headers, bytes],
        now: float,
        expires: float,
        /,
    ) -> bool:
        """Keep an answer where there is room for it; return whether."""
    def get(
        self, account: str, run: bytes, now: float, until: float | None, /
    ) -> tuple[int, Headers, bytes] | None:
        """Return an answer that is held; with `until` it is paid, and kept at least until then."""
    def usage(self) -> tuple[int, int, int, int]:
        """Return answers, bytes, and how many were abandoned and evicted since the last call."""

class Tariff:
    """A tariff: what queries cost, and what a ledger does to records that it keeps as bytes."""

    def __init__(
        self,
        numbers: tuple[float, ...],
        bets: Sequence[float],
        volume: Sequence[tuple[float, float]],
        probation: bool,
        account_evidence: bool,
    ) -> None: ...
    def price_array(
        self,
        evidence: npt.NDArray[np.float64],
        own: npt.NDArray[np.float64] | None,
        state: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return prices (n,) and the state after them; None: a value is out of its range.

        The state is (8,), or (17,) with a second e-process, which account evidence `own` drives.
        """
    def newcomers_array(
        self, evidence: npt.NDArray[np.float64], state: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return heats (n,) and the state (8,) after them; None as above."""
    def publish(self, due: float, /) -> int | None:
        """Return the published work; None: no float, or out of its range."""
    def enter(
        self,
        account: Party,
        group: Party | None,
        newcomers: Party | None,
        request: bytes | None,
        spent: bytes | None,
        again: bool | None,
        run: Run,
        limits: Limits,
        queries: int,
        now: float,
        /,
    ) -> tuple[int, float, Run, bytes, bytes | None, bytes | None, bytes | None, bytes | None]:
        """Return verdict, work, run, the records, None for a spent one that stays, and sketches.

        This, and the operations below: ValueError is a damaged record.
        """
    def charge(
        self,
        account: Party,
        group: Party | None,
        newcomers: Party | None,
        request: bytes | None,
        spent: bytes | None,
        run: Run,
        tag: bytes,
        evidence: list[float],
        advance: Advance | None,
        group_advance: Advance | None,
        now: float,
        /,
    ) -> tuple[
        float,
        float,
        float,
        float,
        float,
        bytes | None,
        bytes | None,
        bytes | None,
        bytes | None,
        bytes | None,
    ]:
        """Return the fields of `Charged` and the records, None for what stays."""
    def leave(
        self, account: Party, request: bytes | None, run: Run, outcome: int, now: float, /
    ) -> tuple[bytes, bytes | None] | None:
        """Return the account's and the request's record; None: both stay."""
    def redeem(
        self, account: Party, request: bytes | None, bound: bool, work: int, now: float, /
    ) -> tuple[int, Run, float, float, bytes, bytes | None, bytes]:
        """Return the fields of `Redeemed`, and the records of account, request and challenge."""
    def spent_run(self, spent: bytes, /) -> Run | None:
        """Return the run that a spent challenge has paid for; None: no request."""
    def report(
        self,
        account: Party,
        group: Party | None,
        newcomers: Party | None,
        request: bytes | None,
        evidence: list[float],
        paid: float,
        now: float,
        /,
    ) -> tuple[bytes, bytes | None, bytes | None, bytes | None] | None:
        """Return the records, None for what stays; None: it was reported before."""
    def read_account(self, account: Party, now: float, /) -> AccountFields:
        """Return the fields of an account's record, aged."""
    def reset_account(self, now: float, /) -> bytes:
        """Return the record of an account that owes nothing."""
    def reset_newcomers(self, now: float, /) -> bytes:
        """Return the record of a pool that nothing unusual has happened to."""

def are_nonnegative(values: object, /) -> bool: ...

class Ring:
    def __init__(self, kernel: Kernel, keys: list[tuple[str, bytes]], algorithms: int) -> None: ...
    def issuer(
        self,
    ) -> Callable[
        [bytes, int, int | None, float, int, object, object, object, int], bytes | None
    ]: ...
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
    def __init__(
        self, kernel: Kernel, seed: bytes, work: int, parts: int, algorithm: int = 1
    ) -> None: ...
    def run(self, seconds: float, threads: int) -> bool: ...
    def stop(self) -> None: ...
    @property
    def evaluations(self) -> int: ...
    @property
    def nonces(self) -> tuple[int, ...]: ...
