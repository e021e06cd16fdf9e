"""The command `powfast`: a module for each of its commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from powfast.cli import (
    about,
    account,
    bench,
    calibrate,
    demo,
    keys,
    leakage,
    paper,
    profile,
    serve,
    solve,
    verify,
)
from powfast.cli.output import print_json
from powfast.errors import PowfastError, Refused, TooMuchWork

# in the order of `powfast --help`
COMMANDS = (
    *(solve, verify, bench, profile),
    *(leakage, calibrate, keys, account, serve),
    *(demo, paper),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    0 done; 1 the answer is no: a solution refused, too much work, drift, nothing defended; 2 wrong
    use, settings or files; 130 Ctrl-C; 141 nobody reads any more, as shells say it.
    """
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (PowfastError, OSError) as error:
        if arguments.json:
            print_json({"error": getattr(error, "code", "system"), "detail": str(error)})
        else:
            print(f"powfast: {error}", file=sys.stderr)
        return 1 if isinstance(error, Refused | TooMuchWork) else 2
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    parser = argparse.ArgumentParser(
        prog="powfast", description="Calibrated proof of work against model extraction."
    )
    parser.add_argument(
        "--version",
        dest="run",
        action="store_const",
        const=about.version,
        help="print the version and the kernel in use",
    )
    for option, text in about.PLACES.items():
        parser.add_argument(
            option, dest="places", action="append_const", const=option, help=f"print {text}"
        )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, errors too, on standard output"
    )
    parser.set_defaults(run=lambda arguments: _without_command(parser, arguments))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def _without_command(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.places:
        return about.places(arguments)
    parser.print_help(sys.stderr)
    return 2
