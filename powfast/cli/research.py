"""For whoever wants to see it: the demo, and the paper's numbers."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from powfast.cli import output
from powfast.errors import MissingExtra


def add_commands(commands: output.Commands) -> None:
    """Add demo and paper."""
    demo = output.add_command(
        commands, "demo", _demo, "Serve a model, use it, try to steal it, and compare the cost."
    )
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--budget",
        type=float,
        default=2.0,
        help="seconds that each extractor solves; beyond it prices are computed (default 2)",
    )
    demo.add_argument("--out", type=Path, default=Path(), help="folder of demo.json and demo.png")

    paper = output.add_command(
        commands, "paper", _paper, "Recompute the paper's Table 2 from its published figures."
    )
    paper.add_argument("action", choices=["table2"])
    paper.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("POWFAST_DATA"),
        required="POWFAST_DATA" not in os.environ,
        help="folder with paper/*.csv (default: POWFAST_DATA)",
    )
    paper.add_argument("--plot", type=Path, help="draw Figures 7 and 8 into this file")


def _demo(arguments: argparse.Namespace) -> int:
    try:
        from powfast.demo import report, run
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the demo needs {error.name}: pip install 'powfast[demo]'") from error

    with output.status("starting") as say:
        result = run.run(seed=arguments.seed, budget=arguments.budget, say=say)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.as_dict(), indent=1)
    (arguments.out / "demo.json").write_text(text + "\n")
    report.plot(result, arguments.out / "demo.png")
    if arguments.json:
        print(text)
    else:
        console = output.console()
        console.print(report.table(result))
        console.print(report.sentence(result))
        console.print("The same figures are in demo.json, the picture in demo.png.")
    return 0


def _paper(arguments: argparse.Namespace) -> int:
    from powfast import paper

    rows = paper.table2(arguments.data)
    if arguments.plot:
        paper.plot(arguments.data, arguments.plot)
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
