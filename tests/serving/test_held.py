"""Held answers, in memory and over Redis: bounded in bytes that accounts share, and in time."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_held import NaiveHeld
from stores import OnALoop, RedisServer, loop_in_a_thread, redis_serving

import powfast.stores.held
import powfast.stores.redis_held
from powfast.errors import InvalidInput, StoreUnavailable
from powfast.http import Answer
from powfast.stores import AsyncRedisHeldAnswers, RedisHeldAnswers
from powfast.stores.held import OVERHEAD, HeldAnswers

NewHeld = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_serving(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", params=["memory", "redis", "redis on a loop"])
def new_held(request: pytest.FixtureRequest) -> Iterator[NewHeld]:
    """Makes empty stores of one kind."""
    number = itertools.count()
    if request.param == "memory":
        yield HeldAnswers
        return
    server = request.getfixturevalue("server")
    if request.param == "redis":
        with server.client() as client:
            yield lambda **options: RedisHeldAnswers(
                client, prefix=f"blocking {next(number)}:", **options
            )
        return
    with loop_in_a_thread() as run:
        awaiting = redis.asyncio.Redis(port=server.port, socket_timeout=30.0)
        yield lambda **options: OnALoop(
            AsyncRedisHeldAnswers(
                awaiting, timeout=30.0, prefix=f"awaiting {next(number)}:", **options
            ),
            run,
        )
        run(awaiting.aclose())


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """Keeps what a store says of itself."""

    def __init__(self) -> None:
        self.held = (0, 0)
        self.shared = False
        self.counts = {"abandoned": 0, "evicted": 0}

    def event(self, name: str, **fields: Any) -> None:
        if name == "held":
            self.held = (fields["answers"], fields["bytes"])
            self.shared = "shared" in fields
        else:
            self.counts[name] += fields["count"]

    def span(self, name: str) -> AbstractContextManager[object]:
        return nullcontext()


def run_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def answer_of(size: int = 0, status: int = 200) -> Answer:
    """An answer of so many bytes, its headers among them."""
    return Answer(status, ((b"x", b""),) if size else (), b"a" * (size - 1))


ONE = answer_of(1)


def test_an_answer_stays_for_who_asks_again(new_held: NewHeld) -> None:
    held = new_held()
    assert held.put("a", run_of(1), ONE) is True
    assert held.get("a", run_of(1)) == ONE
    assert held.get("a", run_of(1), 0.0) == ONE
    assert held.get("a", run_of(1)) == ONE


def test_accounts_and_runs_are_told_apart(new_held: NewHeld) -> None:
    held = new_held()
    held.put("a", run_of(1), ONE)
    held.put("é" * 1000, run_of(1), answer_of(2))
    assert held.get("b", run_of(1)) is None
    assert held.get("a", run_of(2)) is None
    assert held.get("", run_of(1)) is None
    assert held.get("é" * 1000, run_of(1)) == answer_of(2)
    assert held.get("a", run_of(1)) == ONE


@pytest.mark.parametrize(
    "answer",
    [
        Answer(204, (), b""),
        Answer(200, ((b"x", b"caf\xe9"), (b"x", b'quo"ted\\')), bytes(range(256)) * 3),
        Answer(404, ((b"content-type", b"a"), (b"content-type", b"")), b"\n\n"),
        Answer(200, ((b"", b"long" * 2000),), b"[]" * 100_000),
        Answer(200, (), b"x" * 4096),
        Answer(200, (), b"x" * 4097),
        Answer(HTTPStatus.CREATED, (), b"\0"),
    ],
    ids=["empty", "bytes", "newlines", "large", "small", "larger", "status"],
)
def test_an_answer_comes_back_as_it_was(new_held: NewHeld, answer: Answer) -> None:
    held = new_held()
    held.put("a", run_of(1), answer)
    kept = held.get("a", run_of(1))
    assert kept == answer
    assert isinstance(kept, Answer)


def test_64_put_and_get_at_once(new_held: NewHeld) -> None:
    log = Log()
    held = new_held(observer=log)
    barrier = threading.Barrier(64)

    def ask(number: int) -> Answer | None:
        barrier.wait()
        held.put(f"account {number % 8}", run_of(number), answer_of(number))
        answer: Answer | None = held.get(f"account {number % 8}", run_of(number))
        return answer

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(ask, range(64))) == [answer_of(number) for number in range(64)]
    held.get("", run_of(0))
    assert log.held == (64, 64 * OVERHEAD + sum(range(64)))


def test_putting_a_run_again_replaces_its_answer_and_renews_nothing(new_held: NewHeld) -> None:
    clock, log = Clock(), Log()
    held = new_held(lifetime=10.0, clock=clock, observer=log)
    held.put("a", run_of(1), ONE)
    for seconds in range(9):
        clock.now += 1.0
        assert held.put("a", run_of(1), answer_of(seconds))
        assert held.get("a", run_of(1)) == answer_of(seconds)
    clock.now += 1.0
    assert held.get("a", run_of(1)) is None
    assert log.held == (0, 0)
    assert log.counts == {"abandoned": 1, "evicted": 0}


@pytest.mark.parametrize(("until", "seconds"), [(5.0, 10.0), (10.0, 10.0), (25.5, 25.5)])
def test_an_answer_that_was_paid_is_kept_at_least_until_then(
    new_held: NewHeld, until: float, seconds: float
) -> None:
    clock, log = Clock(), Log()
    held = new_held(lifetime=10.0, clock=clock, observer=log)
    start = clock.now
    held.put("a", run_of(1), ONE)
    assert held.get("a", run_of(1), start + until) == ONE
    assert held.put("a", run_of(1), answer_of(2))  # which does not make it an unpaid one
    clock.now = start + seconds - 0.5
    assert held.get("a", run_of(1)) == answer_of(2)
    clock.now = start + seconds
    assert held.get("a", run_of(1), start + 100.0) is None
    assert (log.held, log.counts["abandoned"]) == ((0, 0), 0)


def test_a_store_says_what_it_holds(new_held: NewHeld) -> None:
    clock, log = Clock(), Log()
    held = new_held(lifetime=10.0, clock=clock, observer=log)
    held.put("a", run_of(1), Answer(200, ((b"name", b"value"), (b"x", b"")), b"body"))
    assert log.held == (1, OVERHEAD + 14)
    assert log.shared != isinstance(held, HeldAnswers)
    clock.now += 5.0
    held.put("b", run_of(1), ONE)
    held.put("b", run_of(2), ONE)
    held.get("b", run_of(2), clock.now)
    assert log.held == (3, 3 * OVERHEAD + 16)
    clock.now += 20.0
    held.get("nobody", run_of(1))
    assert (log.held, log.counts["abandoned"]) == ((0, 0), 2)


def test_the_largest_answer(new_held: NewHeld) -> None:
    log = Log()
    held = new_held(max_bytes=64 * OVERHEAD, observer=log)
    assert held.max_answer == 3 * OVERHEAD
    assert held.put("a", run_of(1), answer_of(held.max_answer))
    assert not held.put("a", run_of(2), answer_of(held.max_answer + 1))
    assert held.get("a", run_of(2)) is None
    assert not held.put("a", run_of(1), answer_of(held.max_answer + 1))
    assert held.get("a", run_of(1)) is None  # rather than an answer that is not the run's any more
    assert (log.held, log.counts["evicted"]) == ((0, 0), 0)


@pytest.mark.parametrize("max_bytes", [0, 1, 16 * OVERHEAD - 1])
def test_no_room_at_all(new_held: NewHeld, max_bytes: int) -> None:
    held = new_held(max_bytes=max_bytes)
    assert held.max_answer == 0
    assert not held.put("a", run_of(1), answer_of())


SPACE = 64 * OVERHEAD  # of the stores below


@pytest.mark.parametrize(
    ("accounts", "large"), [(1, False), (1, True), (64, False), (64, True), (1000, False)]
)
def test_nobody_keeps_an_honest_customer_from_being_held(
    new_held: NewHeld, accounts: int, large: bool
) -> None:
    held = new_held(max_bytes=max(SPACE, 4 * (accounts + 1) * OVERHEAD))
    greedy = answer_of(held.max_answer if large else 1)
    numbers = itertools.count()

    def ask_again_and_again() -> None:
        for number in range(max(100, 5 * accounts)):
            held.put(f"greedy {number % accounts}", run_of(next(numbers)), greedy)

    ask_again_and_again()
    for run in (run_of(1), run_of(2)):
        assert held.put("honest", run, ONE)
        ask_again_and_again()
    assert held.get("honest", run_of(1)) == ONE
    assert held.get("honest", run_of(2)) == ONE


def test_the_account_that_holds_most_makes_room_with_what_ends_first(new_held: NewHeld) -> None:
    clock, log = Clock(), Log()
    held = new_held(max_bytes=SPACE, clock=clock, observer=log)
    largest = answer_of(held.max_answer)
    for number in (0, 1, 2, 3):
        clock.now += 1.0
        held.put("most", run_of(number), largest)
    held.get("most", run_of(0), clock.now + 1000.0)
    for number in range(12):
        clock.now += 1.0
        held.put(f"one {number}", run_of(1), largest)
    assert log.held == (16, SPACE)
    for number in (4, 5, 6):
        assert held.put(f"new {number}", run_of(1), ONE)
        assert held.put(f"newer {number}", run_of(1), answer_of(2 * OVERHEAD - 1))
        kept = [held.get("most", run_of(other)) is not None for other in range(4)]
        assert kept == [True, number < 4, number < 5, number < 6]
    assert log.counts == {"abandoned": 0, "evicted": 3}


def test_an_account_alone_leaves_half_to_others(new_held: NewHeld) -> None:
    held = new_held(max_bytes=SPACE)
    kept = [held.put("a", run_of(number), answer_of()) for number in range(64)]
    assert kept == [number <= 32 for number in range(64)]
    assert all(held.put("b", run_of(number), answer_of()) for number in range(16))


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("EXPIRE_AT_ONCE", 3), ("EVICT_AT_ONCE", 2)):
        monkeypatch.setattr(powfast.stores.held, name, count)
        monkeypatch.setattr(powfast.stores.redis_held, name, count)


@pytest.mark.usefixtures("few_at_once")
def test_no_call_waits_for_many_that_end(new_held: NewHeld) -> None:
    clock, log = Clock(), Log()
    held = new_held(lifetime=10.0, clock=clock, observer=log)
    for number in range(8):
        held.put("a", run_of(number), ONE)
    clock.now += 10.0
    assert held.get("a", run_of(7)) is None  # ended, whoever has come so far
    assert (log.held[0], log.counts["abandoned"]) == (4, 4)
    assert held.put("a", run_of(6), answer_of(2))
    assert (log.held[0], log.counts["abandoned"]) == (1, 8)
    clock.now += 9.0
    assert held.get("a", run_of(6)) == answer_of(2)


@pytest.mark.usefixtures("few_at_once")
def test_no_call_waits_for_many_that_make_room(new_held: NewHeld) -> None:
    log = Log()
    held = new_held(max_bytes=SPACE, observer=log)
    for account, number in itertools.product("abcdefgh", range(8)):
        held.put(account, run_of(number), answer_of())
    for account in range(100):
        held.put(f"one {account}", run_of(1), answer_of())
    assert log.held == (64, SPACE)
    evicted = log.counts["evicted"]
    assert [held.put("large", run_of(1), answer_of(3 * OVERHEAD)) for _ in (1, 2)] == [False, True]
    assert log.counts["evicted"] == evicted + 4


ACCOUNTS = st.sampled_from("aaaaaabbbccdefghij")
PUTS = st.tuples(ACCOUNTS, st.integers(0, 9), st.integers(0, 5))


@settings(max_examples=20, deadline=None)
@given(st.lists(PUTS, min_size=30, max_size=80))
def test_who_holds_at_most_half_of_an_equal_share_finds_room_and_loses_nothing(
    new_held: NewHeld, puts: list[tuple[str, int, int]]
) -> None:
    space = 20 * OVERHEAD  # one answer takes at most 1.25
    held = new_held(max_bytes=space, clock=Clock())
    sizes: dict[tuple[str, int], int] = {}
    for account, number, amount in puts:
        sizes.pop((account, number), None)
        shares = Counter({account: 0})
        for (whose, _), size in sizes.items():
            shares[whose] += size
        small = {whose for whose, size in shares.items() if 2 * size * len(shares) <= space}
        kept = held.put(account, run_of(number), answer_of(200 * amount))
        assert kept or account not in small
        if kept:
            sizes[account, number] = OVERHEAD + 200 * amount
        lost = {place for place in sizes if held.get(place[0], run_of(place[1])) is None}
        assert not {whose for whose, _ in lost} & small
        for place in lost:
            del sizes[place]
        assert sum(sizes.values()) <= space


STEPS = st.tuples(st.sampled_from(["put", "put", "put", "get", "pay", "wait"]), PUTS)


@pytest.mark.usefixtures("few_at_once")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEPS, min_size=20, max_size=120))
def test_any_order_is_as_a_naive_list_has_it(
    new_held: NewHeld, steps: list[tuple[str, tuple[str, int, int]]]
) -> None:
    clock, log = Clock(), Log()
    space = 20 * OVERHEAD
    held = new_held(lifetime=40.0, max_bytes=space, clock=clock, observer=log)
    naive = NaiveHeld(clock, 40.0, space, expire_at_once=3, evict_at_once=2)
    for step, (account, number, amount) in steps:
        run, answer = run_of(number), answer_of(250 * amount)
        if step == "wait":
            clock.now += amount
            continue
        if step == "put":
            assert held.put(account, run, answer) == naive.put(account, run, answer)
        else:
            until = clock.now + 10.0 * amount if step == "pay" else None
            assert held.get(account, run, until) == naive.get(account, run, until)
        assert log.held == (len(naive.rows), naive.bytes_of(naive.rows)) <= (20, space)
        assert log.counts == naive.counts


def test_thousands_that_come_and_go_are_told_apart() -> None:
    rng, clock, ends = random.Random(7), Clock(), dict[tuple[str, bytes], float]()
    held = HeldAnswers(lifetime=3000.0, clock=clock)
    for _ in range(30_000):
        clock.now += 1.0
        account, run = f"account {rng.randrange(50)}", run_of(rng.randrange(200))
        until = clock.now + rng.randrange(6000)
        known = ends.get((account, run), 0.0) > clock.now
        if rng.random() < 0.5:
            assert held.put(account, run, ONE)
            if not known:
                ends[account, run] = clock.now + 3000.0
        else:
            assert held.get(account, run, until) == (ONE if known else None)
            if known:
                ends[account, run] = max(ends[account, run], until)
    for _ in range(10):  # each drops a hundred that have ended
        held.get("", run_of(0))
    assert len(held) == len([end for end in ends.values() if end > clock.now]) > 1000


@pytest.mark.parametrize(
    "misuse",
    [
        lambda held: held.put(1, run_of(1), ONE),
        lambda held: held.put("\ud800", run_of(1), ONE),
        lambda held: held.put("a", "1" * 16, ONE),
        lambda held: held.put("a", b"1" * 15, ONE),
        lambda held: held.put("a", run_of(1), None),
        lambda held: held.put("a", run_of(1), (200, ())),
        lambda held: held.put("a", run_of(1), Answer(200.0, (), b"")),
        lambda held: held.put("a", run_of(1), Answer(2**70, (), b"")),
        lambda held: held.put("a", run_of(1), Answer(200, (), "body")),
        lambda held: held.put("a", run_of(1), Answer(200, None, b"")),
        lambda held: held.put("a", run_of(1), Answer(200, ((b"a",),), b"")),
        lambda held: held.put("a", run_of(1), Answer(200, (("a", b"b"),), b"")),
        lambda held: held.get("a", b"", 0.0),
        lambda held: held.get("a", run_of(1), "soon"),
        lambda held: held._answers.get("a", run_of(1)),
        lambda held: held._answers.usage(0.0),
    ],
)
def test_arguments_of_the_wrong_kind(misuse: Callable[[HeldAnswers], object]) -> None:
    held = HeldAnswers()
    with pytest.raises(TypeError):
        misuse(held)
    assert len(held) == 0


@pytest.mark.parametrize(
    "setting",
    [
        {"lifetime": 0.0},
        {"lifetime": -1.0},
        {"lifetime": float("nan")},
        {"lifetime": float("inf")},
        {"max_bytes": -1},
        {"max_bytes": 2**60},
        {"max_bytes": 1.5},
        {"max_bytes": True},
    ],
    ids=str,
)
def test_settings_out_of_range(new_held: NewHeld, setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(setting))):
        new_held(**setting)


def test_nothing_is_left_behind_in_redis(server: RedisServer) -> None:
    clock = Clock()
    with server.client() as client:
        held = RedisHeldAnswers(client, prefix="behind:", lifetime=50.0, clock=clock)
        held.get("a", run_of(1))
        assert client.keys("behind:*") == []
        held.put("a", run_of(1), ONE)
        assert len(client.keys("behind:*")) == 5
        held.get("a", run_of(1), clock.now + 100.0)
        for key in client.keys("behind:*"):
            assert 140_000 < client.pttl(key) <= 150_000
        clock.now += 100.0
        held.get("a", run_of(2))
        assert client.keys("behind:*") == []


def test_what_redis_drops_of_its_own_accord_is_survived(server: RedisServer) -> None:
    names = ("ends", "order", "shares", "sizes", "answers")
    with server.client() as client:
        for name in names:
            held = RedisHeldAnswers(client, prefix=f"{name}:", max_bytes=SPACE)
            for number in range(100):
                held.put(f"account {number % 70}", run_of(number), answer_of())
                if number % 30 == 0:
                    client.delete(f"{name}:{{held}}:{name}")
            held.get("account 69", run_of(99))
            assert held.put("new", run_of(1), ONE) in (True, False)


def test_redis_without_memory_changes_nothing(server: RedisServer) -> None:
    clock, log = Clock(), Log()
    with server.client() as client:
        held = RedisHeldAnswers(client, prefix="full:", lifetime=10.0, clock=clock, observer=log)
        held.put("a", run_of(1), ONE)
        held.put("b", run_of(1), ONE)
        clock.now += 10.0
        client.config_set("maxmemory", 1)
        try:
            for operation in (lambda: held.put("c", run_of(1), ONE), lambda: held.get("a", b"")):
                with pytest.raises(StoreUnavailable):
                    operation()
        finally:
            client.config_set("maxmemory", 0)
        assert held.put("c", run_of(1), ONE)
        assert (log.held, log.counts["abandoned"]) == ((1, OVERHEAD + 1), 2)
