"""A gate that asks for walks: prices, credit and bounds stay evaluations."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from conftest import PATIENCE
from hypothesis import given
from hypothesis import strategies as st

from powfast import challenge, errors
from powfast.bill import Bill, Event, RequestIdentity
from powfast.challenge import Issuer, token_from_text
from powfast.clients.flow import Payer
from powfast.clients.prepaid import Peer
from powfast.gate import Gate, run
from powfast.http import Answer, format_solution, parse_solution
from powfast.puzzle import Algorithm, default_parts
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff
from powfast.walks import Purpose, Walks

KEYS = {"2026a": bytes(32)}
BASE, OPENING, WORTH = 1000, 64_000, 100
IDENTITY = RequestIdentity("alice", "", b"digest")


class Service:
    def __init__(
        self, walks: Walks | None = None, opening_work: float = 0.0, probation: bool = False
    ) -> None:
        issuer = Issuer(KEYS, algorithms=list(Algorithm))
        tariff = EvidenceTariff(base_work=BASE, opening_work=opening_work, probation=probation)
        ledger = MemoryLedger(tariff)
        self.gate = Gate(issuer, ledger, walks=walks)

    def ask(
        self,
        solution: str | None = None,
        digest: bytes = b"digest",
        account: str = "alice",
        evidence: float = 1.0,
    ) -> Answer:
        bill = Bill()

        async def endpoint() -> Answer:
            bill.advance(Event.CHARGE)
            await bill.charging([evidence])
            return Answer(200, (), b"answer")

        identity = RequestIdentity(account, "", digest)
        answer = run(self.gate.serve(identity, bill, solution, endpoint))
        assert answer is not None
        return answer

    @property
    def balance(self) -> float:
        record: Any = self.gate.ledger.account("alice")
        return float(record.balance)


def problem(answer: Answer) -> dict[str, Any]:
    assert answer.status == 402
    document: dict[str, Any] = json.loads(answer.body)
    return document


def solved(answer: Answer) -> str:
    token = token_from_text(problem(answer)["challenge"])
    return format_solution(token, challenge.solve(token, threads=1))


def offered(answer: Answer) -> bytes:
    """The token that an answer brings, to solve ahead."""
    (header,) = (value for _, value in answer.headers if b"PoW challenge=" in value)
    return token_from_text(header.decode().split('"')[1])


@given(
    st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1), st.integers(1, 2**32),
    st.sets(st.sampled_from(Purpose)), st.sets(st.sampled_from(Purpose), min_size=1),
)  # fmt: skip
def test_what_is_asked_for(work, from_work, worth, may_pay, purposes):
    asked, algorithm = Walks(from_work, purposes, worth).asked(work, *may_pay)
    if algorithm is Algorithm.SHA256:
        assert asked == work
        few = -(-work // worth) < 50 * default_parts(-(-work // worth))
        assert few or work < from_work or not may_pay & purposes
    else:
        assert work >= from_work
        assert may_pay & purposes
        assert work <= asked * worth < work + worth
        assert 50 * default_parts(asked) <= asked  # verifying is at most a fiftieth of solving


@pytest.mark.parametrize(
    "fields",
    [{"from_work": 0}, {"from_work": 1.5}, {"worth": 0}, {"worth": 2.0}, {"purposes": ()},
     {"purposes": ("query",)}],
    ids=str,
)  # fmt: skip
def test_fields_out_of_range(fields):
    with pytest.raises(errors.InvalidInput):
        Walks(**({"from_work": 1} | fields))


def test_walks_need_an_issuer_that_takes_them():
    ledger = MemoryLedger(EvidenceTariff(base_work=BASE))
    with pytest.raises(errors.InvalidInput, match="issuer whose algorithms"):
        Gate(Issuer(KEYS), ledger, walks=Walks(1))


def test_an_opening_in_walks_is_credited_in_evaluations():
    plain = Service(opening_work=OPENING)
    walking = Service(Walks(OPENING, worth=WORTH), opening_work=OPENING)
    asked, usual = problem(walking.ask()), problem(plain.ask())
    assert (asked["algorithm"], asked["work"]) == (2, -(-usual["work"] // WORTH))
    assert "algorithm 2, which powfast 0.1.0 and later can solve" in asked["detail"]
    assert "algorithm" not in usual
    header = dict(walking.ask().headers)[b"www-authenticate"]
    assert header.endswith(b', algorithm="2"')

    paid, other = walking.ask(solved(walking.ask())), plain.ask(solved(plain.ask()))
    assert paid.status == other.status == 200
    assert dict(paid.headers)[b"pow-receipt"].startswith(b"work=%d" % (asked["work"] * WORTH))
    assert 0 <= walking.balance - plain.balance < WORTH


def test_what_is_cheaper_or_for_something_else_stays_sha256():
    for walks in (Walks(10 * OPENING), Walks(1, {Purpose.DEBT}), Walks(1, worth=10**6)):
        document = problem(Service(walks, opening_work=OPENING).ask())
        assert "algorithm" not in document
        assert challenge.decode(token_from_text(document["challenge"])).algorithm == 1


@pytest.mark.parametrize(
    ("purposes", "algorithm"),
    [({Purpose.OPENING}, 2), ({Purpose.REQUEST}, 2), ({Purpose.DEBT}, 2), (None, 1)],
)
def test_on_probation_an_opening_is_what_requests_pay(purposes, algorithm):
    """Newcomers owe it as a surcharge: while somebody extracts, they are asked for walks."""
    walks = purposes and Walks(OPENING, purposes, WORTH)
    service = Service(walks, OPENING, probation=True)
    calm = problem(service.ask(account="bob"))
    assert "algorithm" not in calm
    assert calm["work"] < OPENING
    paid = solved(service.ask(account="mallory"))
    service.ask(paid, account="mallory", evidence=1e12)
    owed = problem(service.ask(account="bob"))
    assert owed.get("algorithm", 1) == algorithm
    assert owed["work"] >= OPENING / (WORTH if algorithm == 2 else 1)
    assert service.ask(solved(service.ask(account="bob")), account="bob").status == 200


@pytest.mark.parametrize(("from_work", "algorithm"), [(BASE, 2), (10**9, 1)])
def test_dear_work_ahead_is_asked_for_in_walks(from_work, algorithm):
    """Else an account whose requests are dear would pay them ahead, as hashes."""
    service = Service(Walks(from_work, worth=10))
    answer = service.ask(solved(service.ask()))
    assert answer.status == 200
    token = offered(answer)
    ahead = challenge.decode(token)
    assert ahead.algorithm == algorithm
    solution = format_solution(token, challenge.solve(token, threads=1))
    before = service.balance
    assert service.ask(solution, b"another").status == 200
    worth = ahead.work * (10 if algorithm == 2 else 1)
    assert service.balance == before + worth - BASE


@pytest.mark.parametrize(
    ("purposes", "algorithm"),
    [({Purpose.OPENING}, 1), ({Purpose.REQUEST}, 2), ({Purpose.DEBT}, 2)],
)
def test_who_has_paid_the_opening_pays_requests_and_debts(purposes, algorithm):
    """Before a run, both are asked for at once."""
    service = Service(Walks(OPENING, purposes, WORTH))
    service.ask(solved(service.ask()), evidence=1e6)
    dear = problem(service.ask(digest=b"next"))
    assert dear.get("algorithm", 1) == algorithm


def test_a_client_walks_ahead_of_need():
    service, payer = Service(Walks(BASE, worth=10)), Payer()
    peer = Peer("http://model.example:80", "Bearer alice")
    asked = token_from_text(problem(service.ask())["challenge"])
    answer = service.ask(payer.pay(asked, peer=peer))
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    end = time.monotonic() + PATIENCE
    assert payer.begin(peer) is None
    payer.hear(peer, headers)
    while (ahead := payer.begin(peer)) is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert challenge.decode(parse_solution(ahead)[0]).algorithm == 2
    assert service.ask(ahead, b"another").status == 200
    payer.close()


def test_the_client_cannot_choose():
    """A cheaper token of its own account is no payment for what is asked for in walks."""
    service = Service(Walks(OPENING, worth=WORTH), opening_work=OPENING)
    walks = problem(service.ask())["work"]
    cheap = service.gate.issuer.issue(work=walks, account="alice", request=b"digest")
    answer = service.ask(format_solution(cheap, challenge.solve(cheap)))
    assert problem(answer)["algorithm"] == 2  # so many hashes are so many evaluations, no more


def test_a_wrong_solution_is_refused_and_credits_nothing():
    service = Service(Walks(OPENING, worth=WORTH), opening_work=OPENING)
    right = solved(service.ask())
    token, _, _ = right.partition(".")
    wrong = format_solution(token_from_text(token), (2**64 - 1,) * problem(service.ask())["parts"])
    assert "(wrong-solution)" in problem(service.ask(wrong))["detail"]
    assert "(wrong-solution)" in problem(service.ask(right))["detail"]  # its challenge is over
    assert service.ask(solved(service.ask())).status == 200


def test_a_payers_limits_count_a_walk_as_512_evaluations():
    token = Issuer(KEYS, algorithms=list(Algorithm)).issue(work=100, algorithm=Algorithm.CACHEWALK)
    with pytest.raises(errors.TooMuchWork, match="51200 evaluations"):
        Payer(max_work=51_199).pay(token)
    payer = Payer(max_work=51_200, max_total_work=51_200)
    assert payer.pay(token)
    with pytest.raises(errors.TooMuchWork):
        payer.pay(token)
