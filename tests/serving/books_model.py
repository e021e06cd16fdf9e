"""Naive books: what the answers that were read cost, from the wire and the endpoint alone.

They share no code with powfast, and know nothing of phases, records or held answers. What
they hold the gate to are six promises, by number:

1. Who has read answers has redeemed their prices, and the opening.
2. Every answer that is read is in the ledger, with the evidence of that very answer.
3. Runs of the model that nobody has paid for are bounded.
4. Nobody reads what was made for others.
5. Who has paid and lost the answer gets it again for the same solution.
6. Nobody can use up what others need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from powfast.accounts import SharedName

BETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9)
MOST_WEALTH = 2.0**100
RERUNS = 3  # for one solution


class Prices(NamedTuple):
    base: float
    opening: float
    most: float
    volume: tuple[tuple[int, float], ...]
    half_life: float
    """Of the names that several people share, in seconds."""


class Person(NamedTuple):
    """Who asks, by what credentials; `shared` are names that several people share."""

    account: str
    group: str = ""
    authorization: str | None = None
    cookie: str | None = None

    @property
    def who(self) -> tuple[str, str]:
        return self.account, self.group


class Request(NamedTuple):
    """What is asked, in the parts that decide what is answered."""

    path: str
    body: str = "a"
    content_type: str = "x/1"
    model: str = "m1"


class Standing:
    """The evidence that a name has shown so far."""

    def __init__(self, prices: Prices, shared: bool, now: float) -> None:
        self._prices, self._shared, self._now = prices, shared, now
        self.queries = 0
        self.wealths = [0.0] * len(BETS)

    def age(self, now: float) -> None:
        if self._shared:
            left = 0.5 ** ((now - self._now) / self._prices.half_life)
            self.wealths = [wealth * left for wealth in self.wealths]
        self._now = now

    def _price(self, number: int) -> float:
        p = self._prices
        multiple = max([1.0, *(m for start, m in p.volume if number >= start)])
        return min(p.base * max(1.0, sum(self.wealths) / len(BETS)) * multiple, p.most)

    def next_price(self) -> float:
        return self._price(self.queries + 1)

    def charge(self, evidence: Sequence[float]) -> float:
        total = 0.0
        for e in evidence:
            self.queries += 1
            n = self.queries
            self.wealths = [
                min((wealth + 1 / (n * (n + 1))) * (1 + bet * (e - 1)), MOST_WEALTH)
                for wealth, bet in zip(self.wealths, BETS, strict=True)
            ]
            total += self._price(n)
        return total


@dataclass(eq=False)
class Charge:
    """Evidence that was counted, at its price; runs of the same evidence may stand on it."""

    price: float
    evidence: list[float]
    reruns: int = 0
    is_read: bool = False


class Answered(NamedTuple):
    body: bytes
    person: Person
    shelf: tuple[int, int]
    """Where it is held, if it is."""
    runs: int
    """How many had begun for the solution: a later one takes the place of this."""


@dataclass(eq=False)
class Solution:
    """What a challenge asked, and what its solution has done."""

    key: str
    person: Person
    request: Request | None
    """For which it is asked; none, where its work is done ahead."""
    work: int
    expires: float
    header: str
    sent: bool = False
    runs: int = 0
    charge: Charge | None = None
    answers: list[Answered] = field(default_factory=list)
    """What was sent for it; the latest is the one that may be held."""


@dataclass(eq=False)
class Run:
    """One run of the endpoint."""

    number: int
    person: Person
    request: Request
    began: float
    floor: float
    solution: Solution | None
    charge: Charge | None = None
    is_model: bool = True
    """Whether the model ran: an endpoint may ask for payment before."""
    is_free: bool = False
    is_excused: bool = False
    is_over: bool = False
    streams: bool = False
    """Whether what is read may be charged after it."""
    told: list[float] | None = None
    """The evidence of an answer that is charged at its end, once it has ended."""


class Account:
    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.redeemed = 0.0
        self.charges: list[Charge] = []
        self.runs: list[Run] = []


class Books:
    def __init__(self, prices: Prices, max_unpaid_runs: int, shared: set[str]) -> None:
        self.prices, self._limit, self._shared = prices, max_unpaid_runs, shared
        self.now = 0.0
        self.accounts: dict[tuple[str, str], Account] = {}
        self.groups: dict[str, Standing] = {}
        self._runs: dict[int, Run] = {}
        self._latest: dict[tuple[tuple[str, str], Request], Run] = {}

    def account(self, who: tuple[str, str]) -> Account:
        if who not in self.accounts:
            self.accounts[who] = Account(self._standing(who[0]))
        return self.accounts[who]

    def group(self, name: str) -> Standing | None:
        if name and name not in self.groups:
            self.groups[name] = self._standing(name)
        return self.groups.get(name)

    def _standing(self, name: str) -> Standing:
        return Standing(self.prices, name in self._shared, self.now)

    def is_shared(self, name: str) -> bool:
        return name in self._shared

    def named(self, name: str) -> str:
        """Say a name as a resolver does."""
        return SharedName(name) if self.is_shared(name) else name

    # What is seen on the wire, and in the endpoint.

    def sent(self, solution: Solution) -> None:
        """A solution is on its way, right and in time: its work counts once."""
        if not solution.sent:
            solution.sent = True
            account = self.account(solution.person.who)
            account.redeemed += solution.work
            if solution.request is None:
                return
            latest = self._latest.get((solution.person.who, solution.request))
            if latest is not None and latest.charge is not None and not latest.charge.is_read:
                solution.charge = latest.charge

    def began(
        self, person: Person, request: Request, solution: Solution | None, queries: int
    ) -> Run:
        account, floor = self.account(person.who), queries * self._price_now(person.who)
        run = Run(len(self._runs), person, request, self.now, floor, solution)
        known = self._latest.get((person.who, request))
        if known and known.charge and not known.charge.is_read:
            price = known.charge.price
            if price * (1 - 1e-9) <= self._left(account):  # and lost: the new run is in its place
                known.is_excused, run.floor = True, min(floor, price)
        if solution is not None:
            solution.runs += 1
            run.is_excused = solution.runs <= RERUNS
        self._runs[run.number] = self._latest[person.who, request] = run
        account.runs.append(run)
        self._bound(person.who)
        return run

    def _left(self, account: Account) -> float:
        """What was redeemed beyond what was read."""
        spent = sum(charge.price for charge in account.charges if charge.is_read)
        return account.redeemed - spent - (self.prices.opening if account.runs else 0.0)

    def _price_now(self, who: tuple[str, str]) -> float:
        names = [self.account(who).standing, self.group(who[1])]
        for standing in names:
            if standing is not None:
                standing.age(self.now)
        return max(standing.next_price() for standing in names if standing is not None)

    def charged(self, run: Run, evidence: list[float], queries: float) -> None:
        """The endpoint has charged; `queries` are those that the ledger counts since."""
        self._price_now(run.person.who)  # ages them
        account, group = self.account(run.person.who), self.group(run.person.group)
        if queries == account.standing.queries + len(evidence):
            price = account.standing.charge(evidence)
            if group is not None:
                price = max(price, group.charge(evidence))
            run.charge = Charge(price, evidence)
            account.charges.append(run.charge)
            if run.solution is not None:
                run.solution.charge = run.charge
            return
        assert queries == account.standing.queries, "2: the ledger counts other queries than these"
        run.charge = self._stands_on(run, evidence)

    def _stands_on(self, run: Run, evidence: list[float]) -> Charge:
        """Find what this run was paid by before, with this very evidence."""
        candidates = [run.solution.charge] if run.solution and run.solution.charge else []
        candidates += [
            other.charge
            for other in reversed(self.account(run.person.who).runs)
            if other.charge is not None and other.request == run.request
        ]
        for charge in candidates:
            if charge.evidence == evidence and charge.reruns <= RERUNS:
                charge.reruns += 1
                return charge
        raise AssertionError("2: the evidence of this run is in no ledger")

    def read(self, number: int, person: Person, request: Request) -> Run:
        """Somebody reads of an answer: it is theirs, and charged."""
        run = self._runs[number]
        assert run.person == person, f"4: {person} reads what {run.person} asked"
        assert run.request == request, f"2: {request} is answered by what {run.request} asked"
        if run.streams and run.charge is None:
            assert not run.is_over, "2: what has streamed was not charged"
        elif not run.is_free:
            assert run.charge is not None, "2: the answer was not charged"
            run.charge.is_read = True
        return run

    # The promises.

    def check(self) -> None:
        for who, account in self.accounts.items():
            left, redeemed = self._left(account), account.redeemed
            assert left >= -1e-9 * redeemed - self._streamed(account), (
                f"1: {who} has redeemed {redeemed}, and read {-left} more"
            )
            if not self._streamed(account):  # else what has begun was paid then
                self._bound(who)

    def _bound(self, who: tuple[str, str]) -> None:
        account = self.account(who)
        unpaid = self._unpaid(account, self._left(account), who[0] in self._shared)
        assert unpaid <= self._limit, f"3: {unpaid} runs of {who} are unpaid"

    def _streamed(self, account: Account) -> float:
        """What may have been read before it was paid: what prices were above their floors."""
        return sum(
            max(0.0, run.charge.price - run.floor)
            for run in account.runs
            if run.streams and run.charge is not None and run.charge.is_read
        )

    def _unpaid(self, account: Account, left: float, shared: bool) -> float:
        """Runs that are neither read nor paid by what is left; the cheapest are paid first."""
        unread = [
            run
            for run in account.runs
            if run.is_model
            and not (run.is_free or run.is_excused or (run.charge and run.charge.is_read))
        ]
        count = 0.0
        for cost, run in sorted(
            [(self._cost(run), run) for run in unread], key=lambda pair: pair[0]
        ):
            weight = 0.5 ** ((self.now - run.began) / self.prices.half_life) if shared else 1.0
            if cost * weight <= left * (1 + 1e-9):
                left -= cost * weight
            else:
                count += weight
        return count - (1.0 if shared else 0.0)

    def _cost(self, run: Run) -> float:
        return run.floor if run.charge is None else min(run.floor, run.charge.price)

    def compare(self, ledger: Any, who: tuple[str, str]) -> None:
        """The ledger knows the queries and wealths of everybody."""
        for name, standing in (
            (who, self.account(who).standing),
            (("", who[1]), self.group(who[1])),
        ):
            record = ledger.account(*map(self.named, name)) if standing is not None else None
            if record is None or standing is None:
                assert standing is None or standing.queries == 0, f"2: {name} is not known"
                continue
            standing.age(self.now)
            known, *wealths = record.state
            assert known == standing.queries, f"2: {known} queries of {name}"
            for ours, theirs in zip(standing.wealths, wealths, strict=True):
                assert abs(ours - theirs) <= 1e-9 * ours + 1e-300, f"2: the wealth of {name}"
