"""`powfast keys`: the ring of signing keys."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

from powfast.cli import output


def add_to(commands: output.Commands) -> None:
    """Add the command."""
    keys = output.add_command(
        commands,
        "keys",
        _keys,
        "Make a ring of signing keys (make), rotate it (rotate: the next key signs, the one before "
        "still verifies), or list it without its secrets (show). Running servers read a changed "
        "ring by themselves.",
    )
    keys.add_argument("action", choices=["make", "rotate", "show"], help="what to do")
    keys.add_argument("file", type=Path, help="the ring, readable by its owner only")
    keys.add_argument(
        "--overlap",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="shortest time between two rotations: the lifetime of a challenge, and until the last "
        "server has read the ring (default %(default)s)",
    )


def _keys(arguments: argparse.Namespace) -> int:
    from powfast import keyring

    now = float(int(time.time()))
    if arguments.action == "make":
        ring = keyring.new_ring(now)
        keyring.write(arguments.file, ring, replace_file=False)
    elif arguments.action == "rotate":
        ring = keyring.rotated(keyring.read(arguments.file), now, arguments.overlap)
        keyring.write(arguments.file, ring, replace_file=True)
    else:
        ring = keyring.read(arguments.file)
    rows = [
        (key.key_id, str(key.stage), datetime.fromtimestamp(key.since, UTC).isoformat())
        for key in ring
    ]
    if arguments.json:
        names = ("id", "stage", "since")
        output.print_json({"keys": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        for row in rows:  # no table: a server need not have rich
            print("{:24}{:10}{}".format(*row))
    return 0
