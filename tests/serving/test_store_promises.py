"""Exactness under concurrency: two processes over each shared store, in any interleaving.

Every run has to be one that the same operations could have made one after the other.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_oracle import Oracle, bits
from ledgers import LIMITS, Clock
from stores import redis_serving

from powfast.bill import Bill, Event, RequestIdentity
from powfast.challenge import Issuer, solve
from powfast.errors import InvalidInput
from powfast.gate import Gate, run
from powfast.http import Answer, format_solution
from powfast.observers.base import Unobserved
from powfast.stores import open_ledger
from powfast.stores.base import Outcome, Paid, Verdict
from powfast.tariff import EvidenceTariff

BASE = 1000.0
OPENING = 50 * BASE
TARIFF = EvidenceTariff(BASE, OPENING, volume=((4, 1.5),), probation=False)
KEYS = {"2026a": bytes(range(32))}
IDENTITY = RequestIdentity("alice", "", b"a request")
PATIENCE = 60.0
NEVER = 4e9  # seconds since the epoch

Step = tuple[str, tuple[Any, ...]]


class Redemptions(Unobserved):
    """Keeps what became of each solution."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []

    def event(self, name: str, **fields: str | float) -> None:
        if name == "redeemed":
            self.outcomes.append(fields["outcome"])


def node(url: str, pipe: Connection) -> None:
    """A process of its own: does what it is sent, `threads` steps at a time."""
    ledger = open_ledger(url, TARIFF, timeout=PATIENCE)

    def do(step: Step) -> Any:
        operation, arguments = step
        try:
            if operation == "pay":
                return paying(ledger, *arguments)
            return getattr(ledger, operation)(*arguments)
        except InvalidInput as error:
            return error.code

    for steps, threads in iter(pipe.recv, None):
        with ThreadPoolExecutor(threads) as pool:
            pipe.send(list(pool.map(do, steps)))
    ledger.close()


def paying(ledger: Any, solution: str) -> Any:
    """Send a request with a solution; return the status, and what became of the solution."""
    bill, seen = Bill(), Redemptions()

    async def endpoint() -> Answer:
        bill.advance(Event.CHARGE)
        await bill.charging([1.0])
        return Answer(200, (), b"answer")

    gate = Gate(Issuer(KEYS), ledger, observer=seen)
    answer = run(gate.serve(IDENTITY, bill, solution, endpoint))
    return answer and answer.status, *seen.outcomes


class TwoNodes:
    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.ledger = open_ledger(url, TARIFF, timeout=PATIENCE)
        self._pipes, self._processes = [], []
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=node, args=(url, theirs))
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def do(self, *steps: list[Step], threads: int = 1) -> list[list[Any]]:
        """Give each process its steps, both at once; return what came of them."""
        for pipe, mine in zip(self._pipes, steps, strict=True):
            pipe.send((mine, threads))
        return [pipe.recv() for pipe in self._pipes]

    def close(self) -> None:
        self.ledger.close()
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join()


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoNodes]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        both = TwoNodes(f"sqlite:///{folder}/ledger.db")
        yield both
        both.close()
        return
    with redis_serving(folder) as server:
        both = TwoNodes(server.url)
        yield both
        both.close()


numbers = itertools.count()
ACCOUNTS = "alice", "bob"
WHOSE = st.sampled_from(ACCOUNTS), st.sampled_from([b"1", b"2"])
EVIDENCE = st.sampled_from([[], [0.0, 30.0], [2.0], [7.5, 1.0, 0.25], [1.0], [math.nan]])
RUNS = st.sampled_from([b"r", b"s", b"t"])
CHALLENGES = st.sampled_from([b"x", b"y"])
WORKS = st.sampled_from([1, 1000, 51_000, 10**6])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), *WHOSE, RUNS, st.none() | CHALLENGES),
        st.tuples(st.just("charge"), *WHOSE, RUNS, EVIDENCE, st.none() | CHALLENGES),
        st.tuples(st.just("leave"), *WHOSE, RUNS, st.sampled_from(Outcome)),
        st.tuples(st.just("redeem"), *WHOSE, CHALLENGES, WORKS),
        st.tuples(st.just("report"), *WHOSE, EVIDENCE, st.sampled_from([0.0, 1000.0])),
    ),
    max_size=8,
)


def concrete(step: Any, run_number: str) -> Step:
    """One step with names of its own, of a group that both accounts are in."""
    operation, account, digest, *rest = step

    def named(short: bytes) -> bytes:
        return hashlib.sha256(run_number.encode() + account.encode() + short).digest()[:16]

    def paid(challenge: bytes | None) -> Paid | None:
        return None if challenge is None else Paid(named(challenge), NEVER, True)

    if operation == "enter":
        rest = [named(rest[0]), LIMITS, paid(rest[1])]
    elif operation == "charge":
        rest = [named(rest[0]), rest[1], paid(rest[2])]
    elif operation == "leave":
        rest[0] = named(rest[0])
    elif operation == "redeem":
        rest = [named(rest[0]), NEVER, rest[1]]
    return operation, (run_number + account, run_number, digest, *rest)


def done(ledger: Any, step: Step) -> Any:
    """What a step comes to; how long to wait for another run is the clock's affair."""
    operation, arguments = step
    try:
        return timeless(getattr(ledger, operation)(*arguments))
    except InvalidInput as error:
        return error.code


def timeless(result: Any) -> Any:
    busy = getattr(result, "verdict", None) is Verdict.BUSY
    return result._replace(work=0.0) if busy else result


def records(ledger: Any, group: str) -> list[Any]:
    """Every record but for when it was last charged."""
    whose = [(group + account, group) for account in ACCOUNTS]
    kept = [(bits(ledger.account(*each)) or (None,))[:-1] for each in whose]
    return [*kept, (bits(ledger.account("", group)) or (None,))[0]]


@settings(max_examples=60, deadline=None)
@given(STEPS, STEPS)
def test_every_interleaving_is_one_after_the_other(
    nodes: TwoNodes, first: list[Any], second: list[Any]
) -> None:
    name = f"{next(numbers)} "
    steps = [[concrete(step, name) for step in given] for given in (first, second)]
    results = [[timeless(result) for result in own] for own in nodes.do(*steps)]
    left = records(nodes.ledger, name)
    seen = set()

    def explains(oracle: Any, at: tuple[int, int]) -> bool:
        """Whether what is left of both can have come about from here."""
        place = (at, *records(oracle, name), str(oracle.requests), str(oracle.spent))
        if place in seen:
            return False
        seen.add(place)
        if at == (len(first), len(second)):
            return records(oracle, name) == left
        for which in (0, 1):
            number = at[which]
            if number < len(steps[which]):
                after = oracle.fork()
                if done(after, steps[which][number]) == results[which][number]:
                    further = (at[0] + 1, at[1]) if which == 0 else (at[0], at[1] + 1)
                    if explains(after, further):
                        return True
        return False

    assert explains(Checked(TARIFF, clock=Clock()), (0, 0)), results


class Checked(Oracle):
    """The naive ledger, which refuses what every ledger refuses, and can be tried out."""

    def fork(self) -> Checked:
        other = Checked(self.tariff, clock=self.clock)
        kept = copy.deepcopy((self.accounts, self.requests, self.spent, self.pools))
        other.accounts, other.requests, other.spent, other.pools = kept
        return other

    def charge(self, *arguments: Any) -> Any:
        refuse_nan(arguments[4])
        return super().charge(*arguments)

    def report(self, *arguments: Any) -> None:
        refuse_nan(arguments[3])
        super().report(*arguments)


def refuse_nan(evidence: list[float]) -> None:
    if any(math.isnan(each) for each in evidence):
        raise InvalidInput("not a number")


def test_1000_concurrent_queries_cost_what_1000_serial_ones_do(nodes: TwoNodes) -> None:
    def charge(process: int, number: int) -> Step:
        digest = bytes([process, number // 256, number % 256])
        return "charge", ("many", "", digest, digest.ljust(16), [1.3])

    steps = [[charge(process, number) for number in range(500)] for process in range(2)]
    charged = nodes.do(*steps, threads=16)
    oracle = Oracle(TARIFF, clock=Clock())
    for operation, arguments in steps[0] + steps[1]:
        getattr(oracle, operation)(*arguments)
    expected, found = oracle.account("many"), nodes.ledger.account("many")
    assert found is not None and expected is not None
    assert np.array_equal(found.state, expected.state)
    assert (found.balance, found.unpaid_runs) == (expected.balance, 1000)
    assert math.fsum(each.price for each in charged[0] + charged[1]) == pytest.approx(
        -found.balance, rel=1e-12
    )


def test_one_request_entered_by_all_at_once_runs_once(nodes: TwoNodes) -> None:
    nodes.ledger.reset("one", "of a group")
    runs = [[bytes([process, number] * 8) for number in range(32)] for process in range(2)]
    steps: list[list[Step]] = [
        [("enter", ("one", "of a group", b"1", each, LIMITS)) for each in own] for own in runs
    ]
    entries = list(itertools.chain(*nodes.do(*steps, threads=32)))
    verdicts = [entry.verdict for entry in entries]
    assert sorted(verdicts) == [Verdict.RUN] + [Verdict.BUSY] * 63
    mine = entries[verdicts.index(Verdict.RUN)].run
    # and a store that is told twice what the run came to has it once
    step: Step = ("charge", ("one", "of a group", b"1", mine, [5.0]))
    charged = list(itertools.chain(*nodes.do([step] * 32, [step] * 32, threads=32)))
    assert len(set(charged)) == 1
    oracle = Oracle(TARIFF, clock=Clock())
    oracle.reset("one", "of a group")
    assert oracle.charge("one", "of a group", b"1", mine, [5.0]) == charged[0]
    for account in ("one", ""):
        expected, found = (each.account(account, "of a group") for each in (oracle, nodes.ledger))
        assert found is not None and expected is not None
        assert np.array_equal(found.state, expected.state)


def test_64_redemptions_of_one_solution_credit_it_once(nodes: TwoNodes) -> None:
    token = Issuer(KEYS).issue(work=1_000_000, account=IDENTITY.account, request=IDENTITY.digest)
    solution = solve(token)
    wrong = (*solution[:-1], (solution[-1] + 1) % 2**64)
    steps: list[Step] = [("pay", (format_solution(token, wrong),))]
    refused = nodes.do(steps * 8, steps * 8, threads=8)
    assert refused == [[(402, "wrong-solution")] * 8] * 2
    assert nodes.ledger.account(IDENTITY.account) is None
    steps = [("pay", (format_solution(token, solution),))]
    paid = list(itertools.chain(*nodes.do(steps * 32, steps * 32, threads=32)))
    outcomes = [outcome for _, outcome in paid]
    assert outcomes.count("ok") == 1
    assert set(outcomes) <= {"ok", "again", "already-redeemed"}
    assert {status for status, _ in paid} <= {200, 409}
    record = nodes.ledger.account(IDENTITY.account)
    assert record is not None
    queries = np.ones(int(record.state[0]))
    assert record.balance == 1_000_000 - TARIFF.work(queries)[0].sum()
