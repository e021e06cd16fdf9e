"""Any history of asking, paying and getting lost leaves the books right: see `books_model`.

The seed is printed; `BOOKS_SEED` sets it, and `BOOKS_EXAMPLES` the number of histories.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from books_attacks import Attacks
from books_model import Answered, Books, Person, Prices, Request, Seen, Solution
from books_wire import POINTS, Flight, Model, Place, Wire, counted
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledgers import Clock
from stores import redis_serving

from powfast.challenge import Issuer, decode, solve
from powfast.gate import Gate
from powfast.http import challenge_in, format_solution
from powfast.servers.asgi import PowMiddleware
from powfast.stores import MemoryLedger, RedisLedger, SQLiteLedger
from powfast.stores.held import HeldAnswers
from powfast.stores.redis_held import RedisHeldAnswers
from powfast.tariff import EvidenceTariff

EXAMPLES = int(os.environ.get("BOOKS_EXAMPLES", "80"))
STEPS = 40
SEED = int(os.environ.get("BOOKS_SEED", secrets.randbits(32)))
PRICES = Prices(base=16.0, opening=100.0, most=512.0, volume=((12, 1.5),), half_life=200.0)
TARIFF = EvidenceTariff(
    PRICES.base,
    PRICES.opening,
    PRICES.most,
    shared_half_life=PRICES.half_life,
    volume=PRICES.volume,
)
TTL = 120.0
MAX_UNPAID_RUNS = 3  # or none
MANY, FEW = 1 << 20, 16 * 4608  # bytes of held answers; the fewest hold 16

ALICE, BOB = Person("alice", "", "A1"), Person("bob", "", "B")
PEOPLE = [
    ALICE,
    Person("alice", "", "A1", "c"),
    Person("alice", "", "A2"),
    BOB,
    Person("net", "", None, "n1"),
    Person("net", "", None, "n2"),
    Person("carol", "team", "C"),
    Person("dave", "team", "D"),
]
PATHS = [
    "/exact",
    "/sample",
    "/require",
    "/cookie",
    "/large",
    "/free",
    "/broken",
    "/raises",
    "/many",
    "/tell",
]
BOUGHT = ["/exact", "/exact", "/require", "/cookie", "/large", "/tell"]
WAYS = st.sampled_from(["seen", "answered", "cancelled", "unseen"])
NODES = st.sampled_from([0, 1])
REQUESTS = st.builds(
    Request,
    st.sampled_from(PATHS[:2] * 4 + PATHS + ["/tell"] * 2),
    st.sampled_from("abcde"),
    st.sampled_from(["x/1", "x/1", "x/2"]),
    st.sampled_from(["m1", "m1", "m2"]),
)
PLACES = st.sampled_from(["", "", "", *POINTS])
INDEX = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 5, 8])


NewPlace = Callable[[], Place]


class Histories(Attacks):
    """Two nodes over one ledger, and all that their clients and operators may do."""

    def __init__(self, new_place: NewPlace) -> None:
        super().__init__()
        self.place = new_place()
        self.clock = self.place.clock
        self.wire = Wire()
        self.keys = {"1": secrets.token_bytes(32)}
        self.flights: list[Flight] = []
        self.solutions: list[Solution] = []
        self.touched: set[tuple[str, str]] = set()
        self.newcomers = 0
        self.busy: dict[tuple[tuple[str, str], Request], float] = {}
        """Until when requests are told to wait that ran on a server that was killed."""

    @initialize(
        people=st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=3, unique=True),
        requests=st.lists(REQUESTS, min_size=1, max_size=4, unique=True),
        refuse_above=st.sampled_from([None, None, 100, 300]),
        max_bytes=st.sampled_from([MANY, MANY, FEW]),
        max_unpaid_runs=st.sampled_from([0, 0, MAX_UNPAID_RUNS]),
        probation=st.sampled_from([True, True, False]),
    )
    def begin(
        self,
        people: list[Person],
        requests: list[Request],
        refuse_above: int | None,
        max_bytes: int,
        max_unpaid_runs: int,
        probation: bool,
    ) -> None:
        """Few people ask few things, so that they meet."""
        self.people, self.requests = people, requests
        self.tariff = replace(TARIFF, probation=probation)
        self.books = Books(PRICES._replace(probation=probation), max_unpaid_runs, {"net", "team"})
        self.books.now = self.clock.now
        self.model = Model(self.books, lambda: self.place.ledgers[0])
        self.model.may_stream = not max_unpaid_runs
        self.max_unpaid_runs = max_unpaid_runs
        self.refuse_above, self.max_bytes = refuse_above, max_bytes
        for node in (0, 1):
            self.place.start(node, max_bytes, self.tariff)
        self.apps = [self.node(0), self.node(1)]

    def node(self, node: int) -> PowMiddleware:
        gate = Gate(
            Issuer(self.keys, ttl=TTL, clock=self.clock),
            self.place.ledgers[node],
            self.place.held[node],
            refuse_above=self.refuse_above,
            max_unpaid_runs=self.max_unpaid_runs,
            max_queries=8,
        )
        return PowMiddleware(
            self.model,
            gate,
            account=lambda caller: self.books.named(caller.header("x-user") or ""),
            group=lambda caller: self.books.named(caller.header("x-team") or ""),
            queries=lambda asked: counted(asked.target.decode()[:-1], asked.request.decode()),
            newcomers=lambda caller: "members" if caller.header("x-team") else "",
            bind=("X-Model",),
        )

    # What operators do, and time.

    @rule(seconds=st.sampled_from([1.0, 10.0, 119.0, 120.0, 400.0, 3700.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.books.now = self.clock.now

    @rule(node=NODES)
    def restart(self, node: int) -> None:
        self.stop(node, "cancelled")

    @rule(node=NODES)
    def kill(self, node: int) -> None:
        """A server ends in the middle, and nobody says what became of what ran."""
        for flight in [flight for flight in self.flights if flight.node == node]:
            self.busy[flight.person.who, flight.request] = self.clock.now + TTL
        self.place.kill(node)
        self.stop(node, "killed")

    def stop(self, node: int, how: str) -> None:
        for flight in [flight for flight in self.flights if flight.node == node]:
            self.over(flight, lambda f: self.wire.hang_up(f, how))
        self.place.start(node, self.max_bytes, self.tariff)
        self.apps[node] = self.node(node)

    @rule()
    def rotate(self) -> None:
        last = str(int(max(self.keys, key=int)) + 1)
        self.keys = {**dict([*self.keys.items()][-1:]), last: secrets.token_bytes(32)}
        self.apps = [self.node(0), self.node(1)]

    # What clients do.

    @rule(person=INDEX, request=INDEX, node=NODES, stop_at=PLACES)
    def ask(self, person: int, request: int, node: int, stop_at: str) -> None:
        asked = self.pick(self.requests, request)
        self.send(self.pick(self.people, person), asked, node, None, stop_at)

    @precondition(lambda self: self.solutions)
    @rule(index=INDEX, node=NODES, stop_at=PLACES, is_lost=st.booleans())
    def pay(self, index: int, node: int, stop_at: str, is_lost: bool) -> None:
        """First, again, late, or for what is charged otherwise by now."""
        solution = self.pick(self.solutions, index)
        asked = solution.request or self.requests[0]
        self.send(solution.person, asked, node, solution, stop_at, not is_lost)

    @precondition(lambda self: self.solutions)
    @rule(index=INDEX, node=NODES, person=INDEX, stop_at=PLACES)
    def pay_as(self, index: int, node: int, person: int, stop_at: str) -> None:
        """With other credentials of the same account; or another's, where it has none."""
        solution = self.pick(self.solutions, index)
        others = [other for other in PEOPLE if other.who == solution.person.who]
        others = others if len(others) > 1 else self.people
        asked = solution.request or self.requests[0]
        self.send(self.pick(others, person), asked, node, solution, stop_at)

    @precondition(lambda self: self.solutions)
    @rule(index=INDEX, node=NODES, request=INDEX)
    def pay_for(self, index: int, node: int, request: int) -> None:
        """For another request than was asked."""
        solution = self.pick(self.solutions, index)
        self.send(solution.person, self.pick(self.requests, request), node, solution)

    @precondition(lambda self: self.solutions)
    @rule(index=INDEX, person=INDEX, request=INDEX, node=NODES, stop_at=PLACES)
    def pay_ahead(self, index: int, person: int, request: int, node: int, stop_at: str) -> None:
        """With anything, by anybody, once or again."""
        ahead = [solution for solution in self.solutions if solution.request is None]
        if ahead:
            solution = self.pick(ahead, index)
            who = solution.person if person < 3 else self.pick(self.people, person)
            self.send(who, self.pick(self.requests, request), node, solution, stop_at)

    @precondition(lambda self: self.flights)
    @rule(index=INDEX, node=NODES, trace=st.sampled_from(["", "t"]))
    def copy(self, index: int, node: int, trace: str) -> None:
        flight = self.pick(self.flights, index)
        self.send(flight.person, flight.request, node, None, "", trace=trace)

    @precondition(lambda self: self.flights)
    @rule(index=INDEX)
    def go_on(self, index: int) -> None:
        self.over(self.pick(self.flights, index), self.wire.resume)

    @precondition(lambda self: self.flights)
    @rule(index=INDEX, how=WAYS)
    def hang_up(self, index: int, how: str) -> None:
        self.over(self.pick(self.flights, index), lambda flight: self.wire.hang_up(flight, how))

    @rule(person=INDEX, request=INDEX, node=NODES, stop_at=PLACES, how=WAYS)
    def ask_and_leave(self, person: int, request: int, node: int, stop_at: str, how: str) -> None:
        """As often as it takes to run into what may be unpaid."""
        for _ in range(MAX_UNPAID_RUNS + 1):
            asked = self.pick(self.requests, request)
            flight = self.send(self.pick(self.people, person), asked, node, None, stop_at)
            if flight in self.flights:
                self.over(flight, lambda flight: self.wire.hang_up(flight, how))

    @rule(index=INDEX, path=st.sampled_from(BOUGHT), body=st.sampled_from("abcd"), node=NODES)
    def buy(self, index: int, path: str, body: str, node: int) -> None:
        """Whoever pays what is asked is answered, whether or not that can be held."""
        person, request = self.pick(self.people, index), Request(path, body)
        if not self.is_idle(person, request):
            return
        flight = self.send(person, request, node, None)
        for _ in range(3):
            if flight.status == 402:
                flight = self.send(person, request, node, self.solutions[-1])
        assert flight.status == 200 or (flight.status == 403 and self.refuse_above), "6: no answer"

    @precondition(lambda self: not (self.tariff.probation and self.max_unpaid_runs))
    @rule(node=NODES, path=st.sampled_from(["/exact", "/sample", "/require"]))
    def come(self, node: int, path: str) -> None:
        """A new customer is answered for one payment, and its answer is held for it."""
        person, request = self.newcomer(), Request(path)
        asked = self.send(person, request, node, None)
        assert (asked.status, asked.run) == (402, None), "6: a newcomer is not asked for work"
        solution = self.solutions[-1]
        assert solution.work <= 1.125 * (PRICES.opening + PRICES.base)
        first = self.send(person, request, node, solution, is_heard=False)
        assert first.status == 200 or path == "/sample", "6: a newcomer pays, and is not answered"
        if first.status == 200:
            again = self.send(person, request, node, solution)
            assert again.status == 200, "6: a newcomer's answer is lost"
            assert (again.run, again.body) == (None, first.sent), "6: it is not held"

    @rule(node=NODES)
    def crowd(self, node: int) -> None:
        """Strangers take what places they can get, and ask again and again."""
        with self.aside():
            for _ in range(6):
                person = self.newcomer()
                for body in "aaccdd":
                    if self.send(person, Request("/exact", body), node, None).status == 402:
                        self.send(person, Request("/exact", "a"), node, self.solutions[-1])

    # How it is done.

    @staticmethod
    def pick(several: list[Any], index: int) -> Any:
        """The latest are the likeliest."""
        return several[-1 - index % len(several)]

    def send(
        self,
        person: Person,
        request: Request,
        node: int,
        solution: Solution | None,
        stop_at: str = "",
        is_heard: bool = True,
        trace: str = "",
    ) -> Flight:
        flight = Flight(person, request, solution, stop_at)
        flight.node, flight.is_heard = node, is_heard
        flight.is_paid = solution is not None and self.is_good(solution, person, request)
        if solution is not None and flight.is_paid:
            self.books.sent(solution)
            self.expect(flight, solution)
        if solution is not None and not (flight.is_paid and solution.request):
            flight.solution = None  # to the books, there is none for this request
        flight.header = "" if solution is None else solution.header
        self.flights.append(flight)
        self.over(flight, lambda f: self.wire.begin(self.apps[node], f, trace))
        return flight

    def is_good(self, solution: Solution, person: Person, request: Request) -> bool:
        same = solution.person.who == person.who and solution.request in (None, request)
        return same and solution.key in self.keys and self.clock.now < solution.expires

    def expect(self, flight: Flight, solution: Solution) -> None:
        """Who has been answered for a solution reads the same for it, where that is held."""
        can_hold = (
            flight.request.path not in ("/large", "/cookie", "/tell")
            and self.max_bytes == MANY
            and not self.books.is_shared(flight.person.account)
        )
        here = flight.person, self.place.shelf(flight.node), solution.runs
        if can_hold and solution.answers and here == solution.answers[-1][1:]:
            flight.expected = solution.answers[-1].body

    def over(self, flight: Flight, step: Callable[[Flight], None]) -> None:
        """Let a flight take a step, and write down what came of it."""
        others = [
            f for f in self.flights
            if f is not flight and (f.person.who, f.request) == (flight.person.who, flight.request)
        ]  # fmt: skip
        had_run = flight.run is not None
        step(flight)
        if flight.run and not had_run:
            at_once = [f for f in others if f.stop_at == "before" and f.run and f.waiting
                       and self.clock.now < f.run.began + TTL]  # fmt: skip
            assert not at_once, "3: the same request runs twice at once"
        self.touched.add(flight.person.who)
        run = flight.run
        if run and run.told is not None and not (run.charge or run.is_killed):
            self.books.charged(run, run.told, self.look(flight))
        self.books.saw(flight.person.who, self.look(flight))
        answered = flight.status == 200 and flight.request.path != "/free"
        if flight.status == 200 and (flight.body or (flight.is_whole and flight.is_heard)):
            run = self.books.read(int(flight.headers["x-run"]), flight.person, flight.request)
            if flight.is_whole:
                made = {"run": run.number, "by": [*run.person], "asked": [*run.request]}
                assert flight.sent.rstrip() == json.dumps(made).encode(), "4: another answer"
        if not flight.is_over:
            return
        self.flights.remove(flight)
        if not (flight.is_whole or flight.status == 500):
            return
        self.judge(flight)
        if answered and flight.solution and "pow-receipt" in flight.headers:
            shelf, runs = self.place.shelf(flight.node), flight.solution.runs
            flight.solution.answers.append(Answered(flight.sent, flight.person, shelf, runs))
        if flight.status == 402 and "www-authenticate" in flight.headers:
            self.learn(flight, "www-authenticate", flight.request)
        if "pow-challenge" in flight.headers:
            assert not self.books.is_shared(flight.person.account), "4: their credit is others'"
            self.learn(flight, "pow-challenge", None)

    def look(self, flight: Flight) -> Seen:
        alive = self.place.ledgers[1 - flight.node]
        return self.books.look(alive, flight.person.who)

    def judge(self, flight: Flight) -> None:
        path, status = flight.request.path, flight.status
        assert status in (200, 402, 403, 409, 413, 499, 500, 503), status
        assert status != 499 or flight.leaves
        assert status != 413 or path == "/many"
        assert status != 500 or path == "/raises"
        assert status != 503 or path == "/broken"
        assert status != 403 or self.refuse_above
        assert status != 409 or flight.headers["retry-after"] == "1"
        if flight.run and self.refuse_above and flight.run.floor > self.refuse_above:
            is_paid = (
                flight.run.is_excused or status == 200 or flight.leaves
            )  # who left paid, maybe
            assert is_paid, "3: it ran above refuse_above"
        if flight.run is None and status == 200:
            assert path != "/cookie", "4: a cookie was held"
            assert not self.books.is_shared(flight.person.account), "4: it was held for many"
        if flight.expected is not None:
            assert (status, flight.sent) == (200, flight.expected), "5: it was paid before"
            assert flight.run is None, "5: it was held"

    def learn(self, flight: Flight, header: str, request: Request | None) -> None:
        token = challenge_in(402, flight.headers[header])
        assert token is not None
        said = decode(token)
        solved = format_solution(token, solve(token, threads=1))
        self.solutions.append(
            Solution(said.key_id, flight.person, request, said.work, said.expires, solved)
        )

    @invariant()
    def books_are_right(self) -> None:
        self.books.check()
        for who in self.touched:
            self.books.compare(self.place.ledgers[0], who)
        self.touched.clear()

    def teardown(self) -> None:
        self.wire.close(self.flights)
        for node in (0, 1):
            self.place.close(node)


@pytest.fixture(name="new_place", scope="module", params=["memory", "sqlite", "redis"])
def places(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewPlace]:
    number, folder = itertools.count(), tmp_path_factory.mktemp("books")

    def new_held(clock: Clock) -> Callable[[int], HeldAnswers]:
        return lambda size: HeldAnswers(lifetime=TTL, max_bytes=size, clock=clock)

    def in_memory() -> Place:
        clock = Clock()
        ledger = functools.cache(lambda tariff: MemoryLedger(tariff, clock=clock))
        return Place(clock, ledger, new_held(clock))

    def in_a_file() -> Place:
        clock, file = Clock(), folder / f"{next(number)}.db"
        return Place(
            clock,
            lambda tariff: SQLiteLedger(file, tariff, clock=clock, timeout=30.0),
            new_held(clock),
        )

    if request.param != "redis":
        yield in_memory if request.param == "memory" else in_a_file
        return
    with redis_serving(folder) as server, server.client() as client:

        def in_redis() -> Place:
            clock, prefix = Clock(), f"books {next(number)}:"
            shared = {"prefix": prefix, "clock": clock}

            def held(size: int) -> RedisHeldAnswers:
                return RedisHeldAnswers(client, lifetime=TTL, max_bytes=size, **shared)

            return Place(clock, lambda tariff: RedisLedger(client, tariff, **shared), held, True)

        yield in_redis


def test_any_history_leaves_the_books_right(
    new_place: NewPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f" BOOKS_SEED={SEED} ", end="")
    machine = seed(SEED)(lambda: Histories(new_place))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
