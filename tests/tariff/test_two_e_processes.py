"""A price that follows two e-processes: its formula, and both promises whenever one begins."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powfast.errors import InvalidInput
from powfast.sketch import Advance
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff, calibrate, load_traces, save_traces, simulate

BETS = [Fraction(text) for text in (".001", ".003", ".01", ".03", ".1", ".3", ".9")]
TARIFF = EvidenceTariff(1.0, max_work=2.0**63, account_evidence=True)
ALONE = EvidenceTariff(1.0, max_work=2.0**63)


class Process:
    """One e-process in rational numbers, which begins with `capital`."""

    def __init__(self, capital: Fraction) -> None:
        self.queries, self.wealth, self.capital = 0, [Fraction(0)] * 7, capital

    @property
    def mean(self) -> Fraction:
        return sum(self.wealth) / 7

    @property
    def left(self) -> Fraction:
        return self.mean + self.capital / (self.queries + 1)

    def bet(self, evidence: float) -> None:
        self.queries += 1
        restart = self.capital / (self.queries * (self.queries + 1))
        self.wealth = [
            min((had + restart) * (1 + bet * (Fraction(evidence) - 1)), Fraction(2**100))
            for had, bet in zip(self.wealth, BETS, strict=True)
        ]


def oracle(evidence: list[float], own: list[float], start: int) -> list[float]:
    """Prices as docs/tariff.md has them, the second e-process driven from query `start` on."""
    first, second, prices = Process(Fraction(1)), None, []
    for n, e in enumerate(evidence):
        if n >= start:
            second = second or Process(min(Fraction(1), first.left))
            second.bet(own[n - start])
        first.bet(e)
        wealth = first.mean if second is None else (first.mean + second.mean) / 2
        prices.append(float(min(max(1, wealth), 2**63)))
    return prices


pairs = st.lists(st.tuples(st.floats(0.0, 50.0), st.floats(0.0, 50.0)), min_size=1, max_size=25)


@given(pairs=pairs, start=st.integers(0, 25), cut=st.integers(0, 25))
def test_follows_the_formula_however_it_is_cut(
    pairs: list[tuple[float, float]], start: int, cut: int
) -> None:
    columns, start = np.array(pairs), min(start, len(pairs))
    before, state = TARIFF.work(columns[:start, 0])
    assert len(state) == 8
    one, whole = TARIFF.work(columns[start:], state)
    expected = oracle(columns[:, 0].tolist(), columns[start:, 1].tolist(), start)
    np.testing.assert_allclose([*before, *one], expected, rtol=1e-9)
    first, state = TARIFF.work(columns[start : start + cut], state)
    second, state = TARIFF.work(columns[start + cut :], state)
    assert (np.concatenate([first, second]) == one).all()
    assert (state == whole).all()
    assert TARIFF.price(state) == pytest.approx(expected[-1], rel=1e-12)


def test_the_first_prices_by_hand() -> None:
    # One query, evidence 1 and account evidence 11: L = 1/2 and (1 + 10 λ) / 2, the bets sum to
    # 1.344, so W = 1/2 and (7 + 13.44) / 14, and the price is max(1, their mean).
    work, state = TARIFF.work([[1.0, 11.0]])
    assert work == pytest.approx([1.0]) and state[-1] == 1.0
    work, _ = TARIFF.work([[1.0, 111.0]])
    assert work == pytest.approx([(0.5 + (7 + 110 * 1.344) / 14) / 2])


def test_evidence_without_the_account_s_lets_the_second_stay() -> None:
    _, state = TARIFF.work([[1.0, 30.0]] * 3)
    work, after = TARIFF.work([1.0, 1.0], state)
    assert (after[8:] == state[8:]).all()
    second = state[9:16].mean()
    assert work == pytest.approx([(1 - 1 / (n + 1) + second) / 2 for n in (4, 5)])


def test_without_account_evidence_nothing_changes() -> None:
    evidence = np.random.default_rng(1).exponential(1.2, 500)
    for one, other in zip(TARIFF.work(evidence), ALONE.work(evidence), strict=True):
        assert (one == other).all()


@pytest.mark.parametrize(
    ("tariff", "evidence", "state"),
    [
        (ALONE, [[1.0, 1.0]], None),
        (ALONE, [1.0], [0.0] * 17),
        (TARIFF, [[1.0, -1.0]], None),
        (TARIFF, [[1.0, np.nan]], None),
        (TARIFF, [[1.0, 1.0, 1.0]], None),
        (TARIFF, [1.0], [0.0] * 16 + [1.5]),
        (TARIFF, [1.0], [0.0] * 8 + [0.5] + [0.0] * 8),
        (TARIFF, [1.0], [0.0] * 9),
    ],
)
def test_refuses_what_it_cannot_price(
    tariff: EvidenceTariff, evidence: list[float], state: list[float] | None
) -> None:
    with pytest.raises(InvalidInput):
        tariff.work(evidence, state)


def test_time_takes_wealth_from_both() -> None:
    tariff = EvidenceTariff(1.0, half_life=10.0, account_evidence=True)
    _, state = tariff.work([[9.0, 30.0]] * 5)
    left = tariff.decayed(state, 10.0)
    wealth = [*range(1, 8), *range(9, 16)]
    np.testing.assert_allclose(left[wealth], state[wealth] / 2)
    assert (np.delete(left, wealth) == np.delete(state, wealth)).all()


# -- both promises, whenever the second e-process begins, and for which estimator

ACCOUNTS, QUERIES, PRIZE = 1500, 40, 20.0
Versions = Callable[[list[float], list[float]], int | None]


def together(rng: np.random.Generator) -> tuple[float, float]:
    """Both kinds of evidence say the same: the heaviest tail."""
    evidence = PRIZE * (rng.random() < 1 / PRIZE)
    return evidence, evidence


def by_turns(rng: np.random.Generator) -> tuple[float, float]:
    """They are never large at once."""
    drawn = rng.random() * PRIZE
    return PRIZE * (drawn < 1), PRIZE * (1 <= drawn < 2)


def at_once(seen: list[float], own: list[float]) -> int | None:
    return 1


def once_the_first_has_lost(seen: list[float], own: list[float]) -> int | None:
    """Begin where the first e-process is worth least."""
    return 1 if (sum(seen) == 0.0 and len(seen) >= 10) or own else None


def anew_after_each_loss(seen: list[float], own: list[float]) -> int | None:
    """Another estimator whenever its predecessor has nothing left to lose."""
    return sum(evidence == 0.0 for evidence in own) + 1


def anew_after_a_series(seen: list[float], own: list[float]) -> int | None:
    return len(own) // 7 + 1 if len(seen) >= 3 else None


@pytest.fixture(
    scope="module",
    params=itertools.product(
        [together, by_turns],
        [at_once, once_the_first_has_lost, anew_after_each_loss, anew_after_a_series],
    ),
    ids=lambda pair: " ".join(part.__name__ for part in pair),
)
def prices(request: pytest.FixtureRequest) -> np.ndarray:
    """(accounts, queries) prices in base prices, as a ledger charges them."""
    (draw, versions), rng = request.param, np.random.default_rng(20260102)
    ledger, prices = MemoryLedger(TARIFF, clock=lambda: 1e9), np.empty((ACCOUNTS, QUERIES))
    for account in range(ACCOUNTS):
        seen: list[float] = []
        own: list[float] = []
        for n in range(QUERIES):
            version, (evidence, theirs) = versions(seen, own), draw(rng)
            advance = None
            if version is not None:
                advance = Advance([theirs], [1.0], [0.0], version.to_bytes(8, "big"))
                own.append(theirs)
            who = str(account), "", n.to_bytes(8, "big"), bytes(16)
            prices[account, n] = ledger.charge(*who, [evidence], advance=advance).price
            seen.append(evidence)
    return prices


@pytest.mark.parametrize("c", [2, 4, 10, 50])
def test_a_price_above_c_is_as_rare_as_promised(prices: np.ndarray, c: int) -> None:
    share = (prices.max(axis=1) > c).mean()
    assert share <= 1 / c + 3 * np.sqrt(share * (1 - share) / ACCOUNTS)


def test_the_mean_price_is_at_most_two(prices: np.ndarray) -> None:
    error = prices.std(axis=0) / np.sqrt(ACCOUNTS)
    assert (prices.mean(axis=0) <= 2 + 3 * error).all()


@pytest.mark.parametrize("c", [2, 10])
def test_stopping_at_will_does_not_raise_the_mean_price(prices: np.ndarray, c: int) -> None:
    stop = np.where((prices > c).any(axis=1), (prices > c).argmax(axis=1), QUERIES - 1)
    price = prices[np.arange(ACCOUNTS), stop]
    assert price.mean() <= 2 + 3 * price.std() / np.sqrt(ACCOUNTS)


# -- traces, simulation, calibration


def honest_accounts(count: int, seed: int) -> list[np.ndarray]:
    """Two columns: scores and what an honest account's own direction says of it."""
    rng = np.random.default_rng(seed)
    accounts = []
    for _ in range(count):
        p = 1 - rng.random((rng.integers(200, 1500), 2))
        evidence = np.mean([k * p ** (k - 1) for k in (0.1, 0.2, 0.5)], axis=0)
        evidence[:, 1] /= 2.0
        evidence[:5, 1] = 1.0
        accounts.append(evidence)
    return accounts


def test_traces_survive_their_file(tmp_path: Path) -> None:
    traces = [*honest_accounts(3, 1), np.empty((0, 2))]
    save_traces(tmp_path / "x.npz", traces)
    found = load_traces(tmp_path / "x.npz")
    assert all((one == other).all() for one, other in zip(found, traces, strict=True))
    assert [trace.shape for trace in found] == [trace.shape for trace in traces]


def test_some_traces_with_account_evidence_are_refused(tmp_path: Path) -> None:
    mixed = [np.ones((60, 2)), np.ones(60)]
    for refused in (
        lambda: save_traces(tmp_path / "x.npz", mixed),
        lambda: calibrate(mixed, service_time=1.0, hash_rate=1e6),
        lambda: calibrate(
            [np.ones(60)] * 4, service_time=1.0, hash_rate=1e6, suspicious=[np.ones((5, 2))]
        ),
    ):
        with pytest.raises(InvalidInput, match="second column"):
            refused()


def test_whole_accounts_are_priced_by_both() -> None:
    traces = honest_accounts(3, 2)
    found = simulate(TARIFF, traces)
    for work, trace in zip(found.work, traces, strict=True):
        assert (work == TARIFF.work(trace)[0]).all()


def test_calibration_counts_account_evidence() -> None:
    honest = honest_accounts(200, 3)
    blind = np.full(400, 0.5)  # each query looks more ordinary than most
    seen = np.stack([blind, np.r_[np.ones(5), np.full(395, 9.0)]], axis=1)
    found = calibrate(
        honest, service_time=0.005, hash_rate=40e6, suspicious={"seen": seen, "blind": blind}
    )
    assert found.tariff.account_evidence
    attacks = found.report["attacks"]
    assert attacks["seen"]["best_split"]["base_prices"] > 3
    alone = {name: ways["one_account"]["base_prices"] for name, ways in attacks.items()}
    assert alone["seen"] > 100 * alone["blind"]
    diluted = [ways["best_dilution"]["base_prices"] for ways in attacks.values()]
    assert diluted[0] == diluted[1]
    fresh = simulate(found.tariff, [trace for trace in honest_accounts(500, 4) if len(trace) > 999])
    overhead = 1 + fresh.mean_price * found.tariff.base_work / (0.005 * 40e6)
    assert np.quantile(overhead, 0.99) <= 2.2
    queries_alone = calibrate([trace[:, 0] for trace in honest], service_time=0.005, hash_rate=40e6)
    assert not queries_alone.tariff.account_evidence
