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

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from powfast.accounts import SharedName

BETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9)
MOST_WEALTH = 2.0**100
RERUNS = 3  # for one solution
POOL_KEEPS = 0.5 ** (1 / 5000)
POOL_SHARE = (1 - POOL_KEEPS) / POOL_KEEPS


class Prices(NamedTuple):
    base: float
    opening: float
    most: float
    volume: tuple[tuple[int, float], ...]
    half_life: float
    """Of the names that several people share, in seconds."""
    probation: bool = False
    """Whether newcomers pay their opening by and by, instead of first."""


class Seen(NamedTuple):
    """What the ledger says of an account."""

    queries: float = 0.0
    opened: bool = False
    surcharged: float = 0.0
    pool_queries: float = 0.0


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

    def charge(self, e: float) -> float:
        self.queries += 1
        n = self.queries
        self.wealths = [
            min((wealth + 1 / (n * (n + 1))) * (1 + bet * (e - 1)), MOST_WEALTH)
            for wealth, bet in zip(self.wealths, BETS, strict=True)
        ]
        return self._price(n)


class Pool:
    """The evidence that newcomers have shown together."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self.queries = 0
        self.wealths = [0.0] * len(BETS)

    def surcharge(self, price: float) -> float:
        """What a newcomer pays above its own price."""
        p = self._prices
        return max(0.0, min(p.base * sum(self.wealths) / len(BETS), p.opening) - price)

    def charge(self, e: float) -> None:
        most = len(BETS) * self._prices.opening / self._prices.base
        self.queries += 1
        self.wealths = [
            min(POOL_KEEPS * (wealth + POOL_SHARE) * (1 + bet * (e - 1)), most)
            for wealth, bet in zip(self.wealths, BETS, strict=True)
        ]


@dataclass(eq=False)
class Charge:
    """Evidence that was counted, at its price; runs of the same evidence may stand on it."""

    price: float
    evidence: list[float]
    surcharge: float = 0.0
    """What of the price is for the opening, at least."""
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
    surcharge: float
    solution: Solution | None
    charge: Charge | None = None
    is_model: bool = True
    """Whether the model ran: an endpoint may ask for payment before."""
    is_free: bool = False
    is_excused: bool = False
    is_over: bool = False
    is_killed: bool = False
    """Whether its server ended before it could say what became of it."""
    streams: bool = False
    """Whether what is read may be charged after it."""
    told: list[float] | None = None
    """The evidence of an answer that is charged at its end, once it has ended."""


class Account:
    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.redeemed = 0.0
        self.seen = Seen()
        self.charges: list[Charge] = []
        self.runs: list[Run] = []


class Books:
    def __init__(self, prices: Prices, max_unpaid_runs: int, shared: set[str]) -> None:
        self.prices, self._limit, self._shared = prices, max_unpaid_runs, shared
        self.now = 0.0
        self.accounts: dict[tuple[str, str], Account] = {}
        self.groups: dict[str, Standing] = {}
        self.pools: dict[str, Pool] = {}
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

    def pool(self, who: tuple[str, str]) -> Pool:
        return self.pools.setdefault(self.pool_name(who), Pool(self.prices))

    @staticmethod
    def pool_name(who: tuple[str, str]) -> str:
        """Say in which pool an account is, while it is new: members of groups are apart."""
        return "members" if who[1] else ""

    def _standing(self, name: str) -> Standing:
        return Standing(self.prices, name in self._shared, self.now)

    def is_shared(self, name: str) -> bool:
        return name in self._shared

    def named(self, name: str) -> str:
        """Say a name as a resolver does."""
        return SharedName(name) if self.is_shared(name) else name

    # What is seen on the wire, in the endpoint and in the ledger.

    def look(self, ledger: Any, who: tuple[str, str]) -> Seen:
        record = ledger.account(*map(self.named, who))
        pool = ledger.newcomers(self.pool_name(who))
        seen = Seen() if record is None else Seen(record.state[0], record.opened, record.surcharged)
        return seen._replace(pool_queries=0.0 if pool is None else pool.state[0])

    def saw(self, who: tuple[str, str], seen: Seen) -> None:
        assert seen.surcharged <= self.prices.opening * (1 + 1e-9), f"1: {who} opens twice"
        self.account(who).seen = seen

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
        account, price = self.account(person.who), self._price_now(person.who)
        surcharge = queries * self.pool(person.who).surcharge(price)
        surcharge = min(surcharge, self._left_of_opening(account))
        floor = queries * price
        run = Run(len(self._runs), person, request, self.now, floor, surcharge, solution)
        known = self._latest.get((person.who, request))
        if known and known.charge and not known.charge.is_read:
            price = known.charge.price
            if price * (1 - 1e-9) <= self._left(account):  # and lost: the new run is in its place
                known.is_excused, run.floor, run.surcharge = True, min(floor, price), 0.0
        if solution is not None:
            solution.runs += 1
            run.is_excused = solution.runs <= RERUNS
        self._runs[run.number] = self._latest[person.who, request] = run
        account.runs.append(run)
        self._bound(person.who)
        return run

    def _left(self, account: Account) -> float:
        """What was redeemed beyond what was read."""
        read = [charge for charge in account.charges if charge.is_read]
        surcharges = sum(charge.surcharge for charge in read)
        prices = sum(charge.price for charge in read) - surcharges
        if account.seen.opened if self.prices.probation else account.runs:
            surcharges = max(surcharges, self.prices.opening)
        return account.redeemed - prices - surcharges

    def _left_of_opening(self, account: Account) -> float:
        """What surcharges may still be asked of it."""
        is_new = self.prices.probation and not account.seen.opened
        return self.prices.opening - account.seen.surcharged if is_new else 0.0

    def _price_now(self, who: tuple[str, str]) -> float:
        names = [self.account(who).standing, self.group(who[1])]
        for standing in names:
            if standing is not None:
                standing.age(self.now)
        return max(standing.next_price() for standing in names if standing is not None)

    def charged(self, run: Run, evidence: list[float], seen: Seen) -> None:
        """The endpoint has charged, and what the ledger says is seen since."""
        who = run.person.who
        self._price_now(who)  # ages them
        account = self.account(who)
        if seen.queries == account.standing.queries + len(evidence):
            run.charge = self._priced(run, evidence, seen)
            account.charges.append(run.charge)
            if run.solution is not None:
                run.solution.charge = run.charge
        else:
            assert seen.queries == account.standing.queries, "2: the ledger counts other queries"
            run.charge = self._stands_on(run, evidence)
        self.saw(who, seen)

    def _priced(self, run: Run, evidence: list[float], seen: Seen) -> Charge:
        who = run.person.who
        account, group, pool = self.account(who), self.group(who[1]), self.pool(who)
        own = [account.standing.charge(e) for e in evidence]
        ours = sum(group.charge(e) for e in evidence) if group is not None else 0.0
        is_new = seen.pool_queries == pool.queries + len(evidence)
        is_out = account.seen.opened or not self.prices.probation
        assert is_new or (is_out and seen.pool_queries == pool.queries), "2: not in its pool"
        surcharge, left = 0.0, self._left_of_opening(account)
        if run.solution is not None and run.solution.charge is not None:
            left = 0.0  # what was paid for it before has paid that as well
        for price, e in zip(own, evidence, strict=True):
            if is_new:
                pool.charge(e)
                surcharge += min(pool.surcharge(price), max(0.0, left - surcharge))
        total, without = max(sum(own) + surcharge, ours), max(sum(own), ours)
        return Charge(total, evidence, total - without)

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
            assert run.is_killed or not run.is_over, "2: what has streamed was not charged"
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
            max(0.0, run.charge.price - run.floor - run.surcharge)
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
        if run.charge is not None:
            return min(run.floor, run.charge.price)
        return run.floor + (0.0 if run.is_over else run.surcharge)

    def compare(self, ledger: Any, who: tuple[str, str]) -> None:
        """The ledger knows the queries and wealths of everybody, and of newcomers together."""
        names = [(who, self.account(who).standing), (("", who[1]), self.group(who[1]))]
        for standing in [standing for _, standing in names if standing is not None]:
            standing.age(self.now)
        known: list[Any] = [
            (name, standing, ledger.account(*map(self.named, name)))
            for name, standing in names
            if standing is not None
        ]
        pool = self.pool_name(who)
        known.append(("pool " + pool, self.pool(who), ledger.newcomers(pool)))
        for name, standing, record in known:
            if record is None:
                assert standing.queries == 0, f"2: {name} is not known"
                continue
            queries, *wealths = record.state
            assert queries == standing.queries, f"2: {queries} queries of {name}"
            for ours, theirs in zip(standing.wealths, wealths, strict=True):
                assert abs(ours - theirs) <= 1e-9 * ours + 1e-300, f"2: the wealth of {name}"
