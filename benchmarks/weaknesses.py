"""What is weak in the paper's defence, measured on it and on powfast's, as one table.

    python benchmarks/weaknesses.py [--data ../shared/data] > docs/weaknesses.md

The paper's side runs its tariff, fitted on its authors' figures, and HashCash checked as their
server does. powfast's side runs the real tariff, ledger, issuer and store. Its honest queries have
uniform p-values in three scores, its extractor's lie in their lowest hundredth. Of 12 and 13 the
paper's side is read from its authors' code, not run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from powfast import Issuer, errors, solve
from powfast.bill import RequestIdentity
from powfast.gate import Gate, run
from powfast.http import Answer
from powfast.leakage import Accountant, from_votes
from powfast.paper import figures, hashcash
from powfast.puzzle import Puzzle, solve_counted
from powfast.servers.charge import BlockingBill
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff, Iclr2022Tariff, calibrate

ORDINARY, SUSPICIOUS = 0.188, 0.530  # eps of a unanimous and of a copycat's MNIST query
RAW_SECONDS = 0.00736  # of a query on MNIST, in the authors' figures


@dataclass(frozen=True)
class Weakness:
    """One row: what is counted, on the paper's defence and on powfast's; `holds` on which."""

    number: int
    what: str
    counted: str
    paper: str
    powfast: str
    paper_holds: bool
    powfast_holds: bool


def evidence(count: int, rng: np.random.Generator, most: float = 1.0) -> np.ndarray:
    p = most * (1 - rng.random((3, count)))
    return np.mean([kappa * p ** (kappa - 1) for kappa in (0.05, 0.1, 0.2, 0.5)], axis=(0, 1))


def charged(ledger: MemoryLedger, account: str, queries: np.ndarray) -> float:
    """Charge an account for one request, whichever; return its price."""
    return ledger.charge(account, "", os.urandom(32), os.urandom(16), queries).price


class Defences:
    """Both tariffs, calibrated, and traffic for either."""

    def __init__(self, data: Path) -> None:
        rng = np.random.default_rng(0)
        self.data = data
        self.mnist = figures.tariff(data, "mnist")
        self.honest = [evidence(int(n), rng) for n in rng.integers(1000, 4000, 400)]
        self.extractor = evidence(10_000, rng, most=0.01)
        self.calibration = calibrate(
            self.honest, service_time=0.005, hash_rate=40e6, suspicious={"ood": self.extractor}
        )
        self.ours = self.calibration.tariff
        self.query = self.ours.work(self.honest[0][:1], self._known())[0][0]

    def _known(self) -> np.ndarray:
        return self.ours.work([0.5] * 10)[1]

    def ledger(self) -> MemoryLedger:
        return MemoryLedger(self.ours)

    def ratio(self, queries: np.ndarray, costs: np.ndarray, tariff: Iclr2022Tariff) -> float:
        """Time with proof of work over the paper's own time, one puzzle per row."""
        raw = RAW_SECONDS * queries[-1]
        return float((tariff.seconds(queries, costs).sum() + raw) / raw)


def replay(d: Defences) -> Weakness:
    stamp = hashcash.mint("first", 12)

    def reference_accepts(challenge: str) -> bool:
        return hashlib.sha1(stamp.encode()).digest() < b"\x00\x10"  # it looks at the zeros alone

    issuer = Issuer(keys={"k": bytes(range(32))})
    tokens = [issuer.issue(work=1000, account=name) for name in ("a", "a")]
    solution = solve(tokens[0])
    accepted = 0
    for token in (tokens[1], tokens[0], tokens[0]):
        try:
            issuer.redeem(token, solution, account="a")
            accepted += 1
        except errors.Refused:
            pass
    theirs = sum(map(reference_accepts, ("second", "first", "first")))
    return Weakness(
        1,
        "a solution serves another challenge, or twice",
        "accepted of: one elsewhere, two copies",
        f"{theirs}",
        f"{accepted}",
        theirs > 1,
        accepted > 1,
    )


def shared_ledger(d: Defences) -> Weakness:
    _, state = d.mnist.work([SUSPICIOUS] * 4000)
    honest = [0.2577] * 1000
    theirs = d.mnist.work(honest, state)[0].sum() / d.mnist.work(honest)[0].sum()
    ledger, alone = d.ledger(), d.ledger()
    charged(ledger, "extractor", d.extractor[:1000])
    for each in (ledger, alone):
        each.reset("user")  # its opening is paid: newcomers share a price
    trace = d.honest[0][:1000]
    ours = charged(ledger, "user", trace) / charged(alone, "user", trace)
    return Weakness(
        2,
        "one ledger for all clients",
        "an honest user's price, its opening paid, after an extractor's 4000 queries, over its own",
        f"{theirs:,.0f}x",
        f"{ours:.0f}x",
        theirs > 2,
        ours > 1,
    )


def merged(d: Defences) -> Weakness:
    n = 1000.0 * np.arange(1, 11)
    whole = d.ratio(n[-1:], SUSPICIOUS * n[-1:], d.mnist)
    theirs = d.ratio(n, SUSPICIOUS * n, d.mnist) / whole
    one = d.ours.work(d.extractor)[0].sum()
    state, parts = None, []
    for part in np.split(d.extractor, 10):
        work, state = d.ours.work(part, state)
        parts.append(work)
    ours = np.concatenate(parts).sum() / one
    return Weakness(
        3,
        "one puzzle per request, whatever the batch",
        "10 000 queries in ten requests, over the same in one",
        f"{theirs:.1f}x",
        f"{ours:.1f}x",
        theirs > 2,
        ours != 1,
    )


def banked(d: Defences) -> Weakness:
    n = 1000.0 * np.arange(1, 11)
    share = (d.mnist.slope - ORDINARY) / (SUSPICIOUS - ORDINARY)
    mean = share * SUSPICIOUS + (1 - share) * ORDINARY
    theirs = d.ratio(n, mean * n, d.mnist)
    mixed = np.full(10_000, np.quantile(np.concatenate(d.honest), 0.01))
    useful = np.arange(10_000) % round(1 / share) == 0
    mixed[useful] = d.extractor[: useful.sum()]
    ours = d.ours.work(mixed)[0].mean() / d.ours.base_work
    return Weakness(
        4,
        "cheap queries pay for expensive ones",
        f"price of 10 000 queries, {share:.0%} of them an extractor's, over an honest one",
        f"{theirs:.1f}x",
        f"{ours:,.0f}x",
        theirs < 2,
        ours < 100,
    )


def cheap(d: Defences) -> Weakness:
    cifar = figures.tariff(d.data, "cifar10")
    n = 1000.0 * np.arange(1, 10)
    raw = 148.32
    seconds = {f: (cifar.seconds(n, f * cifar.expected(n)).sum() + raw) / raw for f in (1.0, 0.95)}
    theirs = seconds[0.95] / seconds[1.0]
    price = [
        np.mean([d.ours.work(factor * trace)[0].sum() for trace in d.honest])
        for factor in (1.0, 0.95)
    ]
    ours = price[1] / price[0]
    return Weakness(
        5,
        "a user that reveals 5 % less than expected is punished",
        "its price over the expected user's, CIFAR-10",
        f"{theirs:.0f}x",
        f"{ours:.2f}x",
        theirs > 2,
        ours > 1,
    )


def split(d: Defences) -> Weakness:
    n = 1000.0 * np.arange(1, 11)
    theirs = d.ratio(n[:1], SUSPICIOUS * n[:1], d.mnist)
    one = d.ratio(n, SUSPICIOUS * n, d.mnist)
    ours = d.calibration.report["attacks"]["ood"]
    best = ours["best_split"]["overhead"]
    return Weakness(
        6,
        "splitting over accounts",
        "overhead of the extractor, whole and split (ours: in the best way)",
        f"{one:.0f}x and {theirs:.1f}x",
        f"{ours['one_account']['overhead']:.1g}x and {best:.0f}x",
        theirs < 5,
        best < 100,
    )


def burst(d: Defences) -> Weakness:
    _, state = d.mnist.work([SUSPICIOUS] * 2000)
    counts = state[0] + np.arange(1.0, 1001.0)
    serial = d.mnist.seconds(counts, SUSPICIOUS * counts).sum()
    theirs = serial / (1000 * d.mnist.seconds(*state))
    queries = d.extractor[:1000]
    serial_ledger, burst_ledger = d.ledger(), d.ledger()
    for query in queries:
        charged(serial_ledger, "x", [query])
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda query: charged(burst_ledger, "x", [query]), queries))
    records = [ledger.account("x") for ledger in (serial_ledger, burst_ledger)]
    ours = float(d.ours.price(records[0].state) / d.ours.price(records[1].state))
    return Weakness(
        7,
        "concurrent queries at the old price",
        "1000 queries in sequence over the same at once",
        f"{theirs:.1f}x",
        f"{ours:.1f}x",
        theirs > 2,
        abs(ours - 1) > 0.01,
    )


def saturation(d: Defences) -> Weakness:
    votes = np.array([[250] + [0] * 9, [25] * 10])
    theirs = np.divide(*from_votes(votes, metric="iclr2022")[::-1])
    ours = np.divide(*from_votes(votes, metric="logq"))
    return Weakness(
        8,
        "the score saturates",
        "score of a vote that is even over one that is unanimous",
        f"{theirs:.1f}x",
        f"{ours:,.0f}x",
        theirs < 5,
        ours < 100,
    )


def monotone(d: Defences) -> Weakness:
    agreeing, level = [[10, 5, 5, 5, 5, 4, 4, 4, 4, 4]] * 1000, [[5] * 10] * 1000

    def excess(metric: str) -> float:
        more, less = (Accountant(2.0, metric).add(v).epsilon() for v in (agreeing, level))
        return more / less

    theirs, ours = excess("iclr2022-pknn"), excess("iclr2022")
    return Weakness(
        9,
        "pkNN without the upper bound",
        "cost of 1000 queries on which teachers agree a little, over as many on which not at all",
        f"{theirs:.2f}x",
        f"{ours:.2f}x",
        theirs > 1,
        ours > 1,
    )


def whole_bits(d: Defences) -> Weakness:
    difference = np.linspace(0, 1000, 20_001)
    seconds = d.mnist.seconds(0.0, d.mnist.intercept + difference)
    exact = 18.531750860923125 + 3.5142902866282806 * np.log10(seconds)
    theirs = 1 - (2.0 ** (d.mnist.bits(seconds) - exact)).min()
    prefixes = [hashcash.challenge("x", 8, date=0.0, rand=f"{i:x}") for i in range(2000)]
    tries = np.array([int(hashcash.solve(p, 8)[len(p) :], 16) + 1.0 for p in prefixes])
    counted = [
        solve_counted(Puzzle(os.urandom(32), work=40_000, parts=16), threads=1)[1]
        for _ in range(2000)
    ]
    spread = tries.std() / tries.mean(), np.std(counted) / np.mean(counted)
    rounding = abs(np.mean(counted) / 40_000 - 1)
    return Weakness(
        10,
        "whole bits, one puzzle",
        "rounding of the price; standard deviation of solving over its mean",
        f"down to -{theirs:.0%}; {spread[0]:.2f}",
        f"{rounding:.0%}; {spread[1]:.2f}",
        theirs > 0.1 and spread[0] > 0.9,
        rounding > 0.05 or spread[1] > 0.3,
    )


def revealed(d: Defences) -> Weakness:
    def differ(tariff: EvidenceTariff | Iclr2022Tariff, state: np.ndarray, kinds: list) -> int:
        works = [tariff.work(kind, state)[0].sum() for kind in kinds]
        return len({tariff.publish(work) for work in works}) - 1

    _, theirs_state = d.mnist.work([0.2577] * 1000)
    theirs = differ(d.mnist, theirs_state, [[x] * 64 for x in (ORDINARY, 1.0, 2.0, 3.0)])
    _, ours_state = d.ours.work(d.honest[0])
    ours = differ(d.ours, ours_state, [[x] for x in (0.2, 0.9, 2.0, 3.0)])
    return Weakness(
        11,
        "the price reveals a query's score before it is paid",
        "published prices, beyond one, of four different batches after 1000 honest queries",
        f"{theirs}",
        f"{ours}",
        theirs > 0,
        ours > 0,
    )


def unpaid(d: Defences) -> Weakness:
    gate, runs = Gate(Issuer({"k": bytes(range(32))}), d.ledger()), 0
    gate.ledger.reset("x")  # its opening is paid, and nothing after it

    def ask(digest: bytes) -> None:
        bill = BlockingBill()

        async def endpoint() -> Answer:
            nonlocal runs
            runs += 1
            bill.charge([1.0])
            return Answer(200, (), b"an answer")

        run(gate.serve(RequestIdentity("x", "", digest), bill, None, endpoint))

    for request in range(2000):
        ask(request.to_bytes(32, "big"))
    return Weakness(
        12,
        "unpaid inference",
        "answers of 2000 that an account may have computed before it pays what it owes",
        "2000",
        f"{runs}",
        True,
        runs > 1000,
    )


def pickles(d: Defences) -> Weakness:
    import powfast

    sources = Path(powfast.__file__).parent.rglob("*.py")
    ours = sum("import pickle" in source.read_text() for source in sources)
    return Weakness(
        13,
        "pickle over a socket",
        "modules that unpickle",
        "server and client",
        f"{ours}",
        True,
        ours > 0,
    )


DEMONSTRATIONS: tuple[Callable[[Defences], Weakness], ...] = (
    replay,
    shared_ledger,
    merged,
    banked,
    cheap,
    split,
    burst,
    saturation,
    monotone,
    whole_bits,
    revealed,
    unpaid,
    pickles,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[1]
    default = os.environ.get("POWFAST_DATA", root.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    defences = Defences(parser.parse_args().data)
    print("# What is weak in the paper's defence\n")
    print("Written by `python benchmarks/weaknesses.py`; its head says what runs on either side.\n")
    print("| | weakness | counted | the paper's | powfast |\n|---|---|---|---|---|")
    for demonstrate in DEMONSTRATIONS:
        w = demonstrate(defences)
        print(f"| {w.number} | {w.what} | {w.counted} | {w.paper} | {w.powfast} |")


if __name__ == "__main__":
    main()
