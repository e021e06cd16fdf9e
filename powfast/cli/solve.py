"""`powfast solve`."""

from __future__ import annotations

import argparse
import time

from powfast.cli import output
from powfast.cli.files import argument_or_stdin


def add_to(commands: output.Commands) -> None:
    """Add the command."""
    solve = output.add_command(
        commands, "solve", _solve, "Solve a challenge and print the PoW-Solution header's value."
    )
    solve.add_argument(
        "token",
        help='the challenge, as in challenge="..." of WWW-Authenticate; - reads it from standard '
        "input",
    )
    solve.add_argument(
        "--max-work",
        type=int,
        metavar="N",
        help="refuse a challenge over more expected hashes than this (default 4294967296, about a "
        "minute of a laptop)",
    )
    solve.add_argument(
        "--threads", type=int, metavar="N", help="threads that solve (default: all cores)"
    )


def _solve(arguments: argparse.Namespace) -> int:
    from powfast.challenge import decode, token_from_text
    from powfast.http import format_solution
    from powfast.puzzle import solve_counted

    token = token_from_text(argument_or_stdin(arguments.token))
    puzzle = decode(token).puzzle
    started = time.perf_counter()
    with output.progress("solving") as progress:
        solution, evaluations = solve_counted(
            puzzle, max_work=arguments.max_work, threads=arguments.threads, progress=progress
        )
    line = format_solution(token, solution)
    if arguments.json:
        seconds = time.perf_counter() - started
        measured = {"work": puzzle.work, "evaluations": evaluations, "seconds": seconds}
        output.print_json({"solution": line, **measured})
    else:
        print(line)
    return 0
