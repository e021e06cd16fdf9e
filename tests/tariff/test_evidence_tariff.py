"""The evidence tariff against a naive oracle in exact arithmetic, and its invariants."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powfast.errors import InvalidInput
from powfast.stores import MemoryLedger
from powfast.tariff import LAMBDAS, EvidenceTariff, from_json, simulate
from powfast.tariff.decay import halved

BETS = [Fraction(text) for text in (".001", ".003", ".01", ".03", ".1", ".3", ".9")]
BASE, OPENING, MOST = 1000, 7000, 10**9
TARIFF = EvidenceTariff(float(BASE), float(OPENING), max_work=float(MOST))
SCHEDULED = EvidenceTariff(float(BASE), volume=[(5, 2.0)])

evidence_lists = st.lists(st.floats(0.0, 50.0), min_size=1, max_size=150)


def oracle(evidence: list[float]) -> list[float]:
    """Work per query as the tariff's docstring has it, in rational numbers."""
    wealth, work = [Fraction(0)] * len(BETS), []
    for n, e in enumerate(evidence, 1):
        restart = Fraction(1, n * (n + 1))
        wealth = [
            (had + restart) * (1 + bet * (Fraction(e) - 1))
            for had, bet in zip(wealth, BETS, strict=True)
        ]
        price = min(BASE * max(1, sum(wealth) / len(BETS)), MOST)
        work.append(float(price + (OPENING if n == 1 else 0)))
    return work


@pytest.mark.parametrize(
    "evidence",
    [
        [1.0],
        [0.0] * 5,
        [0.0, 80.0, 0.2, 3.5, 1.0],
        [6.0] * 40,
        list(np.random.default_rng(1).exponential(1.2, 150)),
    ],
    ids=["one", "zeros", "few", "extractor", "mixed"],
)
def test_follows_the_formula(evidence: list[float]) -> None:
    np.testing.assert_allclose(TARIFF.work(evidence)[0], oracle(evidence), rtol=1e-12)


def test_the_first_prices_by_hand() -> None:
    # One query of evidence 11: L = (1 + 10 λ) / 2, the bets sum to 1.344, so W = (7 + 13.44) / 14.
    work, state = EvidenceTariff(100.0, 5.0).work([11.0])
    assert work == pytest.approx([100 * 20.44 / 14 + 5])
    assert state[0] == 1 and state[7] == pytest.approx(5.0)


def in_doubles(evidence: list[float]) -> tuple[list[float], float]:
    """Work per query, and what a ledger charges for them, operation by operation."""
    wealth, work, owed = [0.0] * len(LAMBDAS), [], 0.0
    for n, e in enumerate(evidence, 1):
        restart = 1.0 / (n * (n + 1.0))
        wealth = [
            min((had + restart) * (1.0 + bet * (e - 1.0)), 2.0**100)
            for had, bet in zip(wealth, LAMBDAS, strict=True)
        ]
        mean = reduce(add, wealth) / len(wealth)  # as sum did before Python 3.12
        price = min(BASE * max(1.0, mean), MOST)
        work.append(price + (OPENING if n == 1 else 0.0))
        owed += price  # an opening is drawn from the balance
    return work, owed


@pytest.mark.parametrize("mean", [0.7, 1.3, 1e6])
def test_agrees_to_the_last_bit_with_plain_python(mean: float) -> None:
    evidence = np.random.default_rng(2).exponential(mean, 20_000)
    work, owed = in_doubles(evidence.tolist())
    priced, state = TARIFF.work(evidence)
    assert priced.tolist() == work
    ledger = MemoryLedger(TARIFF)
    assert ledger.charge("a", "", bytes(32), bytes(16), evidence).price == owed
    record = ledger.account("a")
    assert record is not None
    assert record.state.tolist() == state.tolist()


@given(evidence_lists, st.data())
def test_cutting_a_batch_changes_nothing(evidence: list[float], data: st.DataObject) -> None:
    whole, last = TARIFF.work(evidence)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(evidence)), max_size=4)))
    state, pieces = None, []
    for low, high in zip([0, *cuts], [*cuts, len(evidence)], strict=True):
        work, state = TARIFF.work(evidence[low:high], state)
        pieces.append(work)
    assert (np.concatenate(pieces) == whole).all()
    assert (state == last).all()


@given(evidence_lists, st.data())
def test_more_evidence_never_lowers_a_price(evidence: list[float], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(evidence) - 1))
    more = list(evidence)
    more[index] += data.draw(st.floats(0.0, math.inf))
    assert (TARIFF.work(more)[0] >= TARIFF.work(evidence)[0]).all()


@given(st.lists(st.floats(0.0, math.inf), min_size=1, max_size=100))
def test_prices_stay_between_base_and_clamp(evidence: list[float]) -> None:
    work, state = TARIFF.work(evidence)
    work[0] -= OPENING
    assert ((work >= BASE) & (work <= MOST)).all()
    assert np.isfinite(state).all()
    assert TARIFF.price(state) == pytest.approx(work[-1] / BASE)


def test_does_not_modify_what_it_is_given() -> None:
    evidence = np.full(200, 2.0)
    _, state = TARIFF.work(evidence)
    kept = state.copy()
    TARIFF.work(evidence, state)
    assert (state == kept).all() and (evidence == 2.0).all()


def test_zeros_are_a_new_account() -> None:
    assert (TARIFF.work([2.0], np.zeros(8))[0] == TARIFF.work([2.0])[0]).all()
    assert TARIFF.work([], None)[0].shape == (0,)
    assert TARIFF.work([2.0], TARIFF.work([])[1])[0][0] > OPENING
    assert TARIFF.price() == 1.0


def test_infinite_evidence_asks_for_the_highest_price_and_leaves_a_usable_state() -> None:
    work, state = TARIFF.work([math.inf, 0.0, 0.0])
    assert work.tolist() == [MOST + OPENING, MOST, MOST]
    TARIFF.work([1.0], state)


@pytest.mark.parametrize(
    "evidence",
    [
        [math.nan],
        [-1e-9],
        [1.0, -math.inf],
        [[1.0]],
        1.0,
        ["1"],
        [True],
        [1j],
        [None],
        np.full(100, np.nan),
    ],
    ids=repr,
)
def test_refuses_what_is_not_evidence(evidence: object) -> None:
    with pytest.raises(InvalidInput):
        TARIFF.work(evidence)


@pytest.mark.parametrize(
    "state",
    [
        [0.0] * 7,
        [0.0] * 9,
        [0.5] + [0.0] * 7,
        [-1.0] + [0.0] * 7,
        [1.0] + [math.nan] * 7,
        [math.inf] + [0.0] * 7,
        [1.0] + [1e300] * 7,
        [2.0**60] + [0.0] * 7,
        [[0.0] * 8],
        "state",
    ],
    ids=repr,
)
def test_refuses_what_is_not_a_state(state: object) -> None:
    for tariff in (TARIFF, SCHEDULED):
        with pytest.raises(InvalidInput, match="state"):
            tariff.work([1.0], state)


@pytest.mark.parametrize(
    "parameters",
    [
        {"base_work": 0.5},
        {"base_work": math.nan},
        {"base_work": math.inf},
        {"base_work": "1000"},
        {"base_work": True},
        {"base_work": 10.0, "opening_work": -1.0},
        {"base_work": 10.0, "max_work": 9.0},
        {"base_work": 10.0, "max_work": 2.0**64},
        {"base_work": 10.0, "step": 0.1},
        {"base_work": 10.0, "step": 1.0},
        {"base_work": 10.0, "half_life": 0.0},
        {"base_work": 10.0, "volume": [(5, 0.5)]},
        {"base_work": 10.0, "volume": [(5, 2.0), (5, 3.0)]},
        {"base_work": 10.0, "volume": [(1.5, 2.0)]},
        {"base_work": 10.0, "volume": [(0, 2.0)]},
        {"base_work": 10.0, "volume": [5]},
        {"base_work": 10.0, "volume": 5},
    ],
    ids=repr,
)
def test_refuses_parameters_out_of_range(parameters: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        EvidenceTariff(**parameters)


def test_is_a_value() -> None:
    assert EvidenceTariff(10, 5) == EvidenceTariff(10.0, 5.0)
    assert len({EvidenceTariff(10.0), EvidenceTariff(10.0), EvidenceTariff(11.0)}) == 2
    with pytest.raises(AttributeError):
        TARIFF.base_work = 1.0


# -- options


def test_volume_schedule_counts_from_the_first_query() -> None:
    tariff = EvidenceTariff(10.0, volume=((3, 2.0), (5, 8.0)))
    work, state = tariff.work([0.0] * 6)
    assert work.tolist() == [10, 10, 20, 20, 80, 80]
    assert tariff.price(state) == 8.0
    head, state = tariff.work([0.0] * 4)
    assert head.tolist() + tariff.work([0.0] * 2, state)[0].tolist() == work.tolist()
    assert EvidenceTariff(10.0, volume=((1, 2.0),)).work([0.0])[0].tolist() == [20]


def test_volume_schedule_multiplies_the_price() -> None:
    evidence = np.random.default_rng(7).exponential(1.0, 300)
    plain, scheduled = EvidenceTariff(1.0), EvidenceTariff(1.0, volume=((101, 3.0),))
    factor = np.where(np.arange(1, 301) > 100, 3.0, 1.0)
    assert (scheduled.work(evidence)[0] == plain.work(evidence)[0] * factor).all()


def test_half_life() -> None:
    tariff = EvidenceTariff(10.0, half_life=60.0)
    _, state = tariff.work([6.0] * 10)
    after = tariff.decayed(state, 120.0)
    assert after[0] == 10 and after[1:] == pytest.approx(state[1:] / 4)
    assert (tariff.decayed(state, 0.0) == state).all()
    assert tariff.price(tariff.decayed(state, 1e9)) == 1.0
    assert (EvidenceTariff(10.0).decayed(state, 1e9) == state).all()
    assert from_json(tariff.to_json()) == tariff
    for seconds in (-1.0, math.nan):
        with pytest.raises(InvalidInput):
            tariff.decayed(state, seconds)


@given(st.floats(0.0, 1073.0))  # below, doubles become coarse
def test_halving_is_a_power_of_two(half_lives: float) -> None:
    with mpmath.workdps(40):
        assert halved(half_lives) == pytest.approx(
            float(mpmath.power(2, -mpmath.mpf(half_lives))), rel=2e-15, abs=5e-324
        )
    assert halved(half_lives) <= 1.0
    assert halved(math.floor(half_lives)) == math.ldexp(1.0, -math.floor(half_lives))
    assert halved(half_lives + 1100.0) == 0.0


@given(evidence_lists, evidence_lists, st.floats(0.0, 1e6))
def test_waiting_never_raises_a_price(
    before: list[float], after: list[float], seconds: float
) -> None:
    tariff = EvidenceTariff(10.0, half_life=60.0)
    _, state = tariff.work(before)
    waited = tariff.work(after, tariff.decayed(state, seconds))[0]
    assert (waited <= tariff.work(after, state)[0]).all()


# -- what is published


@given(st.integers(1, 2**40), st.floats(0.0, 2.0**60), st.integers(1, 8))
def test_published_work_is_rounded_up_to_the_next_step(base: int, due: float, digits: int) -> None:
    tariff = EvidenceTariff(float(base), step=2.0**-digits, max_work=2.0**63)
    published = tariff.publish(due)
    assert isinstance(published, int) and published >= 1
    assert due <= published <= due * (1 + tariff.step) + 1
    assert tariff.publish(published) == published


def test_ordinary_requests_are_published_exactly() -> None:
    tariff = EvidenceTariff(199_999.0)
    for queries in (1, 2, 7, 16, 24, 64):
        assert tariff.publish(queries * 199_999.0) == queries * 199_999


def test_published_work_is_coarse() -> None:
    tariff = EvidenceTariff(1000.0)
    published = {tariff.publish(due) for due in np.linspace(1000, 16_000, 5000)}
    assert published == {
        *range(1000, 2000, 125),
        *range(2000, 4000, 250),
        *range(4000, 8000, 500),
        *range(8000, 16_001, 1000),
    }


@pytest.mark.parametrize("due", [-1.0, math.nan, math.inf, "5", None, True])
def test_publish_refuses_nonsense(due: Any) -> None:
    with pytest.raises(InvalidInput):
        TARIFF.publish(due)


def test_published_work_fits_64_bits() -> None:
    assert 2**63 < TARIFF.publish(1e300) < 2**64


# -- many accounts


@pytest.mark.parametrize("probation", [False, True])
def test_simulate_totals(probation: bool) -> None:
    traces = [[6.0] * 30, [0.5], [], [1.0, 40.0]]
    result = simulate(replace(TARIFF, probation=probation), traces)
    opening = 0.0 if probation else OPENING  # nobody is asked for it among calm newcomers
    assert result.queries.tolist() == [30, 1, 0, 2]
    for i, trace in enumerate(traces):
        expected = oracle(trace)
        if trace:
            expected[0] += opening - OPENING
        assert result.work[i] == pytest.approx(expected)
        assert result.totals[i] == pytest.approx(sum(expected))
        if trace:
            assert result.mean_price[i] == pytest.approx(sum(expected) / len(trace) / BASE)
            expected[0] -= opening
            assert result.max_price[i] == pytest.approx(max(expected) / BASE)
    assert math.isnan(result.mean_price[2]) and result.max_price[2] == 0.0
