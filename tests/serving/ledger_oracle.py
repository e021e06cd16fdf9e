"""A ledger of plain dictionaries and floats, which every store is held to, to the last bit.

It shares no code with powfast but the results' names. Operations write the account, and with it the
ageing until then, but for those that refuse (BUSY, OPENING, SPENT) or find nothing to do; and
`enter` writes none that is not there, unless it runs.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from sketch_oracle import BETS, Second, bet, mean, sketch_bytes

from powfast.accounts import SharedName
from powfast.sketch import Advance
from powfast.stores.base import (
    AccountRecord,
    Charged,
    Entry,
    Limits,
    Outcome,
    Paid,
    Redeemed,
    Verdict,
)
from powfast.tariff import EvidenceTariff

CREDIT_LIMIT = 1000.0  # base prices
CLOCK_SKEW = 60.0
RERUNS = 3
POOL_KEEPS = float.fromhex("0x1.ffedd4b0bfa80p-1")  # half in 5000 queries
POOL_SHARE = float.fromhex("0x1.22bf4557016efp-13")  # (1 - that) / that
RUNNING, DUE, REPORTED, PREPAID = "running", "due", "reported", "prepaid"


@dataclass
class Account:
    charged: float
    queries: float = 0.0
    wealths: list[float] = field(default_factory=lambda: [0.0] * len(BETS))
    balance: float = 0.0
    unpaid: float = 0.0
    cleared: float = 0.0
    opened: bool = False
    surcharged: float = 0.0
    since: float = 0.0
    second: Second = field(default_factory=Second)


@dataclass
class Request:
    phase: str = RUNNING
    run: bytes = b""
    authorized: float = 0.0
    covered: float = 0.0
    counted: float = 0.0
    price: float = 0.0
    due: float = 0.0
    tag: bytes = b""
    until: float = 0.0
    settled: float = 0.0
    surcharge: float = 0.0
    surcharged: float = 0.0
    ends: float = 0.0
    since: float = 0.0


@dataclass
class Spent:
    ends: float
    run: bytes = b""
    tag: bytes = b""
    price: float = 0.0
    reruns: int = 0


def halved(half_lives: float) -> float:
    """2**-half_lives by the series of exp over the fraction."""
    if half_lives >= 1100.0:
        return 0.0
    whole = math.floor(half_lives)
    y = (half_lives - whole) * math.log(2.0)
    factor = 1.0
    for k in range(18, 0, -1):
        factor = 1.0 - y * factor / k
    return math.ldexp(factor, -whole)


def tag_of(evidence: Sequence[float]) -> bytes:
    packed = b"".join(struct.pack("<d", value) for value in evidence)
    return hashlib.sha256(packed).digest()[:8]


class Oracle:
    def __init__(
        self,
        tariff: EvidenceTariff,
        *,
        clock: Callable[[], float],
        remember: float = 3600.0,
    ) -> None:
        self.tariff = tariff
        self.clock = clock
        self.remember = remember
        self.accounts: dict[tuple[str, str], Account] = {}
        self.requests: dict[tuple[str, str, bytes], Request] = {}
        self.spent: dict[bytes, Spent] = {}
        self.pools: dict[str, Account] = {}

    # What the operations share.

    def _half_life(self, name: str) -> float | None:
        if self.tariff.half_life is None and isinstance(name, SharedName):
            return self.tariff.shared_half_life
        return self.tariff.half_life

    def _aged(self, account: str, group: str) -> Account:
        """A copy of the record as of now; a new one where there is none."""
        now = self.clock()
        stored = self.accounts.get((account, group), Account(now, since=now))
        record = replace(stored, wealths=list(stored.wealths), second=stored.second.aged(1.0))
        name = account if account else group
        half_life = self._half_life(name)
        if half_life is None:
            return record
        h = halved(max(0.0, now - record.charged) / half_life)
        record.wealths = [wealth * h for wealth in record.wealths]
        record.second = record.second.aged(h)
        if account and isinstance(account, SharedName):
            record.unpaid *= 1.0 if math.isinf(record.unpaid) else h
        return record

    def _write(self, account: str, group: str, record: Account) -> None:
        record.charged = max(record.charged, self.clock())
        self.accounts[account, group] = record

    def _multiple(self, query: float) -> float:
        found = 1.0
        for start, multiple in self.tariff.volume:
            if query >= start:
                found = multiple
        return found

    def _price(self, mean: float, query: float) -> float:
        price = self.tariff.base_work * max(1.0, mean) * self._multiple(query)
        return min(price, self.tariff.max_work)

    def _price_now(self, record: Account) -> float:
        return self._price(record.second.wealth(mean(record.wealths)), record.queries + 1)

    def _each(self, record: Account, group: str) -> float:
        own = self._price_now(record)
        return max(own, self._price_now(self._aged("", group))) if group else own

    def _pool(self, name: str) -> Account:
        now = self.clock()
        stored = self.pools.get(name, Account(now, since=now))
        return replace(stored, wealths=list(stored.wealths))

    def _is_new(self, a: Account) -> bool:
        return self.tariff.probation and not a.opened

    def _left(self, a: Account) -> float:
        return max(0.0, self.tariff.opening_work - a.surcharged)

    def _surcharge(self, pool: Account, price: float, queries: float) -> float:
        heat = mean(pool.wealths)
        hot = min(self.tariff.base_work * heat, self.tariff.opening_work)
        return queries * max(0.0, hot - price)

    def _newcomers_price(self, pool: Account) -> float:
        return max(1.0, min(mean(pool.wealths), self.tariff.opening_work / self.tariff.base_work))

    def _heat_up(self, pool: Account, e: float) -> None:
        most = len(BETS) * (self.tariff.opening_work / self.tariff.base_work)
        gain = e / self.tariff.honest_mean - 1
        for i, each in enumerate(BETS):
            heat = POOL_KEEPS * (pool.wealths[i] + POOL_SHARE) * (1 + each * gain)
            pool.wealths[i] = min(heat, most)
        pool.queries += 1

    def _open_if_paid(self, a: Account) -> None:
        if self.tariff.probation and a.balance >= 0 and self._left(a) == 0:
            a.opened = True

    def _uncount(self, a: Account, surcharged: float) -> None:
        if surcharged > 0:
            a.surcharged, a.opened = max(0.0, a.surcharged - surcharged), False

    def _keep_moment(self, a: Account, r: Request) -> None:
        self._uncount(a, r.surcharged)
        kept = min(r.surcharge, self._left(a))
        a.surcharged += kept
        a.balance += r.surcharge - kept

    def _advance(
        self, record: Account, evidence: Sequence[float], own: Sequence[float] | None = None
    ) -> float:
        """The sum of the queries' prices; the state goes on. own: their account evidence."""
        owed = 0.0
        for i, e in enumerate(evidence):
            record.queries += 1
            bet(record.wealths, 1.0, record.queries, e)
            if own is not None:
                record.second.bet(own[i])
            owed += self._price(record.second.wealth(mean(record.wealths)), record.queries)
        return owed

    def _charge_states(
        self,
        record: Account,
        group: str,
        evidence: Sequence[float],
        newcomers: str,
        before: float = 0.0,
        is_paid: bool = False,
        advance: Advance | None = None,
        group_advance: Advance | None = None,
    ) -> tuple[float, float]:
        """The price, and what of it is towards the opening, which is counted."""
        own = ours = more = 0.0
        self._uncount(record, before)
        mine = theirs = None
        if advance:
            record.second.begin(advance, record.wealths, record.queries)
            mine = advance.evidence.tolist()
        if self._is_new(record):
            pool, left = self._pool(newcomers), 0.0 if is_paid else self._left(record)
            for i, e in enumerate(evidence):
                each = self._advance(record, [e], mine and mine[i : i + 1])
                self._heat_up(pool, e)
                own += each
                more += min(self._surcharge(pool, each, 1.0), max(0.0, left - more))
            pool.charged = max(pool.charged, self.clock())
            self.pools[newcomers] = pool
        else:
            own = self._advance(record, evidence, mine)
        if advance:
            record.second.add(advance)
        if group:
            together = self._aged("", group)
            if group_advance:
                together.second.begin(group_advance, together.wealths, together.queries)
                theirs = group_advance.evidence.tolist()
            ours = self._advance(together, evidence, theirs)
            if group_advance:
                together.second.add(group_advance)
            self._write("", group, together)
        price = max(own + more, ours)
        surcharged = min(more, price - max(own, ours))
        record.surcharged += surcharged
        return price, surcharged

    def _request(self, key: tuple[str, str, bytes]) -> Request | None:
        """What is known of it; nothing where its account was forgotten meanwhile."""
        account, request = self.accounts.get(key[:2]), self.requests.get(key)
        if account is None or request is None or request.since != account.since:
            return None
        return request if self.clock() < request.ends else None

    def _put(self, key: tuple[str, str, bytes], request: Request, account: Account) -> None:
        request.ends = self.clock() + self.remember
        request.since = account.since
        self.requests[key] = request

    def _forgive(self, a: Account) -> None:
        if a.balance >= 0:
            a.unpaid = 0.0
            a.cleared += 1.0
        self._open_if_paid(a)

    def _count(self, a: Account, r: Request) -> None:
        if r.counted != a.cleared + 1.0:
            a.unpaid += 1.0
            r.counted = a.cleared + 1.0

    def _pay_off(self, a: Account, r: Request) -> None:
        if r.counted == a.cleared + 1.0:
            a.unpaid = max(0.0, a.unpaid - 1.0)

    def _credit(self, a: Account, work: float) -> None:
        limit = max(CREDIT_LIMIT * self.tariff.base_work, work)
        a.balance = max(a.balance, min(a.balance + work, limit))
        self._forgive(a)

    def _spent(self, challenge_id: bytes) -> Spent | None:
        spent = self.spent.get(challenge_id)
        return spent if spent and self.clock() < spent.ends else None

    # The operations.

    def enter(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        limits: Limits,
        again: Paid | None = None,
        queries: int = 1,
        newcomers: str = "",
    ) -> Entry:
        now, key = self.clock(), (account, group, digest)
        a = self._aged(account, group)

        self._forgive(a)
        r = self._request(key)

        def runs(request: Request) -> None:
            request.phase, request.run, request.until = RUNNING, run, now + limits.busy
            self._write(account, group, a)
            self._put(key, request, a)

        def entry(verdict: Verdict, run: bytes, balance: float = 0.0) -> Entry:
            together = self._aged("", group).second.sketch if group else None
            return Entry(verdict, balance, run, a.second.sketch, together)

        def refuse(verdict: Verdict, work: float) -> Entry:
            if (account, group) in self.accounts:
                self._write(account, group, a)
            if r:
                self._put(key, r, a)
            return Entry(verdict, work, b"")

        if r and r.phase == RUNNING and r.run == run:
            self._write(account, group, a)
            self._put(key, r, a)
            return entry(Verdict.RUN, run)
        if r and r.phase == RUNNING and now < r.until:
            return Entry(Verdict.BUSY, r.until - now, b"")
        prepaid = r.covered if r and r.phase == PREPAID else 0.0
        if again is not None:
            s = self._spent(again.challenge_id)
            is_read = s is None or not s.run or s.reruns >= RERUNS
            if s is None or is_read or (not again.unread and s.reruns == 0):
                return Entry(Verdict.SPENT, 0.0, b"")
            s.reruns += 1
            s.run = run
            self._credit(a, prepaid)
            runs(Request(tag=s.tag, price=s.price, settled=s.price))
            return entry(Verdict.RUN, run)
        if r and r.phase == DUE:
            if a.balance < 0:
                return refuse(Verdict.OWED, r.due if a.unpaid < math.inf else -a.balance)
            held = r.run
            given = r.price, r.surcharge, r.surcharged
            price, surcharge, surcharged = given
            runs(
                Request(
                    tag=r.tag,
                    price=price,
                    authorized=price,
                    covered=price,
                    surcharge=surcharge,
                    surcharged=surcharged,
                )
            )
            return entry(Verdict.COVERED, held, a.balance)
        each, opening = self._each(a, group), self.tariff.opening_work
        floor, surcharge = each * queries, 0.0
        is_refused = floor > limits.refuse_above
        if self._is_new(a):
            surcharge = self._surcharge(self._pool(newcomers), each, queries)
            surcharge = min(surcharge, self._left(a))
            floor += surcharge
        if not a.opened and not self.tariff.probation:
            if a.balance + prepaid < opening:
                return Entry(Verdict.OPENING, opening + floor - (a.balance + prepaid), b"")
            drawn = min(prepaid, opening)
            prepaid -= drawn
            a.balance -= opening - drawn
            a.opened = True
        if r and r.phase == PREPAID:
            r = replace(r, covered=prepaid)
        if is_refused:
            return refuse(Verdict.TOO_HIGH, each * queries)
        funds = prepaid + max(0.0, a.balance)
        if a.unpaid >= limits.unpaid_runs and funds < floor:
            theirs = 0.0 if isinstance(account, SharedName) else a.balance
            return refuse(Verdict.DEBT, floor - (theirs + prepaid))
        authorized = max(floor, prepaid)
        covered = min(funds, authorized)
        a.balance -= authorized - prepaid
        request = Request(authorized=authorized, covered=covered, price=floor)
        request.surcharge = surcharge
        if covered < floor:
            self._count(a, request)
        runs(request)
        return entry(Verdict.RUN, run)

    def charge(
        self,
        account: str,
        group: str,
        digest: bytes,
        run: bytes,
        evidence: Sequence[float],
        paid: Paid | None = None,
        newcomers: str = "",
        advance: Advance | None = None,
        group_advance: Advance | None = None,
    ) -> Charged:
        key = (account, group, digest)
        a, r = self._aged(account, group), self._request(key)
        is_there = r is not None
        mine = r is not None and r.phase == RUNNING and r.run == run
        if r and r.phase == DUE and r.run == run and r.tag == tag_of(evidence):
            self._write(account, group, a)
            self._put(key, r, a)
            return Charged(r.due, r.price, a.balance, 0.0, r.surcharged)
        if r is None or not mine:
            r = Request(RUNNING)
        if not len(evidence):
            if mine:
                a.balance += r.authorized
                self._pay_off(a, r)
                self._write(account, group, a)
                del self.requests[key]
            return Charged(0.0, 0.0, a.balance)
        s = self._spent(paid.challenge_id) if paid else None
        if s and not mine and (s.run, s.tag) == (run, tag_of(evidence)):
            self._write(account, group, a)
            return Charged(0.0, s.price, a.balance)
        if r.tag and r.tag == tag_of(evidence):
            if s and s.run == run:
                s.reruns = RERUNS
            self._pay_off(a, r)
            self._write(account, group, a)
            del self.requests[key]
            return Charged(0.0, r.price, a.balance)
        a.balance += r.authorized
        before, is_paid = r.surcharged, r.settled > 0
        pool = self._pool(newcomers)
        given = newcomers, before, is_paid, advance, group_advance
        price, surcharged = self._charge_states(a, group, evidence, *given)
        debit = max(0.0, price - r.settled)
        available = max(r.covered, max(0.0, a.balance))
        due = max(0.0, debit - available)
        a.balance -= debit
        if due == 0:
            if s and s.run in (b"", run):
                s.run, s.tag, s.price, s.reruns = run, tag_of(evidence), debit, RERUNS
            self._pay_off(a, r)
            self._open_if_paid(a)
            if mine:
                del self.requests[key]
        else:
            if s and s.run == run and r.settled > 0:
                s.run, s.tag, s.price, s.reruns = b"", b"", 0.0, 0
            self._count(a, r)
            if mine or not is_there:
                tag = tag_of(evidence)
                moment = r.authorized if r.tag else r.price
                due_for_it = Request(DUE, run, moment, 0.0, r.counted, debit, due, tag)
                due_for_it.surcharge = r.surcharged if r.tag else r.surcharge
                due_for_it.surcharged = surcharged
                self._put(key, due_for_it, a)
        self._write(account, group, a)
        now = self._pool(newcomers)
        heat = 0.0 if now.queries == pool.queries else self._newcomers_price(now)
        waits = due > 0 and (mine or not is_there)
        return Charged(due, price, a.balance, heat, surcharged if waits else 0.0)

    def leave(self, account: str, group: str, digest: bytes, run: bytes, outcome: Outcome) -> None:
        key = (account, group, digest)
        r = self._request(key)
        if r is None or r.phase not in (RUNNING, DUE) or r.run != run:
            return
        a = self._aged(account, group)
        if outcome is Outcome.FREE:
            a.balance += r.authorized if r.phase == RUNNING else r.price
            self._uncount(a, r.surcharged)
            self._pay_off(a, r)
        elif outcome is Outcome.UNPAID and r.phase == DUE:
            a.balance += r.price - r.authorized
            self._keep_moment(a, r)
        elif outcome is Outcome.UNPAID and not r.tag:
            a.balance += r.authorized - r.price
            self._keep_moment(a, r)
        self._write(account, group, a)
        del self.requests[key]

    def redeem(
        self,
        account: str,
        group: str,
        digest: bytes,
        challenge_id: bytes,
        expires: float,
        work: int,
    ) -> Redeemed:
        if self.clock() >= expires:
            return Redeemed(Verdict.SPENT, b"", 0.0)
        s = self._spent(challenge_id)
        if s is not None:
            if not s.run:
                return Redeemed(Verdict.SPENT, b"", 0.0)
            return Redeemed(Verdict.AGAIN, s.run, 0.0, self._aged(account, group).balance)
        a, done = self._aged(account, group), float(work)
        key = (account, group, digest)
        r = self._request(key) if digest else None
        self.spent[challenge_id] = s = Spent(expires + CLOCK_SKEW)
        redeemed = Redeemed(Verdict.CREDITED, b"", 0.0)
        if digest and (r is None or r.phase == PREPAID):
            self._put(key, Request(PREPAID, covered=(r.covered if r else 0.0) + done), a)
        else:
            self._credit(a, done)
        if r and r.phase == RUNNING:
            self._put(key, r, a)
        if r and r.phase == DUE:
            r.due -= done
            owed = r.due if a.unpaid < math.inf else -a.balance
            if owed <= 0 or a.balance >= 0:
                self._pay_off(a, r)
                s.run, s.tag, s.price = r.run, r.tag, r.price
                del self.requests[key]
                redeemed = Redeemed(Verdict.PAID, r.run, 0.0)
            else:
                self._put(key, r, a)
                redeemed = Redeemed(Verdict.OWED, b"", owed)
        self._write(account, group, a)
        return redeemed._replace(balance=a.balance)

    def report(
        self,
        account: str,
        group: str,
        report: bytes,
        evidence: Sequence[float],
        paid: float,
        newcomers: str = "",
    ) -> None:
        key = (account, group, b"report:" + report)
        if self._request(key) or not len(evidence):
            return
        a = self._aged(account, group)
        self._put(key, Request(REPORTED), a)
        price, _ = self._charge_states(a, group, evidence, newcomers)
        a.balance -= max(0.0, price - paid)
        if price > paid and a.balance < 0 and not isinstance(account, SharedName):
            a.unpaid = math.inf
        self._write(account, group, a)

    def account(self, account: str, group: str = "") -> AccountRecord | None:
        if (account, group) not in self.accounts:
            return None
        a = self._aged(account, group)
        state = np.array([a.queries, *a.wealths, *a.second.state])
        numbers = a.balance, a.unpaid, a.opened, a.surcharged, a.charged
        return AccountRecord(state, *numbers, a.second.sketch)

    def reset(self, account: str, group: str = "") -> None:
        self.accounts[account, group] = Account(
            now := self.clock(), queries=1.0, opened=True, since=now
        )

    def newcomers(self, pool: str = "") -> AccountRecord | None:
        if pool not in self.pools:
            return None
        p = self.pools[pool]
        return AccountRecord(np.array([p.queries, *p.wealths]), 0.0, 0.0, False, 0.0, p.charged)

    def reset_newcomers(self, pool: str = "") -> None:
        self.pools[pool] = Account(now := self.clock(), since=now)

    def close(self) -> None:
        pass


def bits(record: AccountRecord | None) -> tuple[bytes, ...] | None:
    """The bytes of a record: two are equal to the last bit where these are."""
    if record is None:
        return None
    numbers = (struct.pack("<d", value) for value in record[1:-1])
    return record.state.tobytes() + sketch_bytes(record.sketch), *numbers
