"""Challenges: signed, single-use, expiring tokens that carry a puzzle and what it is bound to.

A token is, big-endian and without a byte more:

    b"powfast/c1" | algorithm u8 | id 16 | work u64 | parts u16 | issued u64 ms | expires u64 ms
    | key id | account | group | request (each after a u8 length) | HMAC-SHA256 over all before

and the puzzle's seed is the SHA-256 of the whole token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import secrets
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from powfast import errors, puzzle
from powfast.errors import InvalidInput
from powfast.puzzle import MAX_PARTS, MAX_WORK, CancelFlag, Progress, Puzzle, Solution

TAG = b"powfast/c1"
ALGORITHM = 1
_FIXED = struct.Struct(">10sB16sQHQQ")
_MAC_BYTES = 32
MAX_TOKEN_BYTES = _FIXED.size + 4 * 256 + _MAC_BYTES

Claim = Callable[[bytes, float], bool]
"""Called with a challenge id and its expiry in seconds; true exactly once for each id."""


class Code(IntEnum):
    """What `Issuer.verify_many` says of one item: admitted, or the reason as in errors."""

    ADMITTED = 0
    MALFORMED_TOKEN = 1
    UNKNOWN_KEY = 2
    BAD_SIGNATURE = 3
    NOT_YET_VALID = 4
    EXPIRED = 5
    UNSUPPORTED_ALGORITHM = 6
    WRONG_ACCOUNT = 7
    WRONG_REQUEST = 8
    MALFORMED_SOLUTION = 9
    WRONG_SOLUTION = 10
    ALREADY_REDEEMED = 11
    REFUSED = 12


_CODE_OF: dict[type[errors.Refused], Code] = {
    errors.MalformedToken: Code.MALFORMED_TOKEN,
    errors.UnknownKey: Code.UNKNOWN_KEY,
    errors.BadSignature: Code.BAD_SIGNATURE,
    errors.NotYetValid: Code.NOT_YET_VALID,
    errors.Expired: Code.EXPIRED,
    errors.UnsupportedAlgorithm: Code.UNSUPPORTED_ALGORITHM,
    errors.WrongAccount: Code.WRONG_ACCOUNT,
    errors.WrongRequest: Code.WRONG_REQUEST,
    errors.MalformedSolution: Code.MALFORMED_SOLUTION,
    errors.WrongSolution: Code.WRONG_SOLUTION,
    errors.AlreadyRedeemed: Code.ALREADY_REDEEMED,
}


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a token says; whether it is genuine only its issuer knows.

    Attributes
    ----------
    challenge_id : bytes
        16 random bytes, redeemed once.
    key_id : str
        Which key signed it.
    algorithm : int
        1: the puzzle of `powfast.puzzle`.
    work, parts : int
        As in `Puzzle`.
    issued, expires : float
        Seconds since the epoch, by the server's clock.
    account, group : str
        Who is charged; empty where not bound.
    request : bytes
        Digest of the request it pays for; empty where not bound.
    puzzle : Puzzle
        What has to be solved.
    """

    challenge_id: bytes
    key_id: str
    algorithm: int
    work: int
    parts: int
    issued: float
    expires: float
    account: str
    group: str
    request: bytes
    puzzle: Puzzle


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of what was paid: the challenge's fields, checked. Times in seconds."""

    challenge_id: bytes
    key_id: str
    work: int
    parts: int
    account: str
    group: str
    request: bytes
    issued: float
    expires: float


def decode(token: bytes) -> Challenge:
    """Return what `token` says, without a key and so without knowing whether it is genuine.

    Raises
    ------
    MalformedToken
        If the bytes are not one canonical token.
    UnsupportedAlgorithm
        If the puzzle is of a kind that this version does not know.
    """
    if not isinstance(token, bytes):
        raise errors.MalformedToken(f"a token is bytes, not {type(token).__name__}")
    if not _FIXED.size + 4 + _MAC_BYTES <= len(token) <= MAX_TOKEN_BYTES:
        raise errors.MalformedToken(f"no token has {len(token)} bytes")
    tag, algorithm, challenge_id, work, parts, issued, expires = _FIXED.unpack_from(token)
    fields, end = [], _FIXED.size
    for _ in range(4):
        start = end + 1
        end = start + token[end]
        if end + _MAC_BYTES > len(token):
            raise errors.MalformedToken("a field is longer than the token")
        fields.append(token[start:end])
    if tag != TAG or not fields[0] or end + _MAC_BYTES != len(token):
        raise errors.MalformedToken("no powfast/c1 token, no key id, or bytes too many")
    if algorithm != ALGORITHM:
        raise errors.UnsupportedAlgorithm(f"puzzle algorithm {algorithm}, known is {ALGORITHM}")
    try:
        key_id, account, group = (field.decode() for field in fields[:3])
        task = Puzzle(hashlib.sha256(token).digest(), work, parts)
    except (UnicodeDecodeError, InvalidInput) as error:
        raise errors.MalformedToken(f"a field is out of its range: {error}") from None
    return Challenge(
        challenge_id=challenge_id,
        key_id=key_id,
        algorithm=algorithm,
        work=work,
        parts=parts,
        issued=issued / 1000,
        expires=expires / 1000,
        account=account,
        group=group,
        request=fields[3],
        puzzle=task,
    )


def solve(
    challenge: bytes | Challenge,
    *,
    max_work: int = 2**36,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> Solution:
    """Return the solution of a token or of what `decode` made of it; see `powfast.puzzle.solve`."""
    if not isinstance(challenge, Challenge):
        challenge = decode(challenge)
    return puzzle.solve(
        challenge.puzzle, max_work=max_work, threads=threads, progress=progress, cancel=cancel
    )


# -- text forms


def token_to_text(token: bytes) -> str:
    """Return `token` as unpadded base64url."""
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode("ascii")


def token_from_text(text: str) -> bytes:
    """Return the bytes of unpadded, canonical base64url; raise MalformedToken for other text."""
    if len(text) > MAX_TOKEN_BYTES * 4 // 3 + 4:
        raise errors.MalformedToken(f"no token has {len(text)} characters")
    decoded = _from_base64url(text)
    if decoded is None:
        raise errors.MalformedToken("a token is unpadded base64url")
    return decoded


def solution_to_text(solution: Solution) -> str:
    """Return the nonces as big-endian 64-bit words in unpadded base64url."""
    return token_to_text(struct.pack(f">{len(solution)}Q", *solution))


def solution_from_text(text: str) -> Solution:
    """Return the nonces of `solution_to_text`; raise MalformedSolution for other text."""
    decoded = _from_base64url(text) if len(text) <= MAX_PARTS * 11 else None
    if not decoded or len(decoded) % 8:
        raise errors.MalformedSolution("a solution is 64-bit nonces in unpadded base64url")
    return struct.unpack(f">{len(decoded) // 8}Q", decoded)


def _from_base64url(text: str) -> bytes | None:
    """Return the bytes, or None where another text, or none, encodes them."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if token_to_text(decoded) == text else None


# -- the issuer


class SpentChallenges:
    """Which challenges are redeemed, in this process: a thread-safe `Claim`.

    Ids are kept in buckets by expiry and whole buckets are dropped when their time is over, so
    that memory is bounded by what was redeemed within one lifetime of a challenge.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, width: float = 10.0) -> None:
        self._clock, self._width = clock, width
        self._buckets: dict[int, set[bytes]] = {}
        self._lock = threading.Lock()

    def __call__(self, challenge_id: bytes, expires: float) -> bool:
        """Return True the first time an unexpired `challenge_id` is seen, else False."""
        now = self._clock()
        bucket = int(expires // self._width)
        with self._lock:
            for old in [b for b in self._buckets if (b + 1) * self._width <= now]:
                del self._buckets[old]
            spent = self._buckets.setdefault(bucket, set())
            if expires <= now or challenge_id in spent:
                return False
            spent.add(challenge_id)
            return True

    def __len__(self) -> int:
        """Return how many redeemed challenges are remembered."""
        with self._lock:
            return sum(map(len, self._buckets.values()))


class Issuer:
    """Issues challenges and verifies their solutions.

    Parameters
    ----------
    keys : mapping of str to bytes
        Secrets of at least 32 bytes by key id. The last one signs, all verify.
    ttl : float
        Seconds a challenge lives.
    claim : callable, optional
        ``claim(challenge_id, expires) -> bool``, true exactly once for each id; by default a
        `SpentChallenges` of this process. Several servers need a shared one.
    clock : callable
        Seconds since the epoch.

    Raises
    ------
    InvalidInput
        If there is no key, or a key id, a secret or `ttl` is out of its range.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        ttl: float = 120.0,
        claim: Claim | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not keys:
            raise InvalidInput("an issuer needs at least one key")
        for key_id, secret in keys.items():
            _field("key id", key_id, smallest=1)
            if not isinstance(secret, bytes) or len(secret) < 32:
                raise InvalidInput(f"the secret of key {key_id!r} must be at least 32 bytes")
        if not 0 < ttl < 2**32 or not math.isfinite(ttl):
            raise InvalidInput(f"ttl must be positive seconds, not {ttl!r}")
        self._keys = dict(keys)
        self._ttl_ms = math.ceil(ttl * 1000)
        self._clock = clock
        self._claim = SpentChallenges(clock=clock) if claim is None else claim

    @property
    def ttl(self) -> float:
        """Seconds a challenge lives."""
        return self._ttl_ms / 1000

    def issue(
        self,
        *,
        work: int,
        account: str = "",
        group: str = "",
        request: bytes = b"",
        parts: int | None = None,
    ) -> bytes:
        """Return a fresh token.

        Parameters
        ----------
        work : int
            Expected number of SHA-256 evaluations, 1 .. 2**64 - 1.
        account, group : str
            Who is charged: at most 255 bytes of UTF-8 each.
        request : bytes
            What it pays for, a digest of at most 255 bytes.
        parts : int, optional
            Nonces to find, `default_parts(work)` by default.

        Raises
        ------
        InvalidInput
            If an argument is out of its range.
        """
        work = puzzle.require_int("work", work, 1, MAX_WORK)
        if parts is None:
            parts = puzzle.default_parts(work)
        parts = puzzle.require_int("parts", parts, 1, MAX_PARTS)
        key_id, secret = next(reversed(self._keys.items()))
        now = int(self._clock() * 1000)
        head = _FIXED.pack(
            TAG, ALGORITHM, secrets.token_bytes(16), work, parts, now, now + self._ttl_ms
        )
        body = head + b"".join(
            (
                _field("key id", key_id),
                _field("account", account),
                _field("group", group),
                _field("request", request),
            )
        )
        return body + hmac.digest(secret, body, "sha256")

    def check(
        self, token: bytes, solution: Solution, *, account: str = "", request: bytes = b""
    ) -> Receipt:
        """Return the receipt of a right solution, as `verify`, but redeem nothing."""
        challenge = self._authenticate(token)
        now = self._clock()
        if challenge.issued > now + 1:
            raise errors.NotYetValid("the challenge was issued in the future")
        if challenge.expires <= now:
            raise errors.Expired(f"the challenge expired {now - challenge.expires:.3f} s ago")
        if challenge.account != account:
            raise errors.WrongAccount("the challenge was issued to another account")
        if challenge.request != request:
            raise errors.WrongRequest("the challenge was issued for another request")
        _require_solution(challenge.puzzle, solution)
        return Receipt(
            challenge_id=challenge.challenge_id,
            key_id=challenge.key_id,
            work=challenge.work,
            parts=challenge.parts,
            account=challenge.account,
            group=challenge.group,
            request=challenge.request,
            issued=challenge.issued,
            expires=challenge.expires,
        )

    def verify(
        self, token: bytes, solution: Solution, *, account: str = "", request: bytes = b""
    ) -> Receipt:
        """Redeem a token: return its receipt once, or raise the reason.

        Nothing is written for a solution that is not right.

        Parameters
        ----------
        token : bytes
            As `issue` returned it.
        solution : tuple of int
            One nonce for each part.
        account : str
            Who asks.
        request : bytes
            The digest of what it asks for.

        Raises
        ------
        Refused
            One subclass for each reason, see `powfast.errors`.
        """
        receipt = self.check(token, solution, account=account, request=request)
        if not self._claim(receipt.challenge_id, receipt.expires):
            raise errors.AlreadyRedeemed("the challenge was redeemed before")
        return receipt

    def verify_many(
        self,
        tokens: Sequence[bytes],
        solutions: Sequence[Solution],
        *,
        accounts: Sequence[str] | None = None,
        requests: Sequence[bytes] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Redeem many tokens; never raises for a single item, whatever it is.

        Parameters
        ----------
        tokens, solutions : sequences of equal length n
            As in `verify`.
        accounts, requests : sequences of length n, optional
            Unbound ("" and b"") by default.

        Returns
        -------
        (n,) uint8
            A `Code` for each item, 0 where it was admitted.

        Raises
        ------
        InvalidInput
            If the lengths differ.
        """
        accounts = [""] * len(tokens) if accounts is None else accounts
        requests = [b""] * len(tokens) if requests is None else requests
        if not len(tokens) == len(solutions) == len(accounts) == len(requests):
            raise InvalidInput("tokens, solutions, accounts and requests must be equally many")
        codes = np.zeros(len(tokens), np.uint8)
        items = zip(tokens, solutions, accounts, requests, strict=True)
        for i, (token, solution, account, request) in enumerate(items):
            try:
                self.verify(token, solution, account=account, request=request)
            except errors.Refused as refused:
                codes[i] = _CODE_OF.get(type(refused), Code.REFUSED)
            except Exception:  # an unexpected error refuses, and only its own item
                codes[i] = Code.REFUSED
        return codes

    def _authenticate(self, token: bytes) -> Challenge:
        """Return what a token that one of the keys signed says."""
        challenge = decode(token)
        secret = self._keys.get(challenge.key_id)
        if secret is None:
            raise errors.UnknownKey("no key of that id is in the ring")
        mac = hmac.digest(secret, token[:-_MAC_BYTES], "sha256")
        if not hmac.compare_digest(mac, token[-_MAC_BYTES:]):
            raise errors.BadSignature("the token was altered, or signed by another key")
        return challenge


def _field(name: str, value: str | bytes, smallest: int = 0) -> bytes:
    """Return `value` after its length in one byte."""
    wanted = bytes if name == "request" else str
    if not isinstance(value, wanted):
        raise InvalidInput(f"{name} must be {wanted.__name__}, not {type(value).__name__}")
    try:
        encoded = value if isinstance(value, bytes) else value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} is not valid Unicode") from None
    if not smallest <= len(encoded) <= 255:
        raise InvalidInput(f"{name} must have {smallest} .. 255 bytes, not {len(encoded)}")
    return bytes((len(encoded),)) + encoded


def _require_solution(task: Puzzle, solution: Solution) -> None:
    """Raise unless `solution` solves `task`."""
    if not isinstance(solution, tuple | list) or len(solution) != task.parts:
        raise errors.MalformedSolution(f"a solution is a tuple of {task.parts} nonces")
    if not all(type(nonce) is int and 0 <= nonce <= MAX_WORK for nonce in solution):
        raise errors.MalformedSolution("a nonce is an integer in 0 .. 2**64 - 1")
    if not puzzle.verify(task, tuple(solution)):
        raise errors.WrongSolution("a nonce does not reach the target of its part")
