"""Run the lab and write its report.

    python -m benchmarks.extraction [mnist | cifar10 | smoke | cifar10-smoke] [--workers N]

What is done is kept in .lab/, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.extraction import report, stages
from benchmarks.extraction.attacks import ATTACKS
from benchmarks.extraction.data import ROOT
from benchmarks.extraction.priced import price, solve_for_real
from benchmarks.extraction.results import collect
from benchmarks.extraction.settings import SETTINGS, Setting, cache
from powfast.puzzle import cores

Job = tuple[str, Callable[..., Path], tuple[Any, ...]]


def main() -> None:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("setting", choices=SETTINGS, nargs="?", default="mnist")
    parser.add_argument("--workers", type=int, default=cores(), help="processes (default: cores)")
    parser.add_argument("--docs", type=Path, help="where the report goes (default: docs)")
    arguments = parser.parse_args()
    small = arguments.setting.endswith("smoke")
    docs = arguments.docs or (cache() / "report" if small else ROOT / "docs")
    print(f"report: {run(arguments.setting, arguments.workers, docs)}")


def run(name: str, workers: int, docs: Path) -> Path:
    """Run every stage of a setting, write its report and return the page."""
    setting = SETTINGS[name]
    for library in ("OMP", "OPENBLAS", "MKL"):  # workers inherit it: one thread each
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    bars = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    spawn = multiprocessing.get_context("spawn")
    one_thread = torch.set_num_threads, (1,)
    with Progress(*bars) as progress, ProcessPoolExecutor(workers, spawn, *one_thread) as pool:
        for title, jobs in _stages(setting):
            task = progress.add_task(title, total=len(jobs))
            for done in _finished(pool, jobs):
                progress.update(task, advance=1, description=f"{title}: {done}")
            progress.update(task, description=title)
    return report.write(collect(setting), name, docs)


def _stages(setting: Setting) -> list[tuple[str, list[Job]]]:
    """Return what has to be done, one stage after the other; jobs of a stage run side by side."""
    seeds = setting.seeds
    victims = [(f"seed {seed}", stages.train_victim, (setting, seed)) for seed in seeds]
    asking: list[Job] = []
    for seed in seeds:  # one after the other: a process keeps one seed's world
        asking.append((f"users, seed {seed}", stages.watch_users, (setting, seed)))
        asking += [
            (f"{name}, seed {seed}", stages.extract, (setting, seed, name)) for name in ATTACKS
        ]
    evade: list[Job] = [("through the gate", stages.evade, (setting,))]
    prices = [(f"seed {seed}", price, (setting, seed)) for seed in seeds]
    return [
        ("training victims", victims),
        ("timing calls", [("alone", stages.time_calls, (setting,))]),
        ("users and attacks", [*evade, *asking]),
        ("pricing", prices),
        ("solving for real", [("alone", solve_for_real, (setting,))]),
    ]


def _finished(pool: ProcessPoolExecutor, jobs: list[Job]) -> Iterator[str]:
    """Run jobs, and yield their names as they end."""
    running = {pool.submit(function, *arguments): name for name, function, arguments in jobs}
    for future in as_completed(running):
        future.result()
        yield running[future]


if __name__ == "__main__":
    main()
