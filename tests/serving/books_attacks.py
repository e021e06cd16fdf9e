"""Histories that chance alone seldom makes: each walks into one hole that was there once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from books_model import RERUNS, Person, Request, Solution
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

NODES = st.sampled_from([0, 1])
INDEX = st.integers(0, 2)
AGAIN = RERUNS + 2
OTHERWISE: list[dict[str, str]] = [
    {"body": "c"},
    {"content_type": "x/2"},
    {"model": "m2"},
    {"path": "/sample"},
]
LEAVING = ["/exact", "/sample", "/large", "/broken", "/many"]
"""Paths that run the model, and may leave its run unpaid."""


class Attacks(RuleBasedStateMachine):
    """To be mixed into `Histories`, whose machinery it uses."""

    people: list[Person]
    solutions: list[Solution]
    flights: list[Any]
    newcomers: int
    busy: dict[tuple[tuple[str, str], Request], float]
    clock: Any
    send: Any
    over: Any
    buy: Any
    crowd: Any
    wait: Any
    kill: Any
    wire: Any

    def newcomer(self) -> Person:
        self.newcomers += 1
        return Person(f"new {self.newcomers}", "", "N")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Keep the solutions of those who come and go from crowding out the others."""
        known = len(self.solutions)
        yield
        del self.solutions[known:]

    def is_idle(self, person: Person, request: Request) -> bool:
        known = [(flight.person.who, flight.request) for flight in self.flights]
        asked = person.who, request
        return asked not in known and self.clock.now >= self.busy.get(asked, 0.0)

    @rule(index=INDEX, node=NODES, otherwise=st.sampled_from(OTHERWISE))
    def pay_for_another(self, index: int, node: int, otherwise: dict[str, str]) -> None:
        """What is asked for differs in one part from what is paid for."""
        person, request = self.people[index % len(self.people)], Request("/exact")
        other = request._replace(**otherwise)
        self.buy(index, "/exact", "b", node)
        for asked in (request, other):
            flight = self.send(person, asked, node, None)
        if flight.status == 402:
            solution = self.solutions[-1]
            for asked in (request, other, other):
                self.send(person, asked, node, solution)

    @rule(index=INDEX, node=NODES)
    def pay_with_other_credentials(self, index: int, node: int) -> None:
        person, request = self.people[index % len(self.people)], Request("/exact")
        self.buy(index, "/exact", "b", node)
        if self.send(person, request, node, None).status == 402:
            solution = self.solutions[-1]
            for one in (person._replace(cookie="another's"), person):
                self.send(one, request, node, solution)

    @rule(index=INDEX, node=NODES, path=st.sampled_from(["/exact", "/large", "/cookie"]))
    def read_again_and_again(self, index: int, node: int, path: str) -> None:
        """With the solution, and without; what is not held runs each time."""
        person, request = self.people[index % len(self.people)], Request(path)
        self.buy(index, "/exact", "b", node)
        if self.send(person, request, node, None).status == 402:
            solution = self.solutions[-1]
            for _ in range(AGAIN):
                self.send(person, request, node, solution)
            for _ in range(AGAIN):
                self.send(person, request, node, None)

    @rule(node=NODES, count=st.sampled_from([2, 3]))
    def collect(self, node: int, count: int) -> None:
        """Openings, asked for before any is paid, for one dear request."""
        with self.aside():
            person, dear = self.newcomer(), Request("/exact", "d")
            for _ in range(count):
                self.send(person, dear, node, None)
            for solution in self.solutions[-count:]:
                self.send(person, dear, node, solution)

    @rule(node=NODES, body=st.sampled_from("cd"))
    def heat(self, node: int, body: str) -> None:
        """Strangers who come for one unusual answer each raise what the next newcomers pay."""
        with self.aside():
            for _ in range(4):
                person, request = self.newcomer(), Request("/exact", body)
                flight = self.send(person, request, node, None)
                for _ in range(3):
                    if flight.status == 402:
                        flight = self.send(person, request, node, self.solutions[-1])

    @rule(
        index=INDEX,
        node=NODES,
        path=st.sampled_from(LEAVING),
        bodies=st.sampled_from(["aaaaa", "abcde", "eeeee"]),
        stop_at=st.sampled_from(["", "before", "after", "answering"]),
        how=st.sampled_from(["seen", "answered", "cancelled", "unseen"]),
    )
    def run_up_a_debt(
        self, index: int, node: int, path: str, bodies: str, stop_at: str, how: str
    ) -> None:
        """An account that has paid its opening leaves whatever it asks next."""
        person = self.people[index % len(self.people)]
        self.buy(index, "/exact", "b", node)
        for body in bodies:
            request = Request(path, body)
            if self.is_idle(person, request):
                flight = self.send(person, request, node, None, stop_at)
                if flight in self.flights:
                    self.over(flight, lambda flight: self.wire.hang_up(flight, how))

    @rule(
        index=INDEX,
        node=NODES,
        path=st.sampled_from(["/exact", "/sample", "/tell", "/free"]),
        body=st.sampled_from("ac"),
        stop_at=st.sampled_from(["before", "after", "answering"]),
        seconds=st.sampled_from([1.0, 120.0]),
    )
    def be_answered_by_one_that_is_killed(
        self, index: int, node: int, path: str, body: str, stop_at: str, seconds: float
    ) -> None:
        """Once and again; the other server then answers, or a new one in its place."""
        person, request = self.people[index % len(self.people)], Request(path, body)
        if self.is_idle(person, request):
            flight = self.send(person, request, node, None, stop_at)
            solution = self.solutions[-1] if flight.status == 402 else None
            for server in (node, 1 - node, node):
                self.send(person, request, server, solution, stop_at)
                self.kill(server)
                self.wait(seconds)
            self.send(person, request, node, solution)

    @rule(node=NODES)
    def come_before_a_crowd(self, node: int) -> None:
        """Where nothing else is held, each of seven has its share."""
        self.wait(400.0)
        with self.aside():
            person, request = self.newcomer(), Request("/exact")
            self.send(person, request, node, None)
            solution = self.solutions[-1]
            answer = self.send(person, request, node, solution).sent
            self.crowd(node)
            again = self.send(person, request, node, solution)
            assert (again.run, again.sent) == (None, answer), "6: others took its place"

    @rule(node=NODES)
    def pay_late(self, node: int) -> None:
        """What is asked for again late may be paid as late, and lost then."""
        with self.aside():
            person, request = self.newcomer(), Request("/exact", "c")
            self.send(person, request, node, None)
            asked = self.send(person, request, node, self.solutions[-1])
            self.wait(119.0)
            if asked.status == 402:
                asked = self.send(person, request, node, None)
                solution = self.solutions[-1]
                for _ in range(2):
                    self.send(person, request, node, solution)
                    self.wait(10.0)
