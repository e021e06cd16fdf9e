"""The lab's prices against the real gate's, and its figures against naive ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from laboratory import torch

from benchmarks.extraction import data as sets
from benchmarks.extraction import honest, paper
from benchmarks.extraction.evasions import evasions
from benchmarks.extraction.newcomers import stream
from benchmarks.extraction.pricing import Prices, Solver, Ways, reached
from benchmarks.extraction.results import _over
from benchmarks.extraction.service import Service, Times
from benchmarks.extraction.victims import ARCHITECTURES, Victim
from powfast.accounts import account_of
from powfast.clients.flow import Payer
from powfast.tariff import EvidenceTariff, Iclr2022Tariff

TARIFF = EvidenceTariff(base_work=300.0, opening_work=900.0, max_work=2.0**40)
OPENED = replace(TARIFF, opening_work=0.0)
TIMES = Times(service=1e-4, guarded=1.5e-4, hash_rate=1e7)


@pytest.fixture(scope="module")
def parts() -> sets.Parts:
    return sets.load("digits", 0)


@pytest.fixture(scope="module")
def victim(parts: sets.Parts) -> Victim:
    torch.manual_seed(0)
    found = Victim(ARCHITECTURES["digits"].new_victim(), ARCHITECTURES["digits"].layers)
    found.watch(parts)
    return found


def eight_bit(images: sets.Images) -> sets.Images:
    return sets.scaled(np.uint8(np.rint(images * 255)))


def test_the_real_gate_asks_what_the_lab_computes(parts: sets.Parts, victim: Victim) -> None:
    images = eight_bit(np.concatenate([parts.honest.images[:192], parts.foreign.images[:192]]))
    service, state, owed = Service(victim, replace(TARIFF, probation=False)), None, 0.0
    service.open()
    for batch in np.split(images, 12):
        work, state = OPENED.work(victim.answer(batch).evidence, state)
        due = float(np.cumsum(work)[-1])
        assert service.ask(batch).work == TARIFF.publish(due)
        owed += due
    whole = Prices(TARIFF, TIMES).account(victim.answer(images).evidence)
    solving = owed / TIMES.hash_rate / TIMES.service
    assert whole[-1] == pytest.approx(1.5 * len(images) + solving, rel=1e-9)


def test_a_new_account_pays_what_the_lab_computes(parts: sets.Parts, victim: Victim) -> None:
    tariff = EvidenceTariff(base_work=300.0, opening_work=300.0 * 700)
    images = eight_bit(parts.honest.images[:64])
    service, asked = Service(victim, tariff), 0
    for batch in (images[:16], images[16:]):
        reply = service.ask(batch)
        while reply.status == 402:
            asked += reply.work
            reply = service.ask(batch, solution=Payer().answer(reply))
    record = service.ledger.account(account_of("Bearer user"))
    assert record is not None
    assert 0 <= record.balance <= asked / 8  # rounded up
    spent = Prices(tariff, TIMES).account(victim.answer(images).evidence)
    solving = (asked - record.balance) / TIMES.hash_rate / TIMES.service
    assert spent[-1] == pytest.approx(1.5 * 64 + solving)


def test_a_paid_answer_is_the_bare_one(parts: sets.Parts, victim: Victim) -> None:
    service = Service(victim, TARIFF)
    images = parts.honest.images[:5]
    paid = service.paid(images)
    assert paid.status == 200
    np.testing.assert_array_equal(paid.probabilities, service.bare(images).probabilities)


def test_nothing_evades_the_gate(parts: sets.Parts, victim: Victim) -> None:
    found = evasions(victim, eight_bit(parts.foreign.images), eight_bit(parts.honest.images))
    assert len(found) == 8
    assert not [row for row in found if row["evaded"]]


@pytest.mark.parametrize("evidence", [3.0, 20.0])
@pytest.mark.parametrize("faster", [1, 100])
def test_the_best_split_against_every_size_of_account(evidence: float, faster: int) -> None:
    prices, queries = Prices(TARIFF, TIMES), np.full(40, evidence)

    def account(size: int) -> float:
        return (
            TARIFF.work(queries[:size])[0].sum() / faster / TIMES.hash_rate / TIMES.service / size
            + 1.5
        )

    alone = OPENED.work(queries)[0].sum() / faster / TIMES.hash_rate / TIMES.service / 40 + 1.5
    found = prices.strategies(queries, Ways(queries, 0.2), [], Solver(faster))
    naive = min(alone, *map(account, range(1, 41)))
    assert found["best split"] == pytest.approx(naive, rel=1e-9)
    assert found["one account"] == pytest.approx(alone, rel=1e-9)
    assert found["best dilution"] <= found["best split"] <= found["one account"]


def test_dear_prices_are_paid_in_walks() -> None:
    """An account of three cheap and many dear queries, after an opening that is dear too."""
    prices = Prices(replace(TARIFF, opening_work=300.0 * 600), TIMES)
    queries = np.full(40, 20.0)
    own = OPENED.work(queries)[0] / 300.0
    assert own[0] < 50.0 < own[10]
    by_hand = (np.where(own < 50.0, own / 100, own / 8).cumsum() * 300.0 / 1e3).tolist()
    solver = Solver(hashes=100.0, walks=8.0)
    assert prices.account(queries, solver)[-1] == pytest.approx(by_hand[-1] + 1.5 * 40)
    opened = 600 / 8 * 300.0 / 1e3
    best = min((opened + paid) / (n + 1) + 1.5 for n, paid in enumerate(by_hand))
    found = prices.strategies(queries, Ways(queries, 0.2), [], solver)["best split"]
    assert found == pytest.approx(min(best, by_hand[-1] / 40 + 1.5))
    fresh = stream(np.ones(10), queries, 1, 0.5, 1, 600.0, 1.0, 40)
    assert 0.0 < fresh.dear < fresh.paid
    owed = (fresh.paid - fresh.dear) / 100 + fresh.dear / 8
    assert prices.streamed(fresh, solver) == pytest.approx(1.5 + owed * 300.0 / 1e3)


def test_one_dilution_by_hand() -> None:
    prices, useful = Prices(TARIFF, TIMES), np.full(1000, 30.0)
    trace = np.where(np.arange(10_000) % 5 == 4, 30.0, 0.2)
    work = TARIFF.work(trace)[0].cumsum()
    by_hand = min(
        (work[n - 1] / TIMES.hash_rate / TIMES.service + 1.5 * n) / (n // 5)
        for n in range(5, 1000, 5)
    )
    assert prices.strategies(useful, Ways(useful, 0.2), [])["best dilution"] <= by_hand


@pytest.mark.parametrize(
    ("accuracy", "queries"),
    [
        ([0.95, 0.99, 0.99], 100.0),
        ([0.5, 0.9, 0.99], 1000.0),
        ([0.8, 1.0, 1.0], 10.0**2.5),
        ([0.5, 0.6, 0.89], None),
        ([0.5, 0.95, 0.2], 100 * 10 ** (0.4 / 0.45)),
    ],
)
def test_queries_to_an_accuracy(accuracy: list[float], queries: float | None) -> None:
    found = reached([100, 1000, 10_000], accuracy, 0.9)
    assert found == (None if queries is None else pytest.approx(queries))


def test_the_papers_multiple_against_a_loop() -> None:
    tariff, eps = Iclr2022Tariff(0.25, -10.0), np.full(2500, 0.4)
    seconds = 0.0
    for queries in (1000, 2000, 2500):
        difference = abs(0.4 * queries - (0.25 * queries - 10.0))
        seconds += min(max(1.0075**difference, 0.1), 2948.467908)
    assert paper.multiple(tariff, eps) == pytest.approx(1 + seconds / (0.00736 * 2500))
    single = 1 + sum(1.0075 ** (0.15 * n + 10) for n in (1000, 1000, 500)) / 3
    parts = [paper.multiple(tariff, eps[:n]) for n in (1000, 1000, 500)]
    assert paper.best_split(tariff, eps) == pytest.approx(np.mean(parts))
    assert single > 1


def test_users_are_what_they_are_called(parts: sets.Parts) -> None:
    rng = np.random.default_rng(0)
    kinds = (*honest.USUAL_KINDS, *honest.APART_KINDS)
    users = honest.accounts(parts.honest, 70, (100, 2000), kinds, rng)
    assert [user.kind for user in users[:7]] == list(kinds)
    assert all(100 <= len(user.rows) <= 2000 for user in users)
    for user in users:
        classes = len(np.unique(parts.honest.labels[user.rows]))
        assert classes <= {"one class": 1, "two classes": 2}.get(user.kind, 10)
        assert (user.shift == (0, 0)) == (user.kind != honest.SHIFTED)
    seen = honest.traces(users[4:6], parts.honest.images, lambda x: x.reshape(len(x), -1)[:, 27:29])
    shifted = np.roll(parts.honest.images, users[5].shift, axis=(2, 3)).reshape(-1, 64)
    np.testing.assert_array_equal(seen[1], shifted[users[5].rows, 27:29])


def test_repeats_are_four_of_each_image() -> None:
    distinct = sets.Pictures(np.empty((4000, 1, 1, 1), np.float32), np.arange(4000))
    user = honest.accounts(distinct, 1, (400, 401), ("repeats",), np.random.default_rng(0))[0]
    _, counts = np.unique(user.rows, return_counts=True)
    assert len(user.rows) == 400 and set(counts) <= {4, 8, 12}  # drawn twice: asked eight times


def test_hammering_repeats_only_what_was_asked() -> None:
    rows = honest.hammering(np.arange(1000), np.random.default_rng(0))
    assert rows[0] == 0 and 400 < len(np.unique(rows)) < 600
    for i, row in enumerate(rows):
        assert row == i or row in rows[:i]


def test_seeds_are_summed_up_number_by_number() -> None:
    seeds = [{"a": [1.0, 5.0], "b": None}, {"a": [3.0, 4.0], "b": 2.0}, {"a": [2.0, 9.0], "b": 1.0}]
    first = {"median": 2.0, "lowest": 1.0, "highest": 3.0}
    second = {"median": 5.0, "lowest": 4.0, "highest": 9.0}
    assert _over(seeds) == {"a": [first, second], "b": None}
