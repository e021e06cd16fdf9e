"""What other bets, restart weights and calibrators would be worth, with the same proof.

    python benchmarks/bets.py [--accounts 4000] [--json FILE]

Honest accounts send 1000 queries whose p-values are uniform, one score or three that agree in
nothing. An extractor's queries have the smallest p-value that a reference of 2500 a class can give,
in one score of three; its ordinary queries have p-values near 1. Weak evidence is that of p-values
u^1.5, weaker u^1.25, for uniform u. A row says, for honest accounts, the mean price at the 99 %
quantile and the share that ever pays 10 base prices; how many queries it takes until one costs 100
base prices: an extractor's at once, an extractor's after 1000 honest ones, and at the median those
of weak evidence; and the least share of an extractor's queries among ordinary ones for which that
happens within 10 000. What the best dilution pays, relative to the first row, follows: a base price
for each query of its share, and base prices are in inverse proportion to what honest accounts pay.
Every row keeps the promises: bets lie in (0, 1), weights sum to at most one, calibrators integrate
to one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from powfast.tariff import LAMBDAS

REFERENCE, QUERIES, LONGEST = 2500, 1000, 10_000
DEAR = 100.0
SHARES = 1.0 / np.unique(np.round(1.05 ** np.arange(0, 120)))
KAPPAS = (0.05, 0.1, 0.2, 0.5)

WHEN = ("", " after 1000 honest", ", weak", ", weaker")

Calibrator = Callable[[np.ndarray], np.ndarray]


def powers(*kappas: float) -> Calibrator:
    return lambda p: np.mean([k * p ** (k - 1) for k in kappas], axis=0)


def over_all_powers(p: np.ndarray) -> np.ndarray:
    """The mean of k p^(k - 1) over k in (0, 1): Vovk's, as in Vovk and Wang (2021)."""
    log = np.log(np.minimum(p, 1.0 - 1e-6))
    return (1.0 - p + p * log) / (p * log * log)


def harmonic(n: np.ndarray) -> np.ndarray:
    return 1.0 / (n * (n + 1.0))


def slower(n: np.ndarray) -> np.ndarray:
    """Proportional to 1/(n log^2 n): more is left for those who begin late."""
    weights = 1.0 / ((n + 1.0) * np.log(n + 1.0) ** 2)
    return weights / (weights.sum() + 1.0 / np.log(n[-1]))


def power(exponent: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda n: n**-exponent / (n**-exponent).sum()


def at_once(n: np.ndarray) -> np.ndarray:
    return (n == 1).astype(float)


FEWER, MORE = (0.01, 0.1, 0.9), tuple(np.geomspace(0.001, 0.95, 20))
VARIANTS: dict[str, tuple[tuple[float, ...], Callable[[np.ndarray], np.ndarray], Calibrator]] = {
    "as it is": (LAMBDAS, harmonic, powers(*KAPPAS)),
    "bets: .01 .1 .9": (FEWER, harmonic, powers(*KAPPAS)),
    "bets: twenty, .001 to .95": (MORE, harmonic, powers(*KAPPAS)),
    "bets: .003 to .9": (LAMBDAS[1:], harmonic, powers(*KAPPAS)),
    "bets: .001 to .3": (LAMBDAS[:-1], harmonic, powers(*KAPPAS)),
    "restarts: never": (LAMBDAS, at_once, powers(*KAPPAS)),
    "restarts: 1/n^1.5": (LAMBDAS, power(1.5), powers(*KAPPAS)),
    "restarts: 1/(n log^2 n)": (LAMBDAS, slower, powers(*KAPPAS)),
    "calibrator: .1": (LAMBDAS, harmonic, powers(0.1)),
    "calibrator: .02 .05 .1 .2 .5": (LAMBDAS, harmonic, powers(0.02, *KAPPAS)),
    "calibrator: .1 .2 .5": (LAMBDAS, harmonic, powers(*KAPPAS[1:])),
    "calibrator: all powers": (LAMBDAS, harmonic, over_all_powers),
}


@numba.njit
def prices(evidence: np.ndarray, bets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Price of each query of each account, in base prices: (accounts, queries)."""
    found = np.empty(evidence.shape)
    for account in range(evidence.shape[0]):
        wealth = np.zeros(len(bets))
        for i in range(evidence.shape[1]):
            wealth = (wealth + weights[i]) * (1.0 + bets * (evidence[account, i] - 1.0))
            wealth = np.minimum(wealth, 2.0**100)
            found[account, i] = max(1.0, wealth.mean())
    return found


def measured(
    bets: tuple[float, ...],
    restart: Callable[[np.ndarray], np.ndarray],
    calibrator: Calibrator,
    accounts: int,
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    weights = restart(np.arange(1.0, LONGEST + QUERIES + 1))
    of_bets = np.array(bets)

    def price(evidence: np.ndarray) -> np.ndarray:
        return prices(np.atleast_2d(evidence), of_bets, weights)

    uniform = 1.0 - rng.random((accounts, QUERIES, 3))
    row: dict[str, Any] = {}
    for name, evidence in (
        ("one score", calibrator(uniform[:, :, 0])),
        ("three scores", calibrator(uniform).mean(axis=2)),
    ):
        honest = price(evidence)
        row[f"honest mean price, 99 %, {name}"] = float(np.quantile(honest.mean(axis=1), 0.99))
        row[f"honest ever above 10, {name}"] = float((honest.max(axis=1) > 10).mean())
    least, most = calibrator(np.array([1.0 / (REFERENCE + 1), 0.99]))
    useful = (least + 2.0 * calibrator(np.array([0.5]))[0]) / 3.0
    row["queries to 100"] = reached(price(np.full(200, useful))[0])
    later = np.concatenate([calibrator(uniform[:200]).mean(axis=2), np.full((200, 400), useful)], 1)
    row["queries to 100 after 1000 honest"] = float(
        np.median([reached(account[QUERIES:]) for account in price(later)])
    )
    rng = np.random.default_rng(1)
    for name, exponent in (("weak", 1.5), ("weaker", 1.25)):
        p = (1.0 - rng.random((100, LONGEST, 3))) ** exponent
        seen = price(calibrator(p).mean(axis=2))
        row[f"queries to 100, {name}"] = float(np.median([reached(account) for account in seen]))
    row["share caught"] = least_share_caught(price, useful, most)
    row["dilution pays"] = 1.0 / row["share caught"] / row["honest mean price, 99 %, three scores"]
    return row


def reached(account: np.ndarray) -> float:
    dear = account >= DEAR
    return float(dear.argmax() + 1) if dear.any() else np.inf


def least_share_caught(
    price: Callable[[np.ndarray], np.ndarray], useful: float, ordinary: float
) -> float:
    caught = 1.0
    for share in SHARES:
        period = round(1.0 / share)
        spread = np.arange(LONGEST) % period == period - 1
        if np.isinf(reached(price(np.where(spread, useful, ordinary))[0])):
            break
        caught = share
    return caught


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=4000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = {name: measured(*variant, arguments.accounts) for name, variant in VARIANTS.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))
    print("| | honest mean price, 99 % | ever above 10 | queries to 100", end=" | ")
    print("after 1000 honest | weak | weaker | share caught | dilution pays |\n" + 9 * "|---" + "|")
    for name, row in rows.items():
        both = ("one score", "three scores")
        relative = row["dilution pays"] / rows["as it is"]["dilution pays"]
        cells = [
            name,
            ", ".join(f"{row[f'honest mean price, 99 %, {which}']:.2f}" for which in both),
            ", ".join(f"{row[f'honest ever above 10, {which}']:.1%}" for which in both),
            *(f"{row[f'queries to 100{when}']:.0f}" for when in WHEN),
            f"{row['share caught']:.2%}",
            f"{relative:.0%}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
