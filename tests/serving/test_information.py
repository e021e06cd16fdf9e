"""What the price and the time of a refusal give away: bits of the votes, and none of the key."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kruskal

from powfast.bill import RequestIdentity
from powfast.challenge import Issuer
from powfast.errors import BadSignature
from powfast.gate import Gate, run
from powfast.http import Answer
from powfast.leakage import HonestReference, from_votes
from powfast.servers.charge import BlockingBill
from powfast.stores import MemoryLedger
from powfast.stores.base import Limits
from powfast.tariff import EvidenceTariff

TEACHERS, CLASSES, QUERIES = 250, 10, 5000
TARIFF = EvidenceTariff(base_work=200_000)
SECRET = bytes(range(32))


def histograms(rng: np.random.Generator, mean_doubt: float) -> np.ndarray[Any, Any]:
    """Votes of teachers who agree but for a share that varies from query to query."""
    doubt = 1 / (1 + np.exp(rng.normal(-mean_doubt, 1.5, QUERIES)))
    chance = doubt[:, None] * rng.dirichlet(np.full(CLASSES, 0.3), QUERIES)
    chance[np.arange(QUERIES), rng.integers(CLASSES, size=QUERIES)] += 1 - doubt
    return np.array([rng.multinomial(TEACHERS, row) for row in chance])


@cache
def evidence_and_votes() -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(7)
    honest = histograms(rng, -3.0)
    reference = HonestReference.fit(from_votes(honest)[:, None], honest.argmax(1))
    kinds = {"honest": histograms(rng, -3.0), "contested": histograms(rng, 0.5)}
    ties = np.full(QUERIES, 0.5)  # fixed per request: they add nothing
    return {
        kind: (reference.evidence(from_votes(votes)[:, None], votes.argmax(1), ties), votes)
        for kind, votes in kinds.items()
    }


def entropy(outcomes: Any) -> float:
    """Bits of the empirical distribution."""
    share = np.unique(outcomes, axis=0, return_counts=True)[1] / len(outcomes)
    return float(-(share * np.log2(share)).sum())


# Given what the account did before, the price is a function of the votes, so that the mutual
# information between the two is the entropy of the price: over these votes, exactly.
@pytest.mark.parametrize(
    ("kind", "before", "most"),
    [
        ("honest", (), 0.12),
        ("honest", (0.7,) * 200, 0.01),
        ("honest", (40.0,) * 3, 4.0),
        ("contested", (), 1.8),
        ("contested", (0.7,) * 200, 0.01),
        ("contested", (40.0,) * 3, 5.3),
    ],
)
def test_the_published_work_tells_few_bits_of_the_votes(
    kind: str, before: tuple[float, ...], most: float
) -> None:
    evidence, votes = evidence_and_votes()[kind]
    state = TARIFF.work(before)[1] if before else None
    owed = [float(TARIFF.work([e], state)[0][0]) for e in evidence]
    published = [work_asked(e, before) for e in evidence]
    assert entropy(votes) > 11
    assert entropy(published) <= most
    assert entropy(published) <= entropy(owed) + 1e-9
    spread = max(owed) / min(owed)
    assert entropy(published) <= np.log2(2 + np.log2(spread) / TARIFF.step)  # so many grid points
    if entropy(owed) > 6:  # a price worth reading: half of what it would tell is gone
        assert entropy(published) < 0.65 * entropy(owed)


def work_asked(evidence: float, before: tuple[float, ...]) -> int:
    """Work that the challenge of a query asks for, of an account that has sent those before it."""
    ledger = MemoryLedger(TARIFF)
    ledger.enter("alice", "", b"before", bytes(16), Limits(math.inf, math.inf, 60.0))
    ledger.charge("alice", "", b"before", bytes(16), before)
    return asked(Gate(Issuer({"a": SECRET}), ledger), evidence)


def asked(gate: Gate, evidence: float, digest: bytes = b"now", solution: str | None = None) -> int:
    """Ask one query; return the work of its challenge, 0 where it is answered at once."""
    bill = BlockingBill()

    async def endpoint() -> Answer:
        bill.charge([evidence])
        return Answer(200, (), b"")

    answer = run(gate.serve(RequestIdentity("alice", "", digest), bill, solution, endpoint))
    assert answer is not None
    if answer.status == 200:
        return 0
    work: int = json.loads(answer.body)["work"]
    return work


def test_asking_again_tells_nothing_more() -> None:
    gate = Gate(Issuer({"a": SECRET}), MemoryLedger(TARIFF))
    assert len({asked(gate, 17.3) for _ in range(50)}) == 1


@given(
    st.integers(1, 2**40),
    st.integers(1, 8),
    st.lists(st.floats(1.0, 1e6), min_size=1, max_size=60),
)
def test_what_is_published_covers_the_price_and_its_excess_is_credit(
    base: int, digits: int, prices: list[float]
) -> None:
    """All that was published is above all that was owed by one step of one request at most."""
    tariff = EvidenceTariff(float(base), step=2.0**-digits)
    balance = 0.0
    for price in prices:
        due = price * base - balance
        balance -= price * base
        if due > 0:
            published = tariff.publish(due)
            assert due <= published <= (1 + 2 * tariff.step) * due + 1
            balance += published
        assert -1e-9 * base * sum(prices) <= balance <= 2 * tariff.step * max(prices) * base + 1


# -- the time of a refusal

POSITIONS = (0, 1, 15, 30, 31)


def forged(token: bytes, position: int) -> bytes:
    """Return the token with its MAC right up to a byte, and wrong from there on."""
    mask = bytes(position) + b"\x55" * (32 - position)
    return (int.from_bytes(token) ^ int.from_bytes(mask)).to_bytes(len(token))


def p_value(refuse: Callable[[bytes], None], fresh: Callable[[], bytes], rounds: int) -> float:
    """How likely the differences of the times are by chance, by their ranks."""
    order = [*POSITIONS] * rounds
    random.shuffle(order)
    tokens = [forged(fresh(), position) for position in order]
    times: dict[int, list[int]] = {position: [] for position in POSITIONS}
    for position, token in zip(order, tokens, strict=True):
        start = time.perf_counter_ns()
        refuse(token)
        taken = time.perf_counter_ns() - start
        times[position].append(taken)
    return float(kruskal(*times.values()).pvalue)


def test_the_time_of_a_refusal_does_not_say_how_much_of_a_mac_is_right() -> None:
    issuer = Issuer({"a": SECRET})

    def refuse(token: bytes) -> None:
        try:
            issuer.check(token, (1,), account="alice")
        except BadSignature:
            return
        raise AssertionError("admitted")

    def fresh() -> bytes:
        return issuer.issue(work=1000, account="alice")

    # three times in a row by chance: once in 10^15 runs
    assert any(p_value(refuse, fresh, 3000) > 1e-5 for _ in range(3))


def test_the_statistic_would_see_a_comparison_that_stops_early() -> None:
    def refuse(token: bytes) -> None:
        for mine, theirs in zip(SECRET, token, strict=True):
            if mine != theirs:
                return
        raise AssertionError("admitted")

    assert any(p_value(refuse, lambda: SECRET, 3000) < 1e-5 for _ in range(3))
