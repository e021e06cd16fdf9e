"""The ring of signing keys as a file: made, rotated with overlap, and read again while serving.

A ring holds one key that signs, the one that signs next, and those that signed before and still
verify. Because every server knows the next key before any of them signs with it, a rotation loses
no challenge, however late each of them reads the file, as long as all have read one rotation
before the next.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from powfast.challenge import Issuer
from powfast.errors import InvalidInput
from powfast.puzzle import Algorithm
from powfast.spent import Claim

_LOGGER = logging.getLogger("powfast")
_HEADER = "# powfast key ring: secret. `powfast keys` writes it.\n"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_INLINE = re.compile(r"([^:,\s]{1,255}):([0-9A-Fa-f]{64,})")


class Stage(StrEnum):
    """What a key of the ring is for; every one of them verifies."""

    RETIRED = "retired"
    NEXT = "next"
    SIGNS = "signs"


@dataclass(frozen=True)
class Key:
    """One key; `since` is when it entered its stage, in seconds since the epoch."""

    key_id: str
    secret: bytes
    stage: Stage
    since: float

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"Key({self.key_id!r}, {self.stage}, since={self.since})"


def new_key(stage: Stage, now: float) -> Key:
    """Make a key of 32 random bytes, named after the day."""
    day = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
    return Key(f"{day}-{secrets.token_hex(3)}", secrets.token_bytes(32), stage, now)


def new_ring(now: float) -> list[Key]:
    """Make a ring: a key that signs, and the one after it."""
    return [new_key(Stage.SIGNS, now), new_key(Stage.NEXT, now)]


def rotated(ring: list[Key], now: float, overlap: float) -> list[Key]:
    """Let the next key sign, with a new one after it, and drop what was retired before.

    Parameters
    ----------
    ring : list of Key
    now : float
        Seconds since the epoch.
    overlap : float
        Seconds between two rotations at least: the lifetime of a challenge, and the time until
        the last server has read the new ring.

    Raises
    ------
    InvalidInput
        If the rotation before is younger than that, or the overlap is no number from 0 on.
    """
    if not overlap >= 0.0:
        raise InvalidInput(f"the overlap is a number of seconds from 0 on, not {overlap}")
    after = {Stage.NEXT: Stage.SIGNS, Stage.SIGNS: Stage.RETIRED}
    age = min((now - key.since for key in ring if key.stage is Stage.RETIRED), default=overlap)
    if age < overlap:
        raise InvalidInput(
            f"the ring was rotated {age:.0f} s ago, its overlap is {overlap:.0f} s: challenges"
            " of the key before are still about"
        )
    kept = [replace(key, stage=after[key.stage], since=now) for key in ring if key.stage in after]
    return [*kept, new_key(Stage.NEXT, now)]


def secrets_by_id(ring: list[Key]) -> dict[str, bytes]:
    """Return what an `Issuer` takes: the key that signs last."""
    ordered = sorted(ring, key=lambda key: key.stage is Stage.SIGNS)
    return {key.key_id: key.secret for key in ordered}


def parse_inline(text: str) -> dict[str, bytes]:
    """Read a ring written as ``id:hex,id:hex``, the last of which signs.

    Raises
    ------
    InvalidInput
        If it is not; no secret is repeated.
    """
    found = [_INLINE.fullmatch(pair.strip()) for pair in text.split(",")]
    pairs = [(pair[1], pair[2]) for pair in found if pair and not len(pair[2]) % 2]
    if len({key_id for key_id, _ in pairs}) != len(found):
        raise InvalidInput(
            "keys have to be id:hex,id:hex with different ids and 32 bytes or more each"
        )
    return {key_id: bytes.fromhex(secret) for key_id, secret in pairs}


# -- the file


def read(path: Path) -> list[Key]:
    """Read a ring.

    Raises
    ------
    InvalidInput
        If the file cannot be read or is no ring; no secret is repeated.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the key ring {path} cannot be read: {error}") from None
    keys = content.pop("keys", None)
    if content or not isinstance(keys, dict) or not keys:
        raise InvalidInput(f"the key ring {path} has to hold tables [keys.ID], nothing else")
    ring = [_key(path, key_id, fields) for key_id, fields in keys.items()]
    if [key.stage for key in ring].count(Stage.SIGNS) != 1:
        raise InvalidInput(f"in the key ring {path} one key has to sign, not none nor several")
    return ring


def write(path: Path, ring: list[Key], *, replace_file: bool) -> None:
    """Write a ring that only its owner can read, whole or not at all.

    Raises
    ------
    InvalidInput
        If the file exists and is not to be replaced, or its folder cannot be written.
    """
    tables = [
        f'\n[keys.{key.key_id}]\nstage = "{key.stage}"\n'
        f"since = {datetime.fromtimestamp(key.since, UTC).isoformat(timespec='seconds')}\n"
        f'secret = "{key.secret.hex()}"\n'
        for key in ring
    ]
    try:
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(_HEADER + "".join(tables))
            file.flush()
            os.fsync(file.fileno())
        if replace_file:
            Path(draft).replace(path)
        else:
            os.link(draft, path)
    except FileExistsError:
        raise InvalidInput(f"{path} exists: rotate it, or remove it first") from None
    finally:
        Path(draft).unlink(missing_ok=True)


def _key(path: Path, key_id: str, fields: Any) -> Key:
    try:
        secret, since = bytes.fromhex(fields["secret"]), fields["since"].timestamp()
        stage = Stage(fields["stage"])
        if len(fields) == 3 and len(secret) >= 32 and _ID.fullmatch(key_id):
            return Key(key_id, secret, stage, since)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        pass
    raise InvalidInput(
        f"key {key_id[:64]!r} of {path} needs stage (signs, next or retired), since (a time)"
        " and secret (32 bytes or more in hexadecimal)"
    )


class FileIssuer(Issuer):
    """An `Issuer` whose ring is a file, read again once it has changed.

    It looks when it issues or verifies. A ring that cannot be read later on changes nothing: the
    one before it stays in use.

    Parameters
    ----------
    path : Path
        What `powfast keys` wrote.
    ttl : float
        Seconds a challenge lives.
    every : float
        Seconds between two looks at the file.
    claim, clock
        As in `Issuer`.

    Raises
    ------
    InvalidInput
        If the file is no ring when the issuer is made.
    """

    def __init__(
        self,
        path: Path,
        *,
        ttl: float = 120.0,
        every: float = 5.0,
        claim: Claim | None = None,
        clock: Callable[[], float] = time.time,
        algorithms: Collection[Algorithm] = (Algorithm.SHA256,),
    ) -> None:
        self._path, self._every = path, every
        self._version = _version(path)
        self._looked = clock()
        self._lock = threading.Lock()
        super().__init__(
            secrets_by_id(read(path)), ttl=ttl, claim=claim, clock=clock, algorithms=algorithms
        )

    def _refresh(self) -> None:
        """Read the file again where it is time to look, and it is another one."""
        now = self._clock()
        if abs(now - self._looked) < self._every or not self._lock.acquire(blocking=False):
            return
        try:
            self._looked = now
            version = _version(self._path)
            if version != self._version:
                self._use(secrets_by_id(read(self._path)))
                self._version = version
        except InvalidInput as error:
            _LOGGER.error("the ring in use stays: %s", error)
        finally:
            self._lock.release()


def _version(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
