"""Held answers, in memory and over Redis: bounded in number, bytes and time, for each and all."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import OnALoop, RedisServer, loop_in_a_thread, redis_serving

from powfast.errors import TooManyUnpaid
from powfast.http import Answer
from powfast.stores import AsyncRedisHeldAnswers, RedisHeldAnswers
from powfast.stores.held import HeldAnswers

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
        self.abandoned = 0

    def event(self, name: str, **fields: Any) -> None:
        if name == "held":
            self.held = (fields["answers"], fields["bytes"])
            self.shared = "shared" in fields
        else:
            assert name == "abandoned"
            self.abandoned += fields["count"]

    def span(self, name: str) -> AbstractContextManager[object]:
        return nullcontext()


def answer_of(account: str, digest: bytes) -> Answer:
    return Answer(200, ((b"content-type", b"text/plain"),), account.encode() + b" " + digest)


def hold(held: Any, account: str, digest: bytes, size: int = 1) -> None:
    held.reserve(account, digest)
    held.fill(account, digest, 1, answer_of(account, digest), size)


def test_an_answer_is_released_once(new_held: NewHeld) -> None:
    held = new_held()
    hold(held, "a", b"1")
    assert held.reserve("a", b"1") == 1
    assert held.release("b", b"1") is None
    assert held.release("a", b"1") == answer_of("a", b"1")
    assert held.release("a", b"1") is None
    assert held.reserve("a", b"1") == 0


def test_account_and_digest_are_told_apart(new_held: NewHeld) -> None:
    held = new_held()
    hold(held, "a1", b"2")
    assert held.reserve("a", b"12") == 0
    assert held.release("a1", b"2") == answer_of("a1", b"2")


def test_of_64_that_ask_one_gets_the_answer(new_held: NewHeld) -> None:
    held = new_held()
    hold(held, "a", b"1")
    barrier = threading.Barrier(64)

    def release(_: int) -> Answer | None:
        barrier.wait()
        answer: Answer | None = held.release("a", b"1")
        return answer

    with ThreadPoolExecutor(64) as pool:
        released = [answer for answer in pool.map(release, range(64)) if answer is not None]
    assert released == [answer_of("a", b"1")]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(204, (), b""),
        Answer(200, ((b"x", b"caf\xe9"), (b"x", b'quo"ted\\')), bytes(range(256)) * 3),
        Answer(404, ((b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")), b"\n\n"),
    ],
    ids=["empty", "bytes", "newlines"],
)
def test_an_answer_comes_back_as_it_was(new_held: NewHeld, answer: Answer) -> None:
    held = new_held()
    held.reserve("a", b"1")
    held.fill("a", b"1", 2**64 - 1, answer, len(answer.body))
    assert held.reserve("a", b"1") == 2**64 - 1
    assert held.release("a", b"1") == answer


def test_places_are_bounded_per_account_and_in_all(new_held: NewHeld) -> None:
    held = new_held(per_account=2, in_all=3)
    hold(held, "a", b"1")
    held.reserve("a", b"2")  # a running request counts as well
    with pytest.raises(TooManyUnpaid, match="2 answers wait"):
        held.reserve("a", b"3")
    hold(held, "a", b"1")  # asking again takes no further place
    hold(held, "b", b"1")
    with pytest.raises(TooManyUnpaid, match="server"):
        held.reserve("c", b"1")
    held.release("b", b"1")
    held.reserve("c", b"1")


def test_an_answer_that_does_not_fit_keeps_its_price(new_held: NewHeld) -> None:
    held = new_held(account_bytes=10, all_bytes=15)
    hold(held, "a", b"1", 8)
    hold(held, "a", b"2", 8)
    hold(held, "b", b"1", 8)
    assert held.reserve("a", b"2") == 1
    assert held.release("a", b"2") is None
    assert held.release("b", b"1") is None
    assert held.release("a", b"1") is not None
    hold(held, "b", b"1", 8)
    assert held.release("b", b"1") is not None


def test_a_price_without_an_answer_is_kept(new_held: NewHeld) -> None:
    held = new_held()
    held.reserve("a", b"1")
    held.fill("a", b"1", 7, None, 0)
    assert held.reserve("a", b"1") == 7
    assert held.release("a", b"1") is None
    held.fill("a", b"1", 7, answer_of("a", b"1"), 3)  # it has no place any more
    assert held.release("a", b"1") is None


def test_answers_expire_in_order_and_asking_again_renews_them(new_held: NewHeld) -> None:
    clock, log = Clock(), Log()
    held = new_held(lifetime=10.0, clock=clock, observer=log)
    start = clock.now
    for seconds, digest in ((0.0, b"1"), (1.0, b"2"), (2.0, b"3")):
        clock.now = start + seconds
        hold(held, "a", digest)
    clock.now = start + 5.0
    held.reserve("a", b"1")
    clock.now = start + 11.5
    assert held.release("a", b"2") is None
    assert log.held == (2, 2)
    assert log.shared != isinstance(held, HeldAnswers)
    assert log.abandoned == 1
    assert held.release("a", b"1") is not None


def test_an_answer_that_took_longer_than_its_place_lasts_is_not_kept(new_held: NewHeld) -> None:
    clock, log = Clock(), Log()
    held = new_held(lifetime=10.0, clock=clock, observer=log)
    held.reserve("a", b"1")
    clock.now += 10.0
    held.fill("a", b"1", 7, answer_of("a", b"1"), 3)
    assert held.release("a", b"1") is None
    assert (log.held, log.abandoned) == ((0, 0), 0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "fill", "release", "wait"]),
            st.sampled_from("abc"),
            st.sampled_from([b"1", b"2", b"3"]),
            st.integers(0, 12),
        )
    )
)
def test_limits_hold_in_any_order(
    new_held: NewHeld, steps: list[tuple[str, str, bytes, int]]
) -> None:
    clock, log = Clock(), Log()
    bounds = {"per_account": 2, "in_all": 4, "account_bytes": 10, "all_bytes": 15}
    held = new_held(lifetime=20.0, clock=clock, observer=log, **bounds)
    expected = Naive(clock, **bounds)
    for step, account, digest, amount in steps:
        answer = answer_of(account, digest)
        arguments = (account, digest, 1, answer, amount) if step == "fill" else (account, digest)
        if step == "wait":
            clock.now += amount
        else:
            assert outcome(held, step, *arguments) == outcome(expected, step, *arguments)
        assert log.held[0] <= 4
        assert 0 <= log.held[1] <= 15
    clock.now += 100.0
    held.release("nobody", b"")
    assert log.held == (0, 0)
    expected.drop_ended()
    assert log.abandoned == expected.abandoned


class Naive:
    """The same by one list that is searched from its beginning."""

    def __init__(
        self, clock: Clock, per_account: int, in_all: int, account_bytes: int, all_bytes: int
    ) -> None:
        self.clock = clock
        self.per_account, self.in_all = per_account, in_all
        self.account_bytes, self.all_bytes = account_bytes, all_bytes
        self.rows: list[dict[str, Any]] = []
        self.abandoned = 0

    def drop_ended(self) -> None:
        ended = [row for row in self.rows if row["ends"] <= self.clock.now]
        self.abandoned += len([row for row in ended if row["work"]])
        self.rows = [row for row in self.rows if row not in ended]

    def find(self, account: str, digest: bytes) -> dict[str, Any] | None:
        found = [r for r in self.rows if (r["account"], r["digest"]) == (account, digest)]
        return found[0] if found else None

    def reserve(self, account: str, digest: bytes) -> int:
        self.drop_ended()
        row = self.find(account, digest)
        if row is None:
            if len([r for r in self.rows if r["account"] == account]) == self.per_account:
                raise TooManyUnpaid(
                    f"{self.per_account} answers wait for payment: solve one of them first"
                )
            if len(self.rows) == self.in_all:
                raise TooManyUnpaid("the server holds too many unpaid answers: try again later")
            row = {"account": account, "digest": digest, "work": 0, "size": 0, "answer": None}
            self.rows.append(row)
        row["ends"] = self.clock.now + 20.0
        work: int = row["work"]
        return work

    def fill(self, account: str, digest: bytes, work: int, answer: Answer, size: int) -> None:
        self.drop_ended()
        row = self.find(account, digest)
        if row is None:
            return
        row.update(work=work, size=0, answer=None)
        of_all = sum(r["size"] for r in self.rows)
        of_account = sum(r["size"] for r in self.rows if r["account"] == account)
        if of_account + size <= self.account_bytes and of_all + size <= self.all_bytes:
            row.update(size=size, answer=answer)

    def release(self, account: str, digest: bytes) -> Answer | None:
        self.drop_ended()
        row = self.find(account, digest)
        if row is None:
            return None
        self.rows.remove(row)
        answer: Answer | None = row["answer"]
        return answer


def test_thousands_that_come_and_go_are_told_apart() -> None:
    rng, waiting = random.Random(7), dict[tuple[str, bytes], int]()
    held = HeldAnswers(per_account=10**6, in_all=10**6)
    for step in range(1, 60_000):
        # at first most of them come, in the end most of them go
        account, digest = f"account {rng.randrange(50)}", b"%d" % rng.randrange(200)
        place = (account, digest)
        if rng.random() < 0.75 - step / 120_000:
            assert held.reserve(account, digest) == waiting.get(place, 0)
            held.fill(account, digest, step, None, 0)
            waiting[place] = step
        else:
            held.release(account, digest)
            waiting.pop(place, None)
        assert len(held) == len(waiting)
    for account, digest in waiting:
        assert held.reserve(account, digest) == waiting[account, digest]


def outcome(held: Any, operation: str, *arguments: Any) -> Any:
    try:
        return getattr(held, operation)(*arguments)
    except TooManyUnpaid as error:
        return str(error)


def test_places_leave_nothing_behind_in_redis(server: RedisServer) -> None:
    with server.client() as client:
        held = RedisHeldAnswers(client, prefix="behind:", lifetime=50.0)
        hold(held, "a", b"1")
        assert len(client.keys("behind:*")) == 4
        for key in client.keys("behind:*"):
            assert 0 < client.pttl(key) <= 100_000
        held.release("a", b"1")
        assert client.keys("behind:*") == []
