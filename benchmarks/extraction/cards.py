"""What extraction costs on graphics cards, where dear work is asked for in walks.

    python -m benchmarks.extraction.cards [mnist | cifar10 | smoke] [--write]

Prices what the lab has watched (`python -m benchmarks.extraction` first). `--write` puts the tables
into docs/fairness.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain

import numpy as np

from benchmarks.extraction.data import ROOT
from benchmarks.extraction.newcomers import SHARES, Newcomers
from benchmarks.extraction.priced import calibrated
from benchmarks.extraction.pricing import HASH_RATES, WALK_RATES, Prices, Solver, Ways
from benchmarks.extraction.settings import SETTINGS, Setting
from benchmarks.extraction.stages import USUAL, extract, users_of
from benchmarks.extraction.targets import FOREIGN

PAGE = ROOT / "docs" / "fairness.md"
CARD = 100.0  # times the client's hash rate, where it has so many times its walks
SOLVERS = [Solver(float(rate)) for rate in HASH_RATES]
SOLVERS += [Solver(CARD, float(rate)) for rate in WALK_RATES]
NOTICED = ("Jacobian", "Jacobian-TR", "Mixtures", *FOREIGN)
"""Attacks that pay more than an honest user; the others do at no rate."""

SHOWN = ("best split", "best dilution")

Costs = dict[str, list[dict[str, float]]]


def costs(setting: Setting, seed: int) -> Costs:
    """Of each noticed attack: by solver, service times per useful query of each strategy."""
    tariffs = calibrated(setting, seed)
    usual = np.concatenate([seen[:, 0] for _, seen in users_of(setting, seed, USUAL)])
    found = {}
    for name in NOTICED:
        with np.load(extract(setting, seed, name)) as file:
            evidence = file["evidence"]
        found[name] = _of_attack(tariffs.ours, evidence, usual, tariffs.ordinary[0])
    return found


def _of_attack(
    prices: Prices, evidence: np.ndarray, usual: np.ndarray, ordinary: float
) -> list[dict[str, float]]:
    mean = prices.tariff.honest_mean
    newcomers = Newcomers(usual, evidence, ordinary, prices.opening, mean, len(evidence))
    streams = [*chain.from_iterable(map(newcomers.streams, SHARES))]
    ways = Ways(evidence, ordinary)
    return [prices.strategies(evidence, ways, streams, solver) for solver in SOLVERS]


def tables(seeds: list[Costs]) -> Iterator[str]:
    """Medians over seeds."""
    heads = [f"{rate}x" for rate in HASH_RATES] + [f"walks {rate}x" for rate in WALK_RATES]
    for strategy in SHOWN:
        yield f"| {strategy} | {' | '.join(heads)} |"
        yield "|---" * (len(heads) + 1) + "|"
        for name in NOTICED:
            cells = (
                float(np.median([seed[name][i][strategy] for seed in seeds]))
                for i in range(len(SOLVERS))
            )
            yield f"| {name} | {' | '.join(map(_times, cells))} |"
        yield ""


def _times(value: float) -> str:
    return f"{value:,.0f}x" if value >= 100 else f"{value:.3g}x"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("setting", choices=SETTINGS, nargs="?", default="mnist")
    parser.add_argument("--write", action="store_true", help="write them into docs/fairness.md")
    arguments = parser.parse_args()
    setting = SETTINGS[arguments.setting]
    with ProcessPoolExecutor(2) as pool:
        seeds = list(pool.map(costs, [setting] * len(setting.seeds), setting.seeds))
    text = "\n".join(tables(seeds))
    if arguments.write:
        before, begin, rest = PAGE.read_text().partition("<!-- extraction -->\n")
        _, end, after = rest.partition("<!-- end -->")
        PAGE.write_text(f"{before}{begin}{text}{end}{after}")
    else:
        print(text)


if __name__ == "__main__":
    main()
