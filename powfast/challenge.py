"""Challenges: signed, single-use, expiring tokens that carry a puzzle and what it is bound to.

A token is, big-endian and without a byte more:

    b"powfast/c1" | algorithm u8 | id 16 | work u64 | parts u16 | issued u64 ms | expires u64 ms
    | key id | account | group | request (each after a u8 length) | HMAC-SHA256 over all before

and the puzzle's seed is the SHA-256 of the whole token.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from powfast import __version__, _native, errors, puzzle
from powfast.errors import InvalidInput, require_int
from powfast.kernel import native_kernel, walking_kernel
from powfast.puzzle import (
    MAX_PARTS,
    MAX_WORK,
    Algorithm,
    CancelFlag,
    Progress,
    Puzzle,
    Solution,
    default_parts,
)
from powfast.spent import Claim, SpentChallenges

MAX_TOKEN_BYTES = _native.MAX_TOKEN_BYTES
MIN_PART_WALKS = 50
"""Least walks of a part of `Algorithm.CACHEWALK`, of which verifying takes one."""
MAX_WALK_PARTS = 16
"""Most of its parts: verifying them takes a millisecond at most."""

_ALGORITHM_AT = len("powfast/c1")
_ID = slice(_ALGORITHM_AT + 1, _ALGORITHM_AT + 17)


class Code(IntEnum):
    """What `Issuer.redeem_many` says of one item: admitted, or the reason as in errors."""

    ADMITTED = 0
    MALFORMED_TOKEN = 16
    UNKNOWN_KEY = 17
    BAD_SIGNATURE = 18
    NOT_YET_VALID = 19
    EXPIRED = 20
    UNSUPPORTED_ALGORITHM = 21
    WRONG_ACCOUNT = 22
    WRONG_REQUEST = 23
    MALFORMED_SOLUTION = 24
    WRONG_SOLUTION = 25
    ALREADY_REDEEMED = 26
    REFUSED = 27  # something unexpected, such as a store that fails


_REFUSALS: dict[int, tuple[type[errors.Refused], str]] = {
    Code.MALFORMED_TOKEN: (errors.MalformedToken, "not the bytes of one powfast/c1 token"),
    Code.UNKNOWN_KEY: (errors.UnknownKey, "no key of that id is in the ring"),
    Code.BAD_SIGNATURE: (errors.BadSignature, "the token was altered, or signed by another key"),
    Code.NOT_YET_VALID: (errors.NotYetValid, "the challenge was issued in the future"),
    Code.EXPIRED: (errors.Expired, "the challenge's time is over: ask for a fresh one"),
    Code.UNSUPPORTED_ALGORITHM: (
        errors.UnsupportedAlgorithm,
        "this issuer takes no puzzles of the challenge's algorithm",
    ),
    Code.WRONG_ACCOUNT: (errors.WrongAccount, "the challenge was issued to another account"),
    Code.WRONG_REQUEST: (errors.WrongRequest, "the challenge was issued for another request"),
    Code.MALFORMED_SOLUTION: (
        errors.MalformedSolution,
        "a solution is a tuple of one integer in 0 .. 2**64 - 1 for each part",
    ),
    Code.WRONG_SOLUTION: (errors.WrongSolution, "a nonce does not reach the target of its part"),
}
_CODES = {kind: Code(code) for code, (kind, _) in _REFUSALS.items()}
_CODES[errors.AlreadyRedeemed] = Code.ALREADY_REDEEMED


@dataclass(frozen=True, slots=True)
class Terms:
    """What a token says.

    Attributes
    ----------
    challenge_id : bytes
        16 random bytes, redeemed once.
    key_id : str
        Which key signed it.
    work, parts : int
        As in `Puzzle`.
    account, group : str
        Who is charged; empty where not bound.
    request : bytes
        Digest of the request it pays for; empty where not bound.
    issued, expires : float
        Seconds since the epoch, by the server's clock.
    algorithm : int
        An `Algorithm` of puzzle; `work` counts its digests.
    """

    challenge_id: bytes
    key_id: str
    work: int
    parts: int
    account: str
    group: str
    request: bytes
    issued: float
    expires: float
    algorithm: int


@dataclass(frozen=True, slots=True)
class Challenge(Terms):
    """The terms of a token, genuine or not, and the puzzle that has to be solved."""

    puzzle: Puzzle


@dataclass(frozen=True, slots=True)
class Receipt(Terms):
    """The terms of a token that its issuer signed and whose solution is right."""


def decode(token: bytes) -> Challenge:
    """Return what `token` says, without a key and so without knowing whether it is genuine.

    Raises
    ------
    MalformedToken
        If the bytes are not one canonical token.
    UnsupportedAlgorithm
        If the puzzle is of a kind that this version does not know.
    """
    fields, seed = decode_fields(token)
    return Challenge(*fields, Puzzle(seed, fields[2], fields[3], Algorithm(fields[-1])))


def _id_of(token: bytes) -> bytes:
    """Return the challenge id of a well-formed token; of anything else something that is none."""
    return token[_ID] if isinstance(token, bytes) else b""


def decode_fields(token: bytes) -> tuple[_native.Fields, bytes]:
    """Return what `decode` says, as a tuple in the order of `Terms`, and the puzzle's seed."""
    said = _native.decode(native_kernel(), token)
    if said == Code.UNSUPPORTED_ALGORITHM:
        known = " and ".join(str(int(algorithm)) for algorithm in Algorithm)
        raise errors.UnsupportedAlgorithm(
            f"the challenge is a puzzle of algorithm {token[_ALGORITHM_AT]}, and powfast"
            f" {__version__} knows {known}: a later version is needed"
        )
    if isinstance(said, int):
        kind, reason = _REFUSALS[said]
        raise kind(reason)
    return said


def solve(
    challenge: bytes | Challenge,
    *,
    max_work: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> Solution:
    """Return the solution of a token, or of what `decode` made of it.

    The rest is as in `powfast.puzzle.solve`.

    Raises
    ------
    MalformedToken, UnsupportedAlgorithm
        As `decode`.
    TooMuchWork, Cancelled
        As `powfast.puzzle.solve`.
    """
    return puzzle.solve(
        _puzzle_of(challenge), max_work=max_work, threads=threads, progress=progress, cancel=cancel
    )


def verify(challenge: bytes | Challenge, solution: Solution) -> bool:
    """Return whether `solution` solves a token, or what `decode` made of it, whoever signed it.

    Needs no key, looks at no clock and redeems nothing: the same solution is right again and
    again. Servers redeem, see `Issuer.redeem`.

    Raises
    ------
    MalformedToken, UnsupportedAlgorithm
        As `decode`.
    """
    return puzzle.verify(_puzzle_of(challenge), solution)


def _puzzle_of(challenge: bytes | Challenge) -> Puzzle:
    return (challenge if isinstance(challenge, Challenge) else decode(challenge)).puzzle


# -- text forms


def token_to_text(token: bytes) -> str:
    """Return `token` as unpadded base64url."""
    return _native.base64url(token)


def token_from_text(text: str) -> bytes:
    """Return the bytes of unpadded, canonical base64url; raise MalformedToken for other text."""
    if len(text) > MAX_TOKEN_BYTES * 4 // 3 + 4:
        raise errors.MalformedToken(f"no token has {len(text)} characters")
    decoded = _native.from_base64url(text)
    if decoded is None:
        raise errors.MalformedToken("a token is unpadded base64url")
    return decoded


def solution_to_text(solution: Solution) -> str:
    """Return the nonces as big-endian 64-bit words in unpadded base64url."""
    return token_to_text(struct.pack(f">{len(solution)}Q", *solution))


def solution_from_text(text: str) -> Solution:
    """Return the nonces of `solution_to_text`; raise MalformedSolution for other text."""
    decoded = _native.from_base64url(text) if len(text) <= MAX_PARTS * 11 else None
    if not decoded or len(decoded) % 8:
        raise errors.MalformedSolution("a solution is 64-bit nonces in unpadded base64url")
    return struct.unpack(f">{len(decoded) // 8}Q", decoded)


# -- the issuer


class Issuer:
    """Issues challenges and redeems their solutions.

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
    algorithms : collection of Algorithm
        Whose puzzles it issues and takes; SHA-256 alone by default. Verifying one of
        `Algorithm.CACHEWALK` takes a walk, some 30 us, for each part.

    Raises
    ------
    InvalidInput
        If there is no key, or a key id, a secret, `ttl` or `algorithms` is out of its range.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        ttl: float = 120.0,
        claim: Claim | None = None,
        clock: Callable[[], float] = time.time,
        algorithms: Collection[Algorithm] = (Algorithm.SHA256,),
    ) -> None:
        if not 0 < ttl < 2**32 or not math.isfinite(ttl):
            raise InvalidInput(f"ttl must be positive seconds, not {ttl!r}")
        if not algorithms or not set(algorithms) <= set(Algorithm):
            raise InvalidInput(f"algorithms must be some of {list(Algorithm)}, not {algorithms!r}")
        self.algorithms: frozenset[Algorithm] = frozenset(map(Algorithm, algorithms))
        walks = Algorithm.CACHEWALK in self.algorithms
        self._wrong = SpentChallenges(clock=clock) if walks else None
        self._use(keys)
        self._ttl_ms = math.ceil(ttl * 1000)
        self._clock = clock
        self._claim = SpentChallenges(clock=clock) if claim is None else claim

    def _use(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise InvalidInput("an issuer needs at least one key")
        for key_id, secret in keys.items():
            if not isinstance(key_id, str) or not 1 <= len(key_id.encode()) <= 255:
                raise InvalidInput(f"a key id must be text of 1 .. 255 bytes, not {key_id!r}")
            if not isinstance(secret, bytes) or len(secret) < 32:
                raise InvalidInput(f"the secret of key {key_id!r} must be at least 32 bytes")
        kernel = native_kernel() if self._wrong is None else walking_kernel()
        allowed = sum(1 << algorithm for algorithm in self.algorithms)
        self._ring = _native.Ring(kernel, list(keys.items()), allowed)
        self._issue = self._ring.issuer()
        self._check = self._ring.checker(_REFUSALS)

    def _refresh(self) -> None:
        """Use the keys as they are now, before they are used; these never change."""

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
        algorithm: Algorithm = Algorithm.SHA256,
    ) -> bytes:
        """Return a fresh token.

        Parameters
        ----------
        work : int
            Expected number of digests, 1 .. 2**64 - 1: of SHA-256 evaluations, or of walks, of
            which each part has at least `MIN_PART_WALKS`, and of `MAX_WALK_PARTS` parts at most.
        account, group : str
            Who is charged: at most 255 bytes of UTF-8 each.
        request : bytes
            What it pays for, a digest of at most 255 bytes.
        parts : int, optional
            Nonces to find, `default_parts(work)` by default.
        algorithm : Algorithm
            Which digest; one of the issuer's `algorithms`.

        Raises
        ------
        InvalidInput
            If an argument is out of its range.
        """
        self._refresh()
        if algorithm is not Algorithm.SHA256 or algorithm not in self.algorithms:
            self._require_algorithm(algorithm, work, parts)
        id_, now, lifetime = os.urandom(16), self._clock(), self._ttl_ms
        token = self._issue(id_, work, parts, now, lifetime, account, group, request, algorithm)
        if token is None:  # an integer of another type, or what cannot be issued
            work = require_int("work", work, 1, MAX_WORK)
            if parts is not None:
                parts = require_int("parts", parts, 1, MAX_PARTS)
            token = self._issue(id_, work, parts, now, lifetime, account, group, request, algorithm)
        if token is None:
            raise InvalidInput(
                "account and group must be text of at most 255 bytes in UTF-8,"
                " and request at most 255 bytes"
            )
        return token

    def _require_algorithm(self, algorithm: Algorithm, work: int, parts: int | None) -> None:
        if algorithm not in self.algorithms:
            raise InvalidInput(f"algorithm must be one of {sorted(self.algorithms)}")
        if algorithm != Algorithm.CACHEWALK:
            return
        parts = default_parts(work) if parts is None else parts
        if parts > MAX_WALK_PARTS or work < MIN_PART_WALKS * parts:
            bound = f"at most {MAX_WALK_PARTS} parts, and {MIN_PART_WALKS} walks for each"
            raise InvalidInput(f"verifying costs too much: walks are asked for in {bound}")

    def check(
        self, token: bytes, solution: Solution, *, account: str = "", request: bytes = b""
    ) -> Receipt:
        """Return the receipt of a right solution, as `redeem`, but spend nothing.

        Walks are taken once for a challenge whose solution is wrong: after that it is worthless
        to this issuer, however often it comes.
        """
        self._refresh()
        if self._wrong is not None and _id_of(token) in self._wrong:
            raise errors.WrongSolution("it came with a wrong solution before: ask for a fresh one")
        try:
            return Receipt(*self._check(token, solution, self._clock(), account, request))
        except errors.WrongSolution:
            challenge = decode(token)
            if self._wrong is not None and challenge.algorithm == Algorithm.CACHEWALK:
                self._wrong(challenge.challenge_id, challenge.expires)
            raise

    def redeem(
        self, token: bytes, solution: Solution, *, account: str = "", request: bytes = b""
    ) -> Receipt:
        """Spend a token for its solution: return the receipt once, or raise the reason.

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

    def redeem_many(
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
            As in `redeem`.
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
        self._refresh()
        count = len(tokens)
        accounts = ("",) * count if accounts is None else accounts
        requests = (b"",) * count if requests is None else requests
        if not count == len(solutions) == len(accounts) == len(requests):
            raise InvalidInput("tokens, solutions, accounts and requests must be equally many")
        items: tuple[Sequence[Any], ...] = (tokens, solutions, accounts, requests)
        walking = [i for i, token in enumerate(tokens) if self._is_walking(token)]
        if not walking:
            return self._redeem_many(*items)
        codes = np.empty(count, np.uint8)
        for i in walking:
            codes[i] = self._redeem_code(tokens[i], solutions[i], accounts[i], requests[i])
        others = np.setdiff1d(np.arange(count), walking)
        codes[others] = self._redeem_many(*([column[i] for i in others] for column in items))
        return codes

    def _redeem_many(self, *items: Sequence[Any]) -> npt.NDArray[np.uint8]:
        tokens, solutions, accounts, requests = map(tuple, items)
        codes, right = self._ring.check_many(tokens, solutions, self._now(), accounts, requests)
        codes[codes == Code.ADMITTED] = self._claim_many(right)
        return codes

    def _is_walking(self, token: bytes) -> bool:
        """Whether it seems to ask for walks, which are taken once for a wrong solution."""
        if self._wrong is None or not isinstance(token, bytes):
            return False
        return token[_ALGORITHM_AT : _ALGORITHM_AT + 1] == bytes([Algorithm.CACHEWALK])

    def _redeem_code(self, token: bytes, solution: Solution, account: str, request: bytes) -> Code:
        """Return the `Code` of one item, redeemed by itself: a walk takes longer than that."""
        try:
            self.redeem(token, solution, account=account, request=request)
        except errors.Refused as error:
            return _CODES.get(type(error), Code.REFUSED)
        except Exception:  # an unexpected error refuses, and only its own item
            return Code.REFUSED
        return Code.ADMITTED

    def _claim_many(self, challenges: list[tuple[bytes, float]]) -> list[Code]:
        """Return ADMITTED, ALREADY_REDEEMED, or REFUSED where the store fails, for each."""
        if isinstance(self._claim, SpentChallenges):
            outcomes = self._claim.claim_many(challenges)
            return [Code.ADMITTED if won else Code.ALREADY_REDEEMED for won in outcomes]
        codes = []
        for challenge in challenges:
            try:
                won = self._claim(*challenge)
            except Exception:  # an unexpected error refuses, and only its own item
                codes.append(Code.REFUSED)
            else:
                codes.append(Code.ADMITTED if won else Code.ALREADY_REDEEMED)
        return codes

    def _now(self) -> int:
        return max(0, int(self._clock() * 1000))
