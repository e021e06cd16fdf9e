"""The command `powfast`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import powfast
from powfast.errors import InvalidInput, MissingExtra, PowfastError

if TYPE_CHECKING:
    from rich.console import Console

_DEMO_BUDGET = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 done, 1 refused, 2 wrong use, 130 Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except PowfastError as error:
        if arguments.json:
            _print_json({"error": error.code, "detail": str(error)})
        else:
            print(f"powfast: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


# -- commands


def _version(arguments: argparse.Namespace) -> int:
    from powfast.puzzle import active_kernel

    kernel = active_kernel()
    if arguments.json:
        _print_json({"version": powfast.__version__, "kernel": kernel})
    else:
        print(f"powfast {powfast.__version__} (kernel {kernel})")
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from powfast.profile import hash_rates
    from powfast.puzzle import active_kernel

    active = active_kernel()
    console = None if arguments.json else _console(sys.stdout)
    with _status("measuring hash rates"):
        rates = hash_rates(seconds=arguments.seconds)
    if console is None:
        machine = {"machine": platform.machine(), "version": powfast.__version__}
        _print_json({"kernels": [asdict(rate) for rate in rates], "active": active, **machine})
        return 0
    from rich.table import Table

    table = Table("kernel")
    for name in ("threads", "million hashes/s"):
        table.add_column(name, justify="right")
    for rate in rates:
        name = rate.name + (" (active)" if rate.name == active else "")
        table.add_row(name, str(rate.threads), f"{rate.hashes_per_second / 1e6:.2f}")
    console.print(table)
    return 0


def _solve(arguments: argparse.Namespace) -> int:
    from powfast.challenge import decode, token_from_text
    from powfast.http import format_solution
    from powfast.puzzle import solve_counted

    token = token_from_text(_argument_or_stdin(arguments.token))
    puzzle = decode(token).puzzle
    started = time.perf_counter()
    with _progress("solving") as progress:
        solution, evaluations = solve_counted(
            puzzle, max_work=arguments.max_work, threads=arguments.threads, progress=progress
        )
    line = format_solution(token, solution)
    if arguments.json:
        seconds = time.perf_counter() - started
        measured = {"work": puzzle.work, "evaluations": evaluations, "seconds": seconds}
        _print_json({"solution": line, **measured})
    else:
        print(line)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from powfast.challenge import Issuer
    from powfast.http import parse_solution

    issuer = Issuer(_keys())
    token, solution = parse_solution(_argument_or_stdin(arguments.solution))
    try:
        request = bytes.fromhex(arguments.request)
    except ValueError:
        raise InvalidInput("--request has to be hexadecimal") from None
    receipt = issuer.check(token, solution, account=arguments.account, request=request)
    if arguments.json:
        fields = {"work": receipt.work, "parts": receipt.parts, "account": receipt.account}
        _print_json({"admitted": True, "key": receipt.key_id, "expires": receipt.expires, **fields})
    else:
        print(f"right: {receipt.work} evaluations for account {receipt.account!r}")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    try:
        from powfast.demo import report, run
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the demo needs {error.name}: pip install 'powfast[demo]'") from error

    with _status("starting") as say:
        result = run.run(seed=arguments.seed, budget=arguments.budget, say=say)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.as_dict(), indent=1)
    (arguments.out / "demo.json").write_text(text + "\n")
    report.plot(result, arguments.out / "demo.png")
    if arguments.json:
        print(text)
    else:
        console = _console(sys.stdout)
        console.print(report.table(result))
        console.print(report.sentence(result))
        console.print("The same figures are in demo.json, the picture in demo.png.")
    return 0


# -- arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="powfast", description=powfast.__doc__)
    parser.add_argument("--version", dest="run", action="store_const", const=_version)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=lambda arguments: _usage(parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print JSON")
        added.set_defaults(run=run)
        return added

    demo = command("demo", _demo, "Serve a model, use it, try to steal it, and compare the cost.")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--budget",
        type=float,
        default=_DEMO_BUDGET,
        help="seconds that each extractor solves; beyond it prices are computed (default 2)",
    )
    demo.add_argument("--out", type=Path, default=Path(), help="folder of demo.json and demo.png")

    bench = command("bench", _bench, "Measure the hash rate of every kernel this CPU can run.")
    bench.add_argument("--seconds", type=float, default=5.0, help="time to spend (default 5)")

    solve = command("solve", _solve, "Solve a challenge and print the PoW-Solution header's value.")
    solve.add_argument("token", help="the challenge, or - to read it from standard input")
    solve.add_argument("--max-work", type=int, default=2**36, help="refuse more (default 2^36)")
    solve.add_argument("--threads", type=int, help="solver threads (default: all cores)")

    verify = command(
        "verify",
        _verify,
        "Check a PoW-Solution header's value with the keys in POWFAST_KEYS (id:hex,id:hex). "
        "Whether it was redeemed before only the server's ledger knows.",
    )
    verify.add_argument("solution", help="<token>.<nonces>, or - to read it from standard input")
    verify.add_argument("--account", default="")
    verify.add_argument("--request", default="", help="the request's digest in hexadecimal")
    return parser


def _usage(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return 2


def _argument_or_stdin(argument: str) -> str:
    return sys.stdin.read().strip() if argument == "-" else argument


def _keys() -> dict[str, bytes]:
    ring = os.environ.get("POWFAST_KEYS", "")
    try:
        pairs = [pair.split(":") for pair in ring.split(",")]
        return {key_id: bytes.fromhex(secret) for key_id, secret in pairs}
    except ValueError:
        raise InvalidInput("POWFAST_KEYS has to be id:hex,id:hex with 32 bytes or more") from None


# -- output


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document))


def _console(stream: TextIO) -> Console:
    try:
        from rich.console import Console
    except ImportError as error:
        raise MissingExtra("this output needs rich: pip install 'powfast[cli]'") from error
    # A pipe has no width: let nothing be cut there.
    return Console(file=stream, width=None if stream.isatty() else 140)


@contextmanager
def _status(first: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on, on a terminal; say nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda line: None
        return
    with _console(sys.stderr).status(first) as status:
        yield status.update


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
        task = bar.add_task(name)
        yield lambda done, work: bar.update(task, completed=min(done, work), total=work)


if __name__ == "__main__":
    sys.exit(main())
