"""What commands read: files, and standard input in an argument's place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from powfast.errors import InvalidInput

if TYPE_CHECKING:
    from powfast.profile import Fleet


def read_fleet(file: Path) -> Fleet:
    """Return a fleet, or a client profile as a fleet of its own, from its file."""
    from powfast.profile import Fleet

    try:
        return Fleet.from_json(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{file}: {error}") from None


def read_text(file: Path) -> str:
    """Return what stands in a file of text."""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from None


def argument_or_stdin(argument: str) -> str:
    """Return the argument, or for - what stands on standard input."""
    return sys.stdin.read().strip() if argument == "-" else argument
