"""Any history leaves every ledger where it leaves the naive one, to the last bit."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from ledger_oracle import Oracle, bits
from ledgers import (
    Clock,
    NewLedger,
    every_kind,  # noqa: F401
    forget_accounts,
    new_small_ledger,
    one_server,  # noqa: F401
)
from sketch_oracle import sketch_bytes

from powfast.accounts import SharedName
from powfast.sketch import Advance
from powfast.stores.base import Entry, Limits, Outcome, Paid
from powfast.tariff import EvidenceTariff

ON_PROBATION = [
    EvidenceTariff(1000.0, 50_000.0),
    EvidenceTariff(1000.0, 50_000.0, half_life=3600.0, max_work=1e7, honest_mean=0.3),
    EvidenceTariff(777.0, half_life=7.0, volume=((1, 1.1), (9, 3.0))),
    EvidenceTariff(10.0, 100.0, shared_half_life=30.0),
    EvidenceTariff(10.0, 100.0, shared_half_life=None, volume=((3, 1.7), (70, 2.5))),
]
WITH_SKETCHES = [replace(tariff, account_evidence=True) for tariff in ON_PROBATION]
TARIFFS = [
    replace(tariff, probation=probation)
    for tariff in ON_PROBATION + WITH_SKETCHES
    for probation in (True, False)
]
NETWORK = SharedName("192.0.2.0/24")
WHO = [("a", ""), ("a", "g"), ("b", "g"), (NETWORK, ""), (NETWORK, SharedName("192.0.0.0/16"))]
POOLS = ["", "another"]
GROUPS = [("", group) for _, group in WHO if group]
EVIDENCE = st.sampled_from(
    [[1.0], [1.0], [0.0, 0.3], [5.0, 0.2, 9.0], [30.0] * 20, [1e-9, 1e9], [math.inf], []]
)


def advances(
    version: bytes, counted: float, own: list[float], numbers: list[float]
) -> Callable[[int], Advance]:
    """Make what a request of n queries adds to a sketch."""
    sums = [counted, *numbers]
    return lambda n: Advance((own * n)[:n], sums, [2.0 * counted, *numbers], version)


ADDED = st.none() | st.builds(
    advances,
    version=st.sampled_from([b"one of 8", b"one of 8", b"another8"]),
    counted=st.sampled_from([0.0, 1.0, 7.0, 0.1]),
    own=st.sampled_from([[1.0], [0.1], [0.3, 9.0], [1e9], [math.inf]]),
    numbers=st.sampled_from([[], [-0.1, 1e-9], [1e18, -(2.0**60)]]),
)
LIMITS = st.builds(
    Limits,
    unpaid_runs=st.sampled_from([0.0, 0.0, 1.0, 3.0, math.inf]),
    refuse_above=st.sampled_from([2e4, math.inf]),
    busy=st.sampled_from([0.0, 0.7, 60.0]),
)
WORK = st.one_of(st.sampled_from(["what is due", "half of it", "the debt"]), st.integers(1, 2**63))
REMEMBER = 1e9  # what is forgotten when is a store's own affair: here nothing is


Added = Callable[[int], Advance] | None


def comparable(said: Any) -> Any:
    """What an operation said, of which two may be compared."""
    if isinstance(said, Entry):
        return *said[:3], *map(sketch_bytes, said[3:])
    return said


class Run(NamedTuple):
    who: tuple[str, str]
    digest: bytes
    run: bytes


class Challenge(NamedTuple):
    who: tuple[str, str]
    digest: bytes
    id: bytes
    expires: float


class Histories(RuleBasedStateMachine):
    runs, challenges = Bundle("runs"), Bundle("challenges")

    def __init__(self, new_ledger: NewLedger) -> None:
        super().__init__()
        self.new_ledger = new_ledger
        self.clock = Clock()
        self.latest = self.clock.now
        self.pool = ""

    @initialize(tariff=st.sampled_from(TARIFFS), known=st.sets(st.sampled_from(WHO)))
    def begin(self, tariff: EvidenceTariff, known: set[tuple[str, str]]) -> None:
        options = {"clock": self.clock, "remember": REMEMBER}
        self.ledger = new_small_ledger(self.new_ledger, tariff, **options)
        self.oracle = Oracle(tariff, **options)
        for who in sorted(known):
            self.both("reset", who)

    def both(self, operation: str, who: tuple[str, str], *arguments: Any) -> Any:
        said, expected = (
            getattr(one, operation)(*who, *arguments) for one in (self.ledger, self.oracle)
        )
        assert comparable(said) == comparable(expected)
        for account in (who, ("", who[1])) if who[1] else (who,):
            self.compare(account)
        return said

    def compare(self, account: tuple[str, str]) -> None:
        found, expected = (bits(one.account(*account)) for one in (self.ledger, self.oracle))
        if found and expected and not account[0]:  # of a group, the rest means nothing
            found, expected = (found[0], found[-1]), (expected[0], expected[-1])
        assert found == expected

    def compare_pools(self) -> None:
        for pool in POOLS:
            assert bits(self.ledger.newcomers(pool)) == bits(self.oracle.newcomers(pool))

    @rule(pool=st.sampled_from(POOLS))
    def hop(self, pool: str) -> None:
        self.pool = pool

    @rule()
    def cool(self) -> None:
        for ledger in (self.ledger, self.oracle):
            ledger.reset_newcomers(self.pool)
        self.compare_pools()

    @rule(seconds=st.sampled_from([1e-3, 0.4, 10.0, 61.0, 2000.1, 3e4, 1e6]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.latest = max(self.latest, self.clock.now)

    @rule(seconds=st.floats(0.0, 50.0))
    def set_the_clock_back(self, seconds: float) -> None:
        self.clock.now = self.latest - seconds

    @rule(
        target=runs,
        who=st.sampled_from(WHO),
        digest=st.sampled_from([b"1", b"2"]),
        limits=LIMITS,
        evidence=st.none() | EVIDENCE,
        queries=st.sampled_from([1, 1, 3, 20]),
    )
    def ask(
        self,
        who: tuple[str, str],
        digest: bytes,
        limits: Limits,
        evidence: list[float] | None,
        queries: int,
    ) -> Run:
        return self.enter(Run(who, digest, os.urandom(16)), limits, None, evidence, queries)

    @rule(target=runs, known=runs, limits=LIMITS, evidence=st.none() | EVIDENCE)
    def ask_again(self, known: Run, limits: Limits, evidence: list[float] | None) -> Run:
        return self.ask(known.who, known.digest, limits, evidence, 1)

    @rule(
        target=runs,
        paid=challenges,
        unread=st.booleans(),
        limits=LIMITS,
        evidence=st.none() | EVIDENCE,
    )
    def run_again(
        self, paid: Challenge, unread: bool, limits: Limits, evidence: list[float] | None
    ) -> Run:
        run, again = Run(paid.who, paid.digest or b"1", os.urandom(16)), None
        if self.clock.now < paid.expires:  # the gate lets nobody run for another
            again = Paid(paid.id, paid.expires, unread)
        return self.enter(run, limits, again, evidence)

    @rule(target=runs, run=runs, evidence=EVIDENCE, unread=st.booleans())
    def pay_and_run_again(self, run: Run, evidence: list[float], unread: bool) -> Run:
        """As the gate does, where the answer that is paid is not held."""
        paid = self.redeem(run, "what is due", 90.0)
        return self.run_again(paid, unread, Limits(3.0, math.inf, 0.7), evidence)

    def enter(
        self,
        run: Run,
        limits: Limits,
        again: Paid | None,
        evidence: list[float] | None,
        queries: int = 1,
    ) -> Run:
        self.both("enter", run.who, run.digest, run.run, limits, again, queries, self.pool)
        self.compare_pools()
        if evidence is not None:
            self.both("charge", run.who, run.digest, run.run, evidence, again, self.pool)
        return run

    @rule(run=runs, limits=LIMITS)
    def ask_twice(self, run: Run, limits: Limits) -> None:
        """The store was asked, and its reply was lost."""
        self.both("enter", run.who, run.digest, run.run, limits)

    @rule(run=runs, evidence=EVIDENCE, paid=st.none() | challenges, mine=ADDED, theirs=ADDED)
    def charge(
        self,
        run: Run,
        evidence: list[float],
        paid: Challenge | None,
        mine: Added = None,
        theirs: Added = None,
    ) -> None:
        with_it = None
        if paid and paid.who == run.who and self.clock.now < paid.expires:
            with_it = Paid(paid.id, paid.expires, False)
        adds = [made and made(len(evidence)) for made in (mine, theirs if run.who[1] else None)]
        added = adds if self.oracle.tariff.account_evidence else [None, None]
        self.both("charge", run.who, run.digest, run.run, evidence, with_it, self.pool, *added)
        self.compare_pools()

    @rule(run=runs, evidence=EVIDENCE, paid=st.none() | challenges, mine=ADDED, theirs=ADDED)
    def charge_twice(
        self,
        run: Run,
        evidence: list[float],
        paid: Challenge | None,
        mine: Added,
        theirs: Added,
    ) -> None:
        for _ in range(2):
            self.charge(run, evidence, paid, mine, theirs)

    @rule(who=st.sampled_from(WHO), evidence=EVIDENCE, mine=ADDED, theirs=ADDED)
    def ask_and_add(
        self, who: tuple[str, str], evidence: list[float], mine: Added, theirs: Added
    ) -> None:
        run = Run(who, b"1", os.urandom(16))
        self.enter(run, Limits(math.inf, math.inf, 0.0), None, None)
        self.charge(run, evidence, None, mine, theirs)

    @rule(run=runs, outcome=st.sampled_from(Outcome), is_another=st.booleans())
    def leave(self, run: Run, outcome: Outcome, is_another: bool) -> None:
        name = os.urandom(16) if is_another else run.run
        self.both("leave", run.who, run.digest, name, outcome)

    @rule(target=challenges, run=runs, work=WORK, life=st.sampled_from([90.0, 1e7, -1.0]))
    def redeem(self, run: Run, work: str | int, life: float) -> Challenge:
        challenge = Challenge(run.who, run.digest, os.urandom(16), self.clock.now + life)
        self.redeem_for(challenge, work)
        return challenge

    @rule(target=challenges, who=st.sampled_from(WHO), work=WORK)
    def prepay(self, who: tuple[str, str], work: str | int) -> Challenge:
        """Credit for whatever the account asks next."""
        return self.redeem(Run(who, b"", b""), work, 1e7)

    @rule(target=runs, run=runs, work=WORK, limits=LIMITS, evidence=st.none() | EVIDENCE)
    def pay_and_ask(
        self, run: Run, work: str | int, limits: Limits, evidence: list[float] | None
    ) -> Run:
        paid = self.redeem(run, work, 90.0)
        again = self.enter(Run(run.who, run.digest, os.urandom(16)), limits, None, None)
        if evidence is not None:
            self.charge(again, evidence, paid)
        return again

    @rule(challenge=challenges, work=WORK)
    def redeem_for(self, challenge: Challenge, work: str | int) -> None:
        who, *rest = challenge
        self.both("redeem", who, *rest, self.amount(who, challenge.digest, work))

    @rule()
    def drop_accounts(self) -> None:
        """Requests and spent challenges stay, and mean nothing to who comes back."""
        forget_accounts(self.ledger)
        self.oracle.accounts.clear()

    def amount(self, who: tuple[str, str], digest: bytes, work: str | int) -> int:
        if isinstance(work, int):
            return work
        request, record = self.oracle.requests.get((*who, digest)), self.oracle.account(*who)
        due, balance = request.due if request else 0.0, record.balance if record else 0.0
        parts = {"what is due": due, "half of it": due / 2, "the debt": -balance}
        return math.ceil(min(max(parts[work], 1.0), 2.0**63))

    @rule(
        who=st.sampled_from(WHO),
        name=st.sampled_from([b"1", b"2"]),
        evidence=EVIDENCE,
        paid=st.sampled_from([0.0, 1500.0, math.inf]),
    )
    def report(self, who: tuple[str, str], name: bytes, evidence: list[float], paid: float) -> None:
        self.both("report", who, name, evidence, paid, self.pool)
        self.compare_pools()

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            for account in WHO + GROUPS:
                self.compare(account)


def test_any_history_leaves_every_ledger_where_it_leaves_the_naive_one(
    new_ledger: NewLedger,
) -> None:
    run_state_machine_as_test(
        lambda: Histories(new_ledger),
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
