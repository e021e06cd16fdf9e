"""What every ledger promises, whatever stores it."""

from __future__ import annotations

import itertools
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import redis.asyncio
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import OnALoop, RedisServer, loop_in_a_thread, redis_serving

from powfast.errors import InvalidInput
from powfast.stores import (
    AsyncRedisLedger,
    AsyncSQLiteLedger,
    MemoryLedger,
    RedisLedger,
    SQLiteLedger,
)
from powfast.stores.base import CLOCK_SKEW, NEW, settle
from powfast.tariff import EvidenceTariff, Iclr2022Tariff
from powfast.tariff.state import unpacked

BASE = 1000.0
TARIFF = EvidenceTariff(base_work=BASE, opening_work=50 * BASE)
EVIDENCE = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=30)
NewLedger = Callable[..., Any]

settings.register_profile("stores", deadline=None, max_examples=15)  # files take their time
settings.load_profile("stores")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_serving(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(
    scope="module", params=["memory", "sqlite", "sqlite on a loop", "redis", "redis on a loop"]
)
def new_ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewLedger]:
    """Makes empty ledgers of one kind."""
    number, patience = itertools.count(), 30.0
    folder = tmp_path_factory.mktemp("ledgers")

    def new_file() -> Path:
        return folder / f"{next(number)}.db"

    def new_prefix() -> str:
        return f"{request.param} {next(number)}:"

    if request.param == "memory":
        yield lambda tariff=TARIFF, **options: MemoryLedger(tariff, **options)
    elif request.param == "sqlite":
        files = []

        def new_in_file(tariff: Any = TARIFF, **options: Any) -> SQLiteLedger:
            files.append(SQLiteLedger(new_file(), tariff, timeout=patience, **options))
            return files[-1]

        yield new_in_file
        for ledger in files:
            ledger.close()
    elif request.param == "sqlite on a loop":
        threads = []
        with loop_in_a_thread() as run:

            def new_in_thread(tariff: Any = TARIFF, **options: Any) -> OnALoop:
                ledger = AsyncSQLiteLedger(new_file(), tariff, timeout=patience, **options)
                threads.append(OnALoop(ledger, run))
                return threads[-1]

            yield new_in_thread
            for ledger in threads:
                ledger.close()
    elif request.param == "redis":
        with request.getfixturevalue("server").client() as client:
            yield lambda tariff=TARIFF, **options: RedisLedger(
                client, tariff, prefix=new_prefix(), **options
            )
    else:
        port = request.getfixturevalue("server").port
        with loop_in_a_thread() as run:
            client = redis.asyncio.Redis(port=port, socket_timeout=patience)
            yield lambda tariff=TARIFF, **options: OnALoop(
                AsyncRedisLedger(client, tariff, prefix=new_prefix(), timeout=patience, **options),
                run,
            )
            run(client.aclose())


class Clock:
    """Stands still unless it is set."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


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
    clock = Clock()
    ledger = new_ledger(remember=60.0, clock=clock)
    ledger.charge("a", "", b"id", [1.0])
    clock.now += 59.0
    ledger.charge("a", "", b"id", [1.0])
    assert ledger.state("a")[0] == 1


def test_a_forgotten_request_is_charged_anew(new_ledger: NewLedger, server: RedisServer) -> None:
    clock = Clock()
    ledger = new_ledger(remember=60.0, clock=clock)
    ledger.charge("a", "", b"id", [1.0])
    clock.now += 1000.0
    with server.client() as client:  # Redis forgets by a clock of its own
        for key in client.scan_iter("*:charged:*"):
            if client.pttl(key) <= 60_000:
                client.delete(key)
    ledger.charge("a", "", b"id", [1.0])
    assert ledger.state("a")[0] == 2


@pytest.mark.parametrize(
    "tariff",
    [
        TARIFF,
        EvidenceTariff(BASE, 50 * BASE, half_life=3600.0),
        EvidenceTariff(BASE, 50 * BASE, volume=((3, 1.7), (70, 2.5), (100, 4.0))),
        EvidenceTariff(777.0, max_work=1e7, step=0.5, half_life=7.0, volume=((1, 1.1), (9, 3.0))),
    ],
    ids=["plain", "half-life", "volume", "everything"],
)
def test_published_work_and_states_are_the_tariff_s_to_the_last_bit(
    new_ledger: NewLedger, tariff: EvidenceTariff
) -> None:
    rng = np.random.default_rng(7)
    clock = Clock()
    ledger, mine, ours = new_ledger(tariff, clock=clock), NEW, NEW
    sizes_and_waits = [(1, 0), (3, 1e-3), (64, 2000.1), (9, -500), (200, 600), (9, 3e4), (4, 1e9)]
    for batch, (size, wait) in enumerate(sizes_and_waits):
        clock.now += wait
        evidence = rng.exponential(1.5, size)
        evidence[rng.integers(size)] = rng.choice([30.0, np.inf if size == 9 else 0.0])
        expected, mine, ours = settle(tariff, evidence.tolist(), mine, ours, clock.now)
        assert ledger.charge("a", "g", bytes([batch]), evidence) == expected
        assert np.array_equal(ledger.state("a", "g"), unpacked(mine[0]))
        assert np.array_equal(ledger.state("", "g"), unpacked(ours[0]))


def test_wealth_halves_while_nothing_is_asked(new_ledger: NewLedger) -> None:
    clock = Clock()
    ledger = new_ledger(EvidenceTariff(BASE, half_life=60.0), clock=clock)
    ledger.charge("a", "", b"1", [20.0] * 5)
    before = ledger.state("a")
    clock.now += 120.0
    assert ledger.state("a") == pytest.approx([5, *before[1:] / 4])
    clock.now -= 1000.0  # a clock that goes backwards counts as no time
    assert np.array_equal(ledger.state("a"), before)
    ledger.charge("a", "", b"2", [1.0])
    after = ledger.state("a")
    clock.now += 1000.0  # and what it goes forward again is not counted twice
    assert ledger.state("a") == pytest.approx([6, *after[1:] / 4])


def test_a_pardoned_account_has_paid_its_opening(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    ledger.charge("a", "g", b"1", [50.0] * 20)
    for account in ("a", "b", ""):
        ledger.reset(account, "g")
        assert ledger.state(account, "g").tolist() == [1.0] + [0.0] * 7
    assert ledger.charge("a", "g", b"2", [1.0]) == BASE
    assert ledger.charge("a", "g", b"1", [1.0]) > 50 * BASE  # what was charged stays charged
    assert ledger.charge("a", "other", b"2", [1.0]) > 45 * BASE  # an account is of its group


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


def test_an_opening_is_paid_before_anything_is_asked(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    assert [ledger.opening("a", group) for group in ("", "g")] == [50 * BASE] * 2
    for _ in range(2):  # the second changes nothing
        ledger.open("a", "g")
    assert (ledger.opening("a", "g"), ledger.opening("a", "")) == (0, 50 * BASE)
    assert [ledger.charge("a", "g", bytes([i]), [1.0]) for i in range(3)] == [BASE] * 3
    assert ledger.opening("a", "g") == 0


def test_an_account_that_was_charged_stays_as_it_is(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    ledger.charge("a", "", b"1", [50.0] * 20)
    before = ledger.state("a")
    assert ledger.opening("a", "") == 0
    ledger.open("a", "")
    assert np.array_equal(ledger.state("a"), before)  # type: ignore[arg-type]


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
    ledger.charge("a", "g", b"id", [1.0])
    with pytest.raises(InvalidInput):  # nor does a known request pass with it
        ledger.charge("a", "g", b"id", evidence)


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
    with closing(SQLiteLedger(tmp_path / "ledger.db", TARIFF)) as second:
        assert second.charge("a", "g", b"id", [9.0]) == price
        assert not second.claim(b"x" * 16, 4e9)
        assert second.state("a", "g")[0] == second.state("", "g")[0] == 1  # type: ignore[index]


def test_the_script_survives_a_flush_and_keeps_to_one_slot(server: RedisServer) -> None:
    with server.client() as client:
        ledger = RedisLedger(client, TARIFF, prefix="flushed:")
        ledger.charge("a", "g", b"1", [1.0])
        client.script_flush()
        ledger.charge("a", "g", b"2", [1.0])
        ledger.charge("a", "", b"3", [1.0])
        assert ledger.state("", "g")[0] == 2  # type: ignore[index]
        tags = {key.split(b"}")[0] for key in client.keys("flushed:*")}
        assert len(tags) == 2  # one for the group and its accounts, one for the account alone
        assert 0 < client.ttl(client.keys("flushed:*charged:*")[0]) <= 3600


def test_an_expired_challenge_cannot_be_claimed(new_ledger: NewLedger) -> None:
    clock = Clock()
    ledger = new_ledger(clock=clock)
    assert not ledger.claim(b"old" * 5, clock.now)
    assert ledger.claim(b"new" * 5, clock.now + 60.0)
    clock.now += 60.0
    assert not ledger.claim(b"new" * 5, clock.now)


def test_a_challenge_stays_spent_where_clocks_differ(new_ledger: NewLedger) -> None:
    clock = Clock()
    ledger, expires = new_ledger(clock=clock), clock.now + 60.0
    assert ledger.claim(b"new" * 5, expires)
    for clock.now in (expires + CLOCK_SKEW - 0.1, expires - 1.0):
        assert not ledger.claim(b"new" * 5, expires)
        assert ledger.claim(f"another at {clock.now}".encode(), clock.now + 1.0)


def test_a_clock_set_back_further_doubles_a_claim_at_most(new_ledger: NewLedger) -> None:
    clock = Clock()
    ledger, expires = new_ledger(clock=clock), clock.now + 60.0
    assert ledger.claim(b"new" * 5, expires)
    clock.now = expires + 3600.0  # wrong all the while, or the challenge is long over
    assert not ledger.claim(b"new" * 5, expires)
    assert ledger.claim(b"another", clock.now + 60.0)
    clock.now = expires - 1.0
    assert sum(ledger.claim(b"new" * 5, expires) for _ in range(3)) <= 1


@pytest.mark.parametrize("make", [MemoryLedger, SQLiteLedger])
def test_spent_challenges_take_bounded_room(make: Any, tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "ledger.db"
    ledger = (
        MemoryLedger(TARIFF, clock=clock)
        if make is MemoryLedger
        else SQLiteLedger(file, TARIFF, clock=clock)
    )
    remembered = []
    for i in range(1000):
        clock.now += 1.0
        assert ledger.claim(i.to_bytes(16, "big"), clock.now + 120.0)
        ledger.charge("a", "", i.to_bytes(16, "big"), [1.0])
        if make is MemoryLedger:
            remembered.append(len(ledger._spent))
        else:
            with closing(sqlite3.connect(file)) as database:
                remembered += database.execute("SELECT count(*) FROM spent").fetchone()
    ledger.close()
    # one a second, each remembered for its 120 s, the clocks' 60 s and what is left of a bucket
    assert max(remembered) <= 120 + CLOCK_SKEW + 2 * 10


def test_nobody_waits_for_a_night_s_sweep(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "ledger.db"
    with closing(SQLiteLedger(file, TARIFF, clock=clock, remember=600.0)) as ledger:
        for i in range(20):  # buckets of 10 s
            clock.now += 10.0
            for j in range(3):
                ledger.charge("a", "", bytes([i, j]), [1.0])
                assert ledger.claim(bytes([i, j]) * 8, clock.now + 540.0)
        clock.now += 86_400.0
        left = []
        with closing(sqlite3.connect(file)) as database:
            for _ in range(22):
                ledger.state("a")
                counts = "SELECT (SELECT count(*) FROM charged), (SELECT count(*) FROM spent)"
                left.append(database.execute(counts).fetchone())
        assert left == [(3 * max(0, 19 - i),) * 2 for i in range(22)]


def test_redis_forgets_spent_challenges_by_itself(server: RedisServer) -> None:
    with server.client() as client:
        ledger = RedisLedger(client, TARIFF, prefix="spent:", clock=Clock(1000.0))
        assert ledger.claim(b"x" * 16, 1120.0)
        (key,) = client.keys("spent:*")
        assert 0 < client.pttl(key) <= 1000 * (120 + CLOCK_SKEW)


def recipe(command: str) -> str:
    """What docs/stores.md tells an operator to run."""
    (block,) = re.findall(
        rf"```sh\n(.*{command}.*?)```", (ROOT / "docs/stores.md").read_text(), re.S
    )
    return block


def test_an_operator_drops_idle_accounts_of_a_file(tmp_path: Path) -> None:
    clock = Clock(time.time() - 400 * 86_400)
    with closing(SQLiteLedger(tmp_path / "ledger.db", TARIFF, clock=clock)) as ledger:
        ledger.charge("idle", "", b"1", [1.0])
        clock.now = time.time()
        ledger.charge("busy", "", b"1", [1.0])
        (statement,) = re.findall(r'"(DELETE .*?)"', recipe("sqlite3"))
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as database:
            database.execute(statement)
        assert [ledger.state(account) is None for account in ("idle", "busy")] == [True, False]


@pytest.mark.parametrize(("seconds", "dropped"), [(0, True), (31_536_000, False)])
def test_an_operator_drops_idle_accounts_of_redis(
    server: RedisServer, seconds: int, dropped: bool
) -> None:
    _, script = recipe("redis-cli").split("\n\n")
    script = script.replace("redis-cli", f"redis-cli -p {server.port}")
    account = f"idle for {seconds} s"
    with server.client() as client:
        ledger = RedisLedger(client, TARIFF)
        work = ledger.charge(account, "g", b"1", [1.0])
        ledger.charge(account, "", b"1", [1.0])
        subprocess.run(["sh", "-c", script.replace("31536000", str(seconds))], check=True)
        assert [ledger.state(account, group) is None for group in ("g", "")] == [dropped] * 2
        assert ledger.charge(account, "g", b"1", [1.0]) == work  # and nothing else
        assert ledger.state("", "g") is not None


def test_redis_prices_no_other_tariff(server: RedisServer) -> None:
    with server.client() as client, pytest.raises(InvalidInput, match="memory:// or sqlite"):
        RedisLedger(client, Iclr2022Tariff(1.0, 1.0))


def test_the_paper_s_tariff_is_charged_as_well(tmp_path: Path) -> None:
    tariff = Iclr2022Tariff(1.0, 0.0)
    for ledger in (MemoryLedger(tariff), SQLiteLedger(tmp_path / "ledger.db", tariff)):
        assert ledger.charge("a", "g", b"1", [2.0]) == 2**18  # 1.0075 s
        assert ledger.state("a", "g").tolist() == [1.0, 2.0]  # type: ignore[union-attr]
        ledger.close()
