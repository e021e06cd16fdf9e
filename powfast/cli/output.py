"""How every command prints: JSON, tables, and what moves on a terminal only."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from powfast.errors import MissingExtra

if TYPE_CHECKING:
    from rich.console import Console

Commands = Any  # argparse has no public name for what `add_subparsers` returns
Run = Callable[[argparse.Namespace], int]


def add_command(commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """Add a command with its description and `--json`."""
    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    _add_json(added)
    added.set_defaults(run=run)
    return added


def add_group(commands: Commands, name: str, text: str) -> Commands:
    """Add a command that has actions of its own, and return what they are added to."""
    group = commands.add_parser(name, help=text, description=text)
    _add_json(group)
    return group.add_subparsers(title="actions", metavar="ACTION", required=True)


def _add_json(parser: argparse.ArgumentParser) -> None:
    # suppressed: what was said before, as in `powfast --json COMMAND`, stays said
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print JSON, errors too, on standard output",
    )


def number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], Any]:
    """Return the type of an argument that is a number between two bounds, both included."""

    def read(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low} .. {high}")
        return value

    read.__name__ = kind.__name__  # argparse names it where the text is no number
    return read


PORT = number(int, 0, 65535)


def picture(text: str) -> Path:
    """Return the path of a picture to draw, whose ending says of which kind."""
    path = Path(text)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"{text} does not end in .png, .svg or .pdf")
    return path


def print_json(document: dict[str, Any]) -> None:
    """Print one document on one line."""
    print(json.dumps(document))


def console(stream: TextIO | None = None) -> Console:
    """Return a rich console.

    Raises
    ------
    MissingExtra
        rich is not installed.
    """
    try:
        from rich.console import Console
    except ImportError as error:
        raise MissingExtra("this output needs rich: pip install 'powfast[cli]'") from error
    out = sys.stdout if stream is None else stream
    # A pipe has no width: let nothing be cut there. Names come from files: nothing is markup.
    width = None if out.isatty() else 140
    return Console(file=out, width=width, highlight=False, markup=False)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text; every column but the first is aligned to the right."""
    shown = console()
    from rich.table import Table

    table = Table(header[0])
    for name in header[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    shown.print(table)


@contextmanager
def status(first: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on, on a terminal; say nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda line: None
        return
    with console(sys.stderr).status(first) as shown:
        yield shown.update


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    shown = console(sys.stderr)
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True) as bar:
        task = bar.add_task(name)
        yield lambda done, work: bar.update(task, completed=min(done, work), total=work)
