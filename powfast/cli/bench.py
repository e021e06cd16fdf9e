"""`powfast bench`: measure what solving costs on this device."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powfast.cli import output
from powfast.cli.profile import print_profile
from powfast.errors import InvalidInput

if TYPE_CHECKING:
    from powfast.profile import ClientProfile


def add_to(commands: output.Commands) -> None:
    """Add the command."""
    bench = output.add_command(
        commands,
        "bench",
        _bench,
        "Measure for two minutes how fast this device solves challenges: each kernel, a minute "
        "without a pause, and how long solutions take. --out keeps the result as a client profile.",
    )
    bench.add_argument(
        "--quick", action="store_true", help="take some seconds instead of two minutes"
    )
    bench.add_argument(
        "--browser",
        nargs="?",
        const="",
        metavar="PROGRAM",
        help="measure a Chromium instead of this process: PROGRAM, or the first one found",
    )
    bench.add_argument("--name", help="what to call this device (default: its processor)")
    bench.add_argument("--out", type=Path, help="write the client profile into this file")


def _bench(arguments: argparse.Namespace) -> int:
    if not arguments.json:
        output.console()  # asks for its extra before anything is measured
    if arguments.out:
        _writable(arguments.out)
    with output.status("measuring") as status:
        profile = _measured(arguments, lambda what: status(f"measuring: {what}"))
    if arguments.out:
        arguments.out.write_text(profile.to_json())
    if arguments.json:
        output.print_json(profile.to_dict())
    else:
        print_profile(profile)
    return 0


def _writable(file: Path) -> None:
    """Find out before minutes are spent."""
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise InvalidInput(f"{file} cannot be written")


def _measured(arguments: argparse.Namespace, status: Callable[[str], object]) -> ClientProfile:
    asked: dict[str, Any] = {"name": arguments.name, "quick": arguments.quick, "status": status}
    if arguments.browser is None:
        from powfast.profile import measure_client

        issue, verify = _server_calls()
        return measure_client(**asked, issue=issue, verify=verify)
    from powfast.profile.browser import measure_browser

    return measure_browser(arguments.browser or None, **asked)


def _server_calls() -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what issues one challenge, and what verifies one solution."""
    from powfast.challenge import Issuer, solve

    issuer = Issuer({"bench": bytes(range(32))}, ttl=3600.0)
    token = issuer.issue(work=10_000, account="bench", request=bytes(32))
    solution = solve(token)

    def issue() -> object:
        return issuer.issue(work=10_000, account="bench", request=bytes(32))

    def verify() -> object:
        return issuer.check(token, solution, account="bench", request=bytes(32))

    return issue, verify
