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
    solve.add_argument("token", help="the challenge, or - to read it from standard input")
    solve.add_argument("--max-work", type=int, help="refuse more (default 2^32: a laptop's minute)")
    solve.add_argument("--threads", type=int, help="solver threads (default: all cores)")


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
