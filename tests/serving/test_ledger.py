"""What every ledger promises, whatever stores it."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry
from stores import redis_ledgers, redis_ledgers_on_a_loop, redis_serving

from powfast.errors import InvalidInput
from powfast.ledger import MemoryLedger, RedisLedger, SQLiteLedger
from powfast.ledger.base import Page, settle
from powfast.tariff import EvidenceTariff

BASE = 1000.0
TARIFF = EvidenceTariff(base_work=BASE, opening_work=50 * BASE)
EVIDENCE = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=30)
NewLedger = Callable[..., Any]

settings.register_profile("stores", deadline=None, max_examples=30)  # files take their time
settings.load_profile("stores")


@pytest.fixture(scope="module")
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_serving(tmp_path_factory.mktemp("redis")) as path:
        yield path


@pytest.fixture(scope="module", params=["memory", "sqlite", "redis", "redis on a loop"])
def new_ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewLedger]:
    number = itertools.count()
    if request.param == "memory":
        yield lambda **options: MemoryLedger(TARIFF, **options)
    elif request.param == "sqlite":
        folder = tmp_path_factory.mktemp("ledgers")
        yield lambda **options: SQLiteLedger(folder / f"{next(number)}.db", TARIFF, **options)
    else:
        connected = redis_ledgers if request.param == "redis" else redis_ledgers_on_a_loop
        with connected(request.getfixturevalue("redis_socket"), TARIFF) as make:
            yield lambda **options: make(prefix=f"{request.param} {next(number)}:", **options)


def charge_all(ledger: Any, account: str, batches: list[list[float]]) -> list[int]:
    return [
        ledger.charge(account, "", bytes([i // 256, i % 256]), batch)
        for i, batch in enumerate(batches)
    ]


@given(EVIDENCE, st.data())
def test_splitting_a_batch_changes_no_price(
    new_ledger: NewLedger, evidence: list[float], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(evidence)))
    whole, parts = new_ledger(), new_ledger()
    charge_all(whole, "a", [evidence])
    charge_all(parts, "a", [batch for batch in (evidence[:cut], evidence[cut:]) if batch])
    assert np.array_equal(whole.state("a"), parts.state("a"))  # type: ignore[arg-type]
    # what is published may lag by its rounding, never the account's state
    owed = TARIFF.work(evidence)[0].sum()
    assert sum(charge_all(new_ledger(), "a", [evidence])) <= owed * (1 + 1e-12)


@given(EVIDENCE)
def test_published_work_adds_up_to_the_exact_price(
    new_ledger: NewLedger, evidence: list[float]
) -> None:
    ledger = new_ledger()
    published = charge_all(ledger, "a", [[e] for e in evidence])
    owed = float(TARIFF.work(evidence)[0].sum())
    last = TARIFF.work(evidence)[0][-1]
    assert owed * (1 - 1e-9) - 0.25 * (last + owed / 4) <= sum(published) <= owed * (1 + 1e-9)


@given(EVIDENCE, st.integers(0, 29), st.floats(0.0, 100.0))
def test_more_evidence_never_lowers_a_price(evidence: list[float], at: int, more: float) -> None:
    at %= len(evidence)
    raised = [e + more * (i == at) for i, e in enumerate(evidence)]
    assert (TARIFF.work(raised)[0] >= TARIFF.work(evidence)[0]).all()


@given(EVIDENCE, EVIDENCE)
def test_nobody_else_changes_my_price(
    new_ledger: NewLedger, mine: list[float], theirs: list[float]
) -> None:
    alone, beside = new_ledger(), new_ledger()
    expected = charge_all(alone, "me", [[e] for e in mine])
    charge_all(beside, "they", [[e] for e in theirs])
    assert charge_all(beside, "me", [[e] for e in mine]) == expected


def test_asking_again_charges_once(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    first = ledger.charge("a", "", b"id", [9.0, 9.0])
    state = ledger.state("a")
    assert ledger.charge("a", "", b"id", [9.0, 9.0]) == first
    assert np.array_equal(ledger.state("a"), state)  # type: ignore[arg-type]
    assert ledger.charge("b", "", b"id", [9.0, 9.0]) == first  # an id belongs to its account


def test_a_request_is_forgotten_after_its_time(new_ledger: NewLedger) -> None:
    ledger = new_ledger(remember=0.05)
    ledger.charge("a", "", b"id", [1.0])
    time.sleep(0.15)
    ledger.charge("a", "", b"id", [1.0])
    assert ledger.state("a")[0] == 2


def test_published_work_and_state_are_the_tariff_s_to_the_last_bit(new_ledger: NewLedger) -> None:
    rng = np.random.default_rng(7)
    ledger, page, batch = new_ledger(), Page(), 0
    for size in (1, 3, 64, 9, 200):
        evidence = rng.exponential(1.2, size)
        expected, page, _ = settle(TARIFF, evidence, page, None)
        assert ledger.charge("a", "", bytes([batch := batch + 1]), evidence) == expected
        assert np.array_equal(ledger.state("a"), page.state)
    evidence = np.array([np.inf, 0.0])
    expected, page, _ = settle(TARIFF, evidence, page, None)
    assert ledger.charge("a", "", b"last", evidence) == expected
    assert np.array_equal(ledger.state("a"), page.state)


def test_a_request_without_queries_costs_and_changes_nothing(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    assert ledger.charge("a", "g", b"id", []) == 0
    assert ledger.state("a") is None
    assert ledger.charge("a", "g", b"other", [1.0]) > 45 * BASE  # still a new account


def test_a_new_account_pays_the_opening_once(new_ledger: NewLedger) -> None:
    prices = charge_all(new_ledger(), "a", [[1.0]] * 5)
    assert sum(prices) == (50 + 5) * BASE  # coarse at first, then made up for
    assert prices[0] > 45 * BASE
    assert prices[2:] == [BASE] * 3


def test_a_group_is_charged_for_all_its_accounts(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for i in range(20):
        last = ledger.charge(f"account {i}", "prefix", b"", [20.0])
    alone = new_ledger().charge("one", "", b"", [20.0])
    assert last > 100 * alone
    assert ledger.state("", "prefix")[0] == 20  # type: ignore[index]


@pytest.mark.parametrize("evidence", [[float("nan")], [-1.0], [[1.0]], ["x"], None])
def test_a_malformed_charge_raises_and_writes_nothing(
    new_ledger: NewLedger, evidence: object
) -> None:
    ledger = new_ledger()
    with pytest.raises(InvalidInput):
        ledger.charge("a", "g", b"id", evidence)  # type: ignore[arg-type]
    assert ledger.state("a") is None
    assert ledger.state("", "g") is None


def test_concurrent_queries_cost_what_serial_ones_do(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda i: ledger.charge("a", "", bytes([i]), [1.5]), range(200)))
    _, serial = TARIFF.work(np.full(200, 1.5))
    assert np.array_equal(ledger.state("a"), serial)  # type: ignore[arg-type]


def test_a_challenge_is_claimed_once_by_64_threads(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    barrier = threading.Barrier(64)

    def claim(_: int) -> bool:
        barrier.wait()
        return ledger.claim(b"x" * 16, 4e9)

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(claim, range(64))) == 1


def test_what_is_charged_outlives_the_process(tmp_path: Path) -> None:
    first = SQLiteLedger(tmp_path / "ledger.db", TARIFF)
    price = first.charge("a", "g", b"id", [9.0])
    assert first.claim(b"x" * 16, 4e9)
    first.close()
    second = SQLiteLedger(tmp_path / "ledger.db", TARIFF)
    assert second.charge("a", "g", b"id", [9.0]) == price
    assert not second.claim(b"x" * 16, 4e9)
    assert second.state("a")[0] == second.state("", "g")[0] == 1  # type: ignore[index]


def redeem_and_charge(path: Path, process: int) -> int:
    ledger = SQLiteLedger(path, TARIFF, timeout=60.0)
    for i in range(50):
        ledger.charge("a", "", bytes([process, i]), [1.5])
    return sum(ledger.claim(bytes([i]) * 16, 4e9) for i in range(50))


def test_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        claimed = pool.map(redeem_and_charge, [path] * 4, range(4))
        assert sum(claimed) == 50
    _, serial = TARIFF.work(np.full(200, 1.5))
    assert np.array_equal(SQLiteLedger(path, TARIFF).state("a"), serial)  # type: ignore[arg-type]


def test_the_script_survives_a_flush_and_holds_in_a_cluster(redis_socket: str) -> None:
    with redis.Redis(unix_socket_path=redis_socket) as client:
        ledger = RedisLedger(client, TARIFF, prefix="flushed:")
        ledger.charge("a", "g", b"1", [1.0])
        client.script_flush()
        ledger.charge("a", "g", b"2", [1.0])
        ledger.charge("a", "", b"3", [1.0])
        assert ledger.state("", "g")[0] == 2  # type: ignore[index]
        tags = {key.split(b"}")[0] for key in client.keys("flushed:*")}
        assert len(tags) == 2  # one for the group and its accounts, one for the account alone
        assert 0 < client.ttl(client.keys("flushed:*charged:*")[0]) <= 3600


def test_a_store_that_is_gone_admits_nothing(tmp_path: Path) -> None:
    once = Retry(NoBackoff(), 0)
    with redis.Redis(unix_socket_path=str(tmp_path / "nobody.sock"), retry=once) as client:
        ledger = RedisLedger(client, TARIFF)
        with pytest.raises(redis.ConnectionError):
            ledger.charge("a", "", b"1", [1.0])
        with pytest.raises(redis.ConnectionError):
            ledger.claim(b"x" * 16, 4e9)


def test_an_expired_challenge_cannot_be_claimed(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    assert not ledger.claim(b"old" * 5, time.time() - 1.0)
    assert ledger.claim(b"new" * 5, time.time() + 60.0)
    assert not ledger.claim(b"new" * 5, time.time() - 1.0)


def test_redis_refuses_a_schedule_that_its_script_does_not_know(redis_socket: str) -> None:
    tariff = EvidenceTariff(base_work=BASE, volume=((1000, 2.0),))
    with (
        redis.Redis(unix_socket_path=redis_socket) as client,
        pytest.raises(InvalidInput, match="volume"),
    ):
        RedisLedger(client, tariff)
