"""What clients solve ahead of need: for whom, how much at most, and when they stop."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
from conftest import PATIENCE
from hypothesis import given
from hypothesis import strategies as st
from till import MANY, PRICE, Till, asked

import powfast.clients.aiohttp
import powfast.clients.httpx
import powfast.clients.httpx2
import powfast.clients.requests
from powfast.challenge import Issuer, decode
from powfast.clients import prepaid
from powfast.clients.flow import Payer
from powfast.clients.prepaid import IDLE_SECONDS, REQUESTS_AHEAD, Peer, Prepaid, origin_of
from powfast.http import parse_solution

PEER = Peer("http://model.example:80", "Bearer alice")
ISSUER = Issuer({"2026a": bytes(32)})


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def settled(payer: Payer) -> bool:
    """Whether nobody solves ahead."""
    return not payer.prepaid.has_solver


# -- the same user of every library: asks one request after another, and follows redirects


class Asker:
    """One client; `ask` sends a POST and returns its status."""

    def __init__(self, payer: Any, ask: Callable[..., int]) -> None:
        self.payer = payer
        self.ask = ask


@contextmanager
def of_httpx(library: Any, auth: Any, **limits: Any) -> Iterator[Asker]:
    payer = auth(**limits)
    with library.Client(auth=payer, follow_redirects=True, timeout=PATIENCE) as client:
        yield Asker(
            payer,
            lambda url, **headers: client.post(url, content=b"{}", headers=headers).status_code,
        )


@contextmanager
def of_requests(**limits: Any) -> Iterator[Asker]:
    payer = powfast.clients.requests.PowAuth(**limits)
    with requests.Session() as session:
        session.auth = payer
        yield Asker(
            payer,
            lambda url, **headers: (
                session.post(url, data=b"{}", headers=headers, timeout=PATIENCE).status_code
            ),
        )


@contextmanager
def on_a_loop(client: Any, ask: Any, payer: Any) -> Iterator[Asker]:
    with asyncio.Runner() as runner:

        async def entered() -> Any:
            return await client().__aenter__()

        opened = runner.run(entered())
        yield Asker(payer, lambda url, **headers: runner.run(ask(opened, url, headers)))
        runner.run(opened.__aexit__(None, None, None))


def of_httpx_async(library: Any, auth: Any, **limits: Any) -> Any:
    async def ask(client: Any, url: str, headers: Any) -> Any:
        return (await client.post(url, content=b"{}", headers=headers)).status_code

    payer = auth(**limits)
    options: Any = {"auth": payer, "follow_redirects": True, "timeout": PATIENCE}
    return on_a_loop(lambda: library.AsyncClient(**options), ask, payer)


def of_aiohttp(**limits: Any) -> Any:
    async def ask(session: Any, url: str, headers: Any) -> Any:
        async with session.post(url, data=b"{}", headers=headers) as response:
            return response.status

    payer = powfast.clients.aiohttp.PowAuth(**limits)
    return on_a_loop(lambda: aiohttp.ClientSession(middlewares=(payer,)), ask, payer)


ASKERS: dict[str, Any] = {
    "httpx": lambda **limits: of_httpx(httpx, powfast.clients.httpx.PowAuth, **limits),
    "httpx2": lambda **limits: of_httpx(httpx2, powfast.clients.httpx2.PowAuth, **limits),
    "requests": of_requests,
    "httpx-async": lambda **limits: of_httpx_async(httpx, powfast.clients.httpx.PowAuth, **limits),
    "httpx2-async": lambda **limits: of_httpx_async(
        httpx2, powfast.clients.httpx2.PowAuth, **limits
    ),
    "aiohttp": of_aiohttp,
}
every_client = pytest.mark.parametrize("asker", ASKERS.values(), ids=ASKERS)


@every_client
def test_credit_refills_by_itself(asker: Any) -> None:
    with Till().served() as till, asker() as user:
        for number in range(60):
            assert user.ask(f"{till.url}/ask/{number}") == 200
            wait_for(lambda: settled(user.payer))
            assert user.payer.balance(till.url) == till.balances["anonymous"]
    # its own challenge once; then one exchange a request, three of which bring what is worth 32
    assert till.statuses == [402] + [200] * 60
    assert till.kinds()[:3] == [None, "own", "ahead"]
    assert till.kinds().count("ahead") == 3
    assert user.payer.spent == PRICE + 3 * MANY


@every_client
def test_what_is_ready_is_for_one_origin_and_one_account(asker: Any) -> None:
    with Till().served() as here, Till().served() as there, asker() as user:
        user.ask(f"{here.url}/ask", authorization="a")
        wait_for(lambda: settled(user.payer))
        user.ask(f"{there.url}/ask", authorization="a")
        user.ask(f"{here.url}/free", authorization="b")
        assert there.kinds() == [None, "own"]
        assert here.kinds() == [None, "own", None]
        user.ask(f"{here.url}/ask", authorization="a")
        assert here.kinds()[3:] == ["ahead"]


@every_client
@pytest.mark.parametrize("target", ["other", "same"])
def test_no_redirect_carries_what_is_ready(asker: Any, target: str) -> None:
    with Till().served() as here, Till().served() as there, asker() as user:
        user.ask(f"{here.url}/ask")
        wait_for(lambda: settled(user.payer))
        here.leads_to = f"{(there if target == 'other' else here).url}/free"
        assert user.ask(f"{here.url}/go") == 200
        assert here.seen[2] == ("/go", "ahead")
        assert (there if target == "other" else here).seen[-1] == ("/free", None)


@every_client
def test_a_request_answers_its_own_challenge_first(asker: Any) -> None:
    with Till().served() as till, asker() as user:
        user.ask(f"{till.url}/ask")
        wait_for(lambda: settled(user.payer))
        user.ask(f"{till.url}/free")  # what was ready is gone, and was not redeemed
        assert user.ask(f"{till.url}/ask/2") == 200
        assert till.kinds() == [None, "own", "ahead", None, "own"]


@every_client
def test_what_has_expired_is_thrown_away(asker: Any) -> None:
    with Till(ttl=0.5).served() as till, asker() as user:
        user.ask(f"{till.url}/ask")
        wait_for(lambda: settled(user.payer))
        time.sleep(0.6)
        user.ask(f"{till.url}/free")
        assert till.kinds() == [None, "own", None]


@every_client
@pytest.mark.parametrize(
    "limits",
    [
        {"max_work": MANY - 1},
        {"max_total_work": PRICE + MANY - 1},
        {"policy": lambda challenge: challenge.request != b""},
    ],
    ids=["max_work", "max_total_work", "policy"],
)
def test_nothing_is_solved_ahead_beyond_the_limits(asker: Any, limits: Any) -> None:
    with Till().served() as till, asker(**limits) as user:
        user.ask(f"{till.url}/ask")
        wait_for(lambda: settled(user.payer))
        assert user.payer.spent == PRICE
        assert user.ask(f"{till.url}/ask/2") == 200
        assert till.kinds() == [None, "own", None, "own"]


@every_client
@pytest.mark.parametrize(
    "offer",
    [
        "PoW challenge=\"AAAA\"",
        "",
        "Basic realm=\"x\"",
        asked(ISSUER.issue(work=PRICE, request=b"another")),
        asked(ISSUER.issue(work=2**63)),
    ],
)  # fmt: skip
def test_a_strange_offer_spoils_no_answer(asker: Any, offer: str) -> None:
    till = Till()
    till.offer = lambda account: offer
    with till.served(), asker() as user:
        assert user.ask(f"{till.url}/ask") == 200
        wait_for(lambda: settled(user.payer))
        assert user.payer.spent == PRICE


# -- how much, whatever a server offers


def test_a_greedy_server_gets_what_requests_cost() -> None:
    """It offers the dearest that is taken all the time, and never counts what it gets."""
    requests_asked = 40
    till = Till(low=2**62, worth=REQUESTS_AHEAD * PRICE)
    with till.served(), ASKERS["httpx"]() as user:
        for number in range(requests_asked):
            user.ask(f"{till.url}/ask/{number}")
            wait_for(lambda: settled(user.payer))
    own = till.kinds().count("own") * PRICE
    assert 0 < user.payer.spent - own <= (requests_asked + REQUESTS_AHEAD) * PRICE


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def heard(prepaid: Prepaid, work: int = 1, peer: Peer = PEER, ttl: float = 120.0) -> bool:
    return prepaid.hear(peer, {"pow-challenge": asked(issuer(ttl).issue(work=work))})


@cache
def issuer(ttl: float) -> Issuer:
    return Issuer({"2026a": bytes(32)}, ttl=ttl)


def known(price: int = 10) -> tuple[Prepaid, Clock]:
    """One request was asked, and paid."""
    clock = Clock()
    prepaid = Prepaid(clock)
    prepaid.begin(PEER)
    prepaid.paid(PEER, price)
    return prepaid, clock


@pytest.mark.parametrize(
    ("work", "taken"), [(1, True), (65 * 10, True), (65 * 10 + 1, False), (2**64 - 1, False)]
)
def test_an_offer_is_worth_what_requests_cost(work: int, taken: bool) -> None:
    assert heard(known()[0], work) is taken


def test_nothing_is_solved_for_whom_nothing_was_paid() -> None:
    prepaid = Prepaid()
    prepaid.begin(PEER)
    assert not heard(prepaid)
    prepaid.paid(Peer(PEER.origin, "Bearer bob"), 10)
    assert not heard(prepaid)


PEERS = [PEER, Peer(PEER.origin, "Bearer bob"), Peer("https://other.example:443")]
STEPS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from(PEERS[:2])),
    st.tuples(st.just("paid"), st.sampled_from(PEERS[:2]), st.integers(1, 20)),
    st.tuples(
        *(st.just("solve"), st.sampled_from(PEERS[:2]), st.integers(1, 1500), st.integers(1, 200)),
        *(st.integers(0, 70), st.booleans()),
    ),
    st.tuples(st.just("wait"), st.integers(1, 100)),
)


@given(st.lists(STEPS, min_size=10, max_size=30))
def test_whatever_happens_the_bound_holds(steps: list[Any]) -> None:
    """A solution is sent once, to its peer, in time; and no peer gets more than it may."""
    clock = Clock()
    prepaid = Prepaid(clock)
    requests, ahead = dict.fromkeys(PEERS, 0), dict.fromkeys(PEERS, 0)
    dearest = dict.fromkeys(PEERS, 3)
    for peer, price in dearest.items():
        prepaid.paid(peer, price)
    ready: dict[Peer, tuple[str, float]] = {}
    for number, (step, *more) in enumerate(steps):
        clock.now += 0.01
        if step == "begin":
            (peer,) = more
            requests[peer] += 1
            header, expires = ready.pop(peer, (None, 0.0))
            assert prepaid.begin(peer) == (header if clock.now < expires else None)
        elif step == "paid":
            peer, work = more
            dearest[peer] = max(dearest[peer], work)
            prepaid.paid(peer, work)
        elif step == "solve":
            peer, work, ttl, seconds, solved = more
            heard(prepaid, work, peer, ttl)
            offer = prepaid.take()
            if offer is None:
                continue
            clock.now += seconds
            assert prepaid.wants(offer) is (seconds < min(ttl, IDLE_SECONDS))
            ahead[peer] += work
            assert ahead[peer] <= (64 + requests[peer]) * dearest[peer]
            header = f"solution {number}" if solved else None
            prepaid.done(offer, header, work)
            if header is not None:
                assert clock.now > ready.get(peer, ("", 0.0))[1], "one is ready at a time"
                ready[peer] = header, offer.expires
            prepaid.done(offer, "again", work)  # counts once
        elif step == "wait":
            clock.now += more[0]


# -- when it stops


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(IDLE_SECONDS - 1, True), (IDLE_SECONDS + 1, False)],
)
def test_nothing_is_solved_for_whom_asks_nothing(seconds: float, wanted: bool) -> None:
    prepaid, clock = known()
    heard(prepaid)
    offer = prepaid.take()
    assert offer is not None
    clock.now += seconds
    assert prepaid.wants(offer) is wanted
    prepaid.begin(PEER)
    assert prepaid.wants(offer)


def test_an_unsolved_offer_is_replaced_once_it_has_expired() -> None:
    prepaid, clock = known()
    assert heard(prepaid, work=7, ttl=10)
    first = prepaid.take()
    assert not heard(prepaid, work=8)
    clock.now += 11
    assert first is not None
    assert not prepaid.wants(first)
    assert not heard(prepaid, work=9)  # whoever solves is still there
    second = prepaid.take()
    assert second is not None
    assert second.challenge.work == 9
    prepaid.done(first, "too late", 7)
    assert prepaid.begin(PEER) is None


def test_the_cheapest_is_solved_first() -> None:
    prepaid, _ = known()
    for peer, work in zip(PEERS, (3, 1, 2), strict=True):
        prepaid.begin(peer)
        prepaid.paid(peer, 10)
        heard(prepaid, work, peer)
    order = []
    while (offer := prepaid.take()) is not None:
        order.append(offer.challenge.work)
        prepaid.done(offer, "solved", offer.challenge.work)
    assert order == [1, 2, 3]
    assert not prepaid.has_solver


def test_few_peers_are_remembered() -> None:
    prepaid = Prepaid()
    for number in range(2000):
        prepaid.begin(Peer(f"http://{number}.example:80"))
    assert len(prepaid._purses) == 256


HARD = 2**50


@pytest.fixture
def endless() -> Payer:
    """A payer that solves ahead what nobody solves."""
    payer = Payer(max_work=2**62)
    payer.begin(PEER)
    payer.prepaid.paid(PEER, HARD)
    payer.hear(PEER, {"pow-challenge": asked(ISSUER.issue(work=HARD))})
    wait_for(solvers)
    return payer


def solvers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "powfast-ahead"]


def test_a_closed_payer_solves_nothing_ahead(endless: Payer) -> None:
    endless.close()
    wait_for(lambda: not solvers())
    assert 0 <= endless.spent < HARD
    endless.begin(PEER)
    endless.hear(PEER, {"pow-challenge": asked(ISSUER.issue(work=1))})
    assert not solvers()
    endless.pay(ISSUER.issue(work=PRICE))


def test_nobody_solves_for_who_is_gone() -> None:
    with Till(worth=2**30).served() as till:

        def ask() -> None:
            with ASKERS["httpx"](max_work=2**62) as user:
                user.ask(f"{till.url}/ask")
                user.payer.prepaid.paid(Peer(origin_of(till.url)), HARD)
                user.ask(f"{till.url}/ask")
                wait_for(solvers)

        ask()
        gc.collect()
        wait_for(lambda: not solvers())


def test_its_owner_bounds_the_seconds(endless: Payer) -> None:
    endless.close()
    payer = Payer(max_work=2**62, max_seconds=0.1)
    payer.begin(PEER)
    payer.prepaid.paid(PEER, HARD)
    payer.hear(PEER, {"pow-challenge": asked(ISSUER.issue(work=HARD))})
    wait_for(lambda: settled(payer))
    assert payer.begin(PEER) is None
    assert 0 < payer.spent < HARD


def test_a_policy_that_fails_stops_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    broken = [True]
    payer = Payer(policy=lambda challenge: 1 // (not broken[0]) > 0)
    payer.begin(PEER)
    payer.prepaid.paid(PEER, PRICE)
    payer.hear(PEER, {"pow-challenge": asked(Issuer(KEYS, ttl=0.2).issue(work=PRICE))})
    wait_for(lambda: failures)
    assert failures[0].exc_type is ZeroDivisionError
    broken[0] = False
    time.sleep(0.3)
    payer.hear(PEER, {"pow-challenge": asked(ISSUER.issue(work=PRICE))})
    wait_for(lambda: settled(payer))
    assert payer.begin(PEER) is not None


KEYS = {"2026a": bytes(32)}


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_it_has_the_lowest_priority(endless: Payer) -> None:
    def nice(thread: threading.Thread) -> int:
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[16])

    (thread,) = solvers()
    wait_for(lambda: nice(thread) == 19)
    assert nice(threading.main_thread()) < 19
    endless.close()


def test_a_process_ends_while_something_is_solved() -> None:
    program = f"""
from powfast.challenge import Issuer
from powfast.clients.flow import Payer
from powfast.clients.prepaid import Peer
from powfast.http import payment_required
import threading
payer = Payer(max_work=2**62)
payer.begin(Peer("o"))
payer.prepaid.paid(Peer("o"), {HARD})
asked = dict(payment_required(Issuer({{"a": bytes(32)}}).issue(work={HARD}), "").headers)
payer.hear(Peer("o"), {{"pow-challenge": asked[b"www-authenticate"].decode()}})
assert len(threading.enumerate()) == 2
print("asked")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "asked\n", "")


# -- copies


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_nothing_ready_and_can_ask(endless: Payer) -> None:
    ready = Payer()
    ready.begin(PEER)
    ready.prepaid.paid(PEER, PRICE)
    ready.hear(PEER, {"pow-challenge": asked(ISSUER.issue(work=PRICE))})
    wait_for(lambda: settled(ready))
    child = os.fork()
    if child == 0:
        try:
            fine = ready.begin(PEER) is None and settled(endless)
            ready.prepaid.paid(PEER, PRICE)
            ready.hear(PEER, {"pow-challenge": asked(ISSUER.issue(work=PRICE))})
            wait_for(lambda: settled(ready))
            fine = fine and ready.begin(PEER) is not None
        except BaseException:
            fine = False
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ready.begin(PEER) is not None
    assert solvers()
    endless.close()


def test_a_pickled_payer_has_nothing_ready() -> None:
    payer = Payer(max_total_work=10 * PRICE)
    payer.begin(PEER)
    payer.pay(ISSUER.issue(work=PRICE), None, PEER)
    payer.hear(PEER, {"pow-challenge": asked(ISSUER.issue(work=PRICE))})
    wait_for(lambda: settled(payer))
    copy = pickle.loads(pickle.dumps(payer))
    assert (copy.begin(PEER), copy.spent, copy.max_total_work) == (None, 2 * PRICE, 10 * PRICE)
    ready = payer.begin(PEER)
    assert ready is not None
    assert decode(parse_solution(ready)[0]).work == PRICE


def test_threads_share_what_is_ready() -> None:
    payer = Payer()
    payer.prepaid.paid(PEER, PRICE)
    sent: list[str | None] = []
    for _ in range(20):
        payer.hear(PEER, {"pow-challenge": asked(ISSUER.issue(work=PRICE))})
        wait_for(lambda: settled(payer))
        threads = [
            threading.Thread(target=lambda: sent.append(payer.begin(PEER))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    solutions = [solution for solution in sent if solution]
    assert len(solutions) == len(set(solutions)) == 20


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://Model.example/v1?x=1", "https://model.example:443"),
        ("HTTP://model.example:80/", "http://model.example#end"),
        ("http://[::1]:8000/a", "http://[::1]:8000"),
    ],
)
def test_origins_are_compared_as_such(one: str, other: str) -> None:
    assert origin_of(one) == origin_of(other)
    assert len({origin_of(url) for url in ("http://a", "https://a", "http://a:8", "http://b")}) == 4


def test_the_bound_is_the_documented_one() -> None:
    assert (prepaid.REQUESTS_AHEAD, prepaid.IDLE_SECONDS) == (64, 60.0)
