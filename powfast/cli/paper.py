"""`powfast paper`: the paper's numbers."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

from powfast.cli import output


def add_to(commands: output.Commands) -> None:
    """Add the command."""
    paper = output.add_command(
        commands, "paper", _paper, "Recompute the paper's Table 2 from its published figures."
    )
    paper.add_argument("action", choices=["table2"], help="what to recompute")
    paper.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("POWFAST_DATA"),
        required="POWFAST_DATA" not in os.environ,
        help="folder with paper/*.csv (default: POWFAST_DATA)",
    )
    paper.add_argument(
        "--plot",
        type=output.picture,
        help="draw Figures 7 and 8 into this file: .png, .svg or .pdf",
    )


def _paper(arguments: argparse.Namespace) -> int:
    from powfast.paper import figures

    rows = figures.table2(arguments.data)
    if arguments.plot:
        figures.plot(arguments.data, arguments.plot)
    if arguments.json:
        output.print_json({"rows": [{**asdict(row), "deviation": row.deviation} for row in rows]})
        return 0
    table = [
        (
            f"{row.dataset} {row.attack}",
            f"{row.queries:.0f}",
            f"{row.printed_seconds:g}",
            f"{row.seconds:.2f}",
            f"{row.printed_pow_seconds:g}",
            f"{row.pow_seconds:.2f}",
            f"{row.deviation:+.3%}",
        )
        for row in rows
    ]
    times = ("seconds, paper", "ours", "with proof of work, paper", "ours", "deviation")
    output.print_table(("attack", "queries", *times), table)
    return 0
