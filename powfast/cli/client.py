"""For whoever solves, verifies and embeds: version, places of the library, solve, verify."""

from __future__ import annotations

import argparse
import sys
import time

import powfast
from powfast.cli import output
from powfast.errors import InvalidInput

PLACES = {
    "--cflags": "what compiles a C program on the library in this package",
    "--libs": "what links it",
    "--pkgconfigdir": "the folder of powfast.pc",
}


def add_commands(commands: output.Commands) -> None:
    """Add solve and verify."""
    solve = output.add_command(
        commands, "solve", _solve, "Solve a challenge and print the PoW-Solution header's value."
    )
    solve.add_argument("token", help="the challenge, or - to read it from standard input")
    solve.add_argument("--max-work", type=int, help="refuse more (default 2^32: a laptop's minute)")
    solve.add_argument("--threads", type=int, help="solver threads (default: all cores)")

    verify = output.add_command(
        commands,
        "verify",
        _verify,
        "Check a PoW-Solution header's value with the server's keys (POWFAST_KEYS_FILE, or "
        "POWFAST_KEYS=id:hex,id:hex). Whether it was redeemed before only its ledger knows.",
    )
    verify.add_argument("solution", help="<token>.<nonces>, or - to read it from standard input")
    verify.add_argument("--account", default="")
    verify.add_argument("--request", default="", help="the request's digest in hexadecimal")


def version(arguments: argparse.Namespace) -> int:
    """Print the version and the kernel in use."""
    from powfast.kernel import active_kernel

    kernel = active_kernel()
    if arguments.json:
        output.print_json({"version": powfast.__version__, "kernel": kernel})
    else:
        print(f"powfast {powfast.__version__} (kernel {kernel})")
    return 0


def places(arguments: argparse.Namespace) -> int:
    """Print where the C library is, in the order asked for, for a compiler's command line."""
    words = {
        "--cflags": f"-I{powfast.get_include()}",
        "--libs": powfast.get_library(),
        "--pkgconfigdir": powfast.get_pkgconfig(),
    }
    if arguments.json:
        output.print_json({option.lstrip("-"): words[option] for option in arguments.places})
    else:
        print(*(words[option] for option in arguments.places))
    return 0


def _solve(arguments: argparse.Namespace) -> int:
    from powfast.challenge import decode, token_from_text
    from powfast.http import format_solution
    from powfast.puzzle import solve_counted

    token = token_from_text(_argument_or_stdin(arguments.token))
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


def _verify(arguments: argparse.Namespace) -> int:
    from powfast.challenge import Issuer
    from powfast.http import parse_solution
    from powfast.servers.settings import keys_of

    issuer = Issuer(keys_of())
    token, solution = parse_solution(_argument_or_stdin(arguments.solution))
    try:
        request = bytes.fromhex(arguments.request)
    except ValueError:
        raise InvalidInput("--request has to be hexadecimal") from None
    receipt = issuer.check(token, solution, account=arguments.account, request=request)
    if arguments.json:
        fields = {"work": receipt.work, "parts": receipt.parts, "account": receipt.account}
        signed = {"key": receipt.key_id, "expires": receipt.expires}
        output.print_json({"admitted": True, **signed, **fields})
    else:
        print(f"right: {receipt.work} evaluations for account {receipt.account!r}")
    return 0


def _argument_or_stdin(argument: str) -> str:
    return sys.stdin.read().strip() if argument == "-" else argument
