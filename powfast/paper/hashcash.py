"""HashCash version 1 stamps: ``ver:bits:date:resource:ext:rand:counter``.

The proof of work of the paper, for comparison and for mail. A stamp is a string whose digest
starts with zeros; whole bits set its price, and one of them in two is luck. See Back, "Hashcash -
a denial of service counter-measure" (2002), and the format at hashcash.org. powfast's own
challenges (`powfast.challenge`) are neither.

Interactive: a server issues a challenge, everything up to the counter, and the client completes
it. Non-interactive: the client makes up date and rand itself; only the double-spend store then
keeps a stamp from being used twice.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from powfast.errors import (
    AlreadyRedeemed,
    Expired,
    InvalidInput,
    MalformedSolution,
    NotYetValid,
    WrongRequest,
    WrongSolution,
)
from powfast.spent import Claim, SpentChallenges

Algorithm = Literal["sha1", "sha256"]
Zeros = Literal["binary", "hexadecimal"]

DAY = 86400.0

_DIGEST_BITS = {"sha1": 160, "sha256": 256}
_MOST_CHARACTERS = 2048
_DATES = {6: "%y%m%d", 10: "%y%m%d%H%M", 12: "%y%m%d%H%M%S"}
_RESOURCE = re.compile(r"[^\s:\x00-\x1f\x7f]+")
_EXTENSION = re.compile(r"[^\s:\x00-\x1f\x7f]*")
_BASE64 = re.compile(r"[0-9A-Za-z+/=]+")


@dataclass(frozen=True)
class Stamp:
    """The fields of a stamp; `date` in seconds since the epoch."""

    bits: int
    date: float
    resource: str
    ext: str
    rand: str
    counter: str


def challenge(
    resource: str,
    bits: int = 20,
    *,
    date: float | None = None,
    ext: str = "",
    rand: str | None = None,
) -> str:
    """Return a stamp without its counter, ending in a colon, to be completed by `solve`.

    Parameters
    ----------
    resource : str
        What the stamp pays for; no colon, no white space.
    bits : int
        Leading zero bits that are asked for.
    date : float, optional
        Seconds since the epoch, written in UTC to the second; now by default.
    ext : str
        Extension field.
    rand : str, optional
        Base64 characters; 96 random bits by default.

    Raises
    ------
    InvalidInput
        If a field does not fit the format.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits <= 256:
        raise InvalidInput(f"bits must be an integer in [0, 256], got {bits!r}")
    rand = secrets.token_hex(12) if rand is None else rand
    for name, value, allowed in (
        ("resource", resource, _RESOURCE),
        ("ext", ext, _EXTENSION),
        ("rand", rand, _BASE64),
    ):
        if not isinstance(value, str) or not allowed.fullmatch(value):
            raise InvalidInput(f"{name} does not fit into a stamp: {value!r}")
    try:
        moment = datetime.fromtimestamp(time.time() if date is None else date, UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        raise InvalidInput(f"date must be seconds since the epoch, got {date!r}") from None
    return f"1:{bits}:{moment:%y%m%d%H%M%S}:{resource}:{ext}:{rand}:"


def solve(
    challenge: str, bits: int, *, algorithm: Algorithm = "sha1", zeros: Zeros = "binary"
) -> str:
    """Return `challenge` with the first hexadecimal counter, from 0, that gives enough zeros.

    Parameters
    ----------
    challenge : str
        Any text; what `challenge` returns makes a stamp.
    bits : int
        Leading zero bits of the digest.
    algorithm : {"sha1", "sha256"}
        SHA-1 is what other programs know.
    zeros : {"binary", "hexadecimal"}
        Hexadecimal rounds up to whole digits, four bits each.

    Raises
    ------
    InvalidInput
        If the algorithm or the way to count is unknown, or the digest has fewer bits.
    """
    limit = _limit(bits, algorithm, zeros)
    prefix = hashlib.new(algorithm, challenge.encode(), usedforsecurity=False)
    counter = 0
    while True:
        digest = prefix.copy()
        digest.update(b"%x" % counter)
        if int.from_bytes(digest.digest()) < limit:
            return f"{challenge}{counter:x}"
        counter += 1


def mint(
    resource: str,
    bits: int = 20,
    *,
    ext: str = "",
    algorithm: Algorithm = "sha1",
    zeros: Zeros = "binary",
) -> str:
    """Return a non-interactive stamp: a challenge of one's own, solved.

    Raises
    ------
    InvalidInput
        If a field does not fit the format.
    """
    return solve(challenge(resource, bits, ext=ext), bits, algorithm=algorithm, zeros=zeros)


def parse(stamp: str) -> Stamp:
    """Read the fields of a stamp.

    Raises
    ------
    MalformedSolution
        If it is not a version 1 stamp of at most 2048 characters.
    """
    if not isinstance(stamp, str) or len(stamp) > _MOST_CHARACTERS:
        raise MalformedSolution(f"a stamp is text of at most {_MOST_CHARACTERS} characters")
    fields = stamp.split(":")
    if len(fields) != 7 or fields[0] != "1":
        raise MalformedSolution("a stamp is 1:bits:date:resource:ext:rand:counter")
    _, bits, date, resource, ext, rand, counter = fields
    if not re.fullmatch(r"[0-9]{1,3}", bits) or not re.fullmatch(r"[0-9]+", date):
        raise MalformedSolution("a stamp's bits and date are decimal numbers")
    if not (
        _RESOURCE.fullmatch(resource)
        and _EXTENSION.fullmatch(ext)
        and _BASE64.fullmatch(rand)
        and _BASE64.fullmatch(counter)
    ):
        raise MalformedSolution("a stamp's resource, ext, rand or counter has wrong characters")
    try:
        moment = datetime.strptime(date, _DATES[len(date)]).replace(tzinfo=UTC)
    except (KeyError, ValueError):
        raise MalformedSolution("a stamp's date is YYMMDD[hhmm[ss]]") from None
    return Stamp(int(bits), moment.timestamp(), resource, ext, rand, counter)


class Checker:
    """Admits each stamp for one resource once.

    Parameters
    ----------
    resource : str
        What stamps must be made out to, letter for letter.
    bits : int
        Least zero bits; a stamp must claim and have them.
    algorithm, zeros
        As for `solve`.
    expiry : float
        Seconds that a stamp is valid from its date on.
    grace : float
        Seconds by which clocks may differ, or time zones where a date has no time.
    claim : callable, optional
        The double-spend store, of the stamps' digests; by default the memory of this process.
    clock : callable
        Seconds since the epoch.

    Raises
    ------
    InvalidInput
        If an argument is out of its range.
    """

    def __init__(
        self,
        resource: str,
        bits: int = 20,
        *,
        algorithm: Algorithm = "sha1",
        zeros: Zeros = "binary",
        expiry: float = 28 * DAY,
        grace: float = 2 * DAY,
        claim: Claim | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not expiry > 0 or not grace >= 0:
            raise InvalidInput("expiry must be positive and grace at least 0 seconds")
        challenge(resource, bits)
        self._limit = _limit(bits, algorithm, zeros)
        self._resource, self._bits, self._algorithm = resource, bits, algorithm
        self._expiry, self._grace, self._clock = expiry, grace, clock
        self._claim = claim or SpentChallenges(clock=clock)

    def challenge(self) -> str:
        """Return a challenge for a client to complete."""
        return challenge(self._resource, self._bits, date=self._clock())

    def check(self, stamp: str, challenge: str | None = None) -> Stamp:
        """Admit a stamp, once.

        Parameters
        ----------
        stamp : str
        challenge : str, optional
            Interactive: what this client was given; the stamp must complete it.

        Raises
        ------
        MalformedSolution
            If it is no stamp.
        WrongRequest
            If it is for another resource, or completes another challenge.
        NotYetValid, Expired
            If its date is out of range.
        WrongSolution
            If it claims or has too few zeros.
        AlreadyRedeemed
            If it was admitted before.
        """
        fields = parse(stamp)
        if fields.resource != self._resource:
            raise WrongRequest(f"the stamp is for {fields.resource!r}, not {self._resource!r}")
        if challenge is not None and stamp != challenge + fields.counter:
            raise WrongRequest("the stamp completes another challenge")
        now, expires = self._clock(), fields.date + self._expiry + self._grace
        if fields.date > now + self._grace:
            raise NotYetValid("the stamp's date lies in the future")
        if expires <= now:
            raise Expired("the stamp's time is over")
        digest = hashlib.new(self._algorithm, stamp.encode(), usedforsecurity=False).digest()
        if fields.bits < self._bits or int.from_bytes(digest) >= self._limit:
            raise WrongSolution(f"the stamp has fewer than {self._bits} bits")
        if not self._claim(digest, expires):
            raise AlreadyRedeemed("the stamp was spent before")
        return fields


def _limit(bits: int, algorithm: str, zeros: str) -> int:
    """Smallest number that is no digest with `bits` leading zeros."""
    if algorithm not in _DIGEST_BITS or zeros not in ("binary", "hexadecimal"):
        raise InvalidInput(
            "algorithm is 'sha1' or 'sha256', zeros are 'binary' or 'hexadecimal', "
            f"got {algorithm!r} and {zeros!r}"
        )
    if isinstance(bits, bool) or not isinstance(bits, int):
        raise InvalidInput(f"bits must be an integer, got {bits!r}")
    counted = bits if zeros == "binary" else -(-bits // 4) * 4
    if not 0 <= counted <= _DIGEST_BITS[algorithm]:
        raise InvalidInput(f"{algorithm} has {_DIGEST_BITS[algorithm]} bits, {bits} are asked for")
    return int(1 << (_DIGEST_BITS[algorithm] - counted))
