"""Redis of many nodes: a real cluster and a watched pair, whose masters are lost and replaced."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import PATIENCE
from ledger_oracle import Oracle
from ledgers import LIMITS, RUN
from stores import (
    Cluster,
    OnALoop,
    RedisServer,
    heard,
    loop_in_a_thread,
    nodes_serving,
    redis_serving,
    sentinel_serving,
    until,
)

from powfast.errors import StoreUnavailable
from powfast.http import Answer
from powfast.stores import open_held, open_ledger
from powfast.stores.base import Limits, Outcome, Verdict
from powfast.tariff import EvidenceTariff

Fault = Callable[[RedisServer], None]

TARIFF = EvidenceTariff(1000.0, 50_000.0, probation=False)
TIMEOUT = 0.5
SLACK = 1.0  # for a machine that is busy with other things
TRIES = 20  # it may also stand still: what is in time at all is so in one of these
ACCOUNTS = [f"account {number}" for number in range(12)]
KINDS = {"blocking": False, "awaiting": True}
FAULTS = {RedisServer.kill: RedisServer.start, RedisServer.pause: RedisServer.resume}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with nodes_serving(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@contextmanager
def opened(
    url: str, timeout: float = PATIENCE, tariff: EvidenceTariff = TARIFF
) -> Iterator[list[Any]]:
    """A blocking and an awaiting ledger."""
    with loop_in_a_thread() as run:
        awaiting = open_ledger(url, tariff, timeout=timeout, asynchronous=True)
        ledgers = [open_ledger(url, tariff, timeout=timeout), OnALoop(awaiting, run)]
        yield ledgers
        for ledger in ledgers:
            ledger.close()


def served(ledger: Any, account: str) -> bool:
    """Whether a new request is charged; either way its caller knows in time."""
    tries = []
    while len(tries) < TRIES:
        started = time.monotonic()
        try:
            ledger.charge(account, "", os.urandom(8), os.urandom(16), [1.0])
            charged = True
        except StoreUnavailable:
            charged = False
        tries.append(time.monotonic() - started)
        if tries[-1] < 2 * TIMEOUT + SLACK:
            return charged
    pytest.fail(f"whether it is charged, its caller knew after {tries} s")


def served_at_once(ledger: Any, account: str) -> bool:
    """The same of whom no fault concerns; a machine that stands still delays one answer."""
    return any(served(ledger, account) for _ in range(3))


def slot_of(cluster: Cluster, account: str) -> int:
    tag = f"{{{int(hashlib.sha256(account.encode()).hexdigest()[:8], 16) % 16}}}"
    slot: int = cluster.client.execute_command("CLUSTER", "KEYSLOT", tag)
    return slot


def test_newcomers_of_a_cluster_share_a_pool_in_each_shard(cluster: Cluster) -> None:
    tariff = replace(TARIFF, probation=True)
    for asynchronous in (False, True):
        with opened(cluster.url, tariff=tariff) as ledgers:
            ledger = ledgers[asynchronous]
            ledger.reset_newcomers("p")
            for number in range(400):
                name = f"{asynchronous} {number}"
                ledger.charge(name, "", b"1", bytes(16), [50.0], None, "p")
            assert tariff.newcomers_price(ledger.newcomers("p").state) == 50
            limits = Limits(0.0, math.inf, 1.0)
            asked = [
                ledger.enter(f"new {n}", "", b"1", bytes(16), limits, None, 1, "p").work
                for n in range(40)
            ]
            assert set(asked) == {50_000.0}


def test_a_cluster_accounts_like_one_process(cluster: Cluster) -> None:
    with opened(cluster.url) as ledgers:
        for kind, ledger in zip(KINDS, ledgers, strict=True):
            oracle = Oracle(TARIFF, clock=time.time)
            for number in range(30):
                account = f"{kind} {number}", f"{kind} {number % 9}"
                opening, price = f"opening {number}".encode(), f"price {number}".encode()
                steps: list[tuple[Any, ...]] = [
                    ("enter", b"1", RUN, LIMITS),
                    ("redeem", b"1", opening, 4e9, 60_000),
                    ("enter", b"1", RUN, LIMITS),
                    ("charge", b"1", RUN, [9.0, 0.5]),
                    ("redeem", b"1", price, 4e9, 1_000_000),
                    ("redeem", b"1", price, 4e9, 1_000_000),
                    ("leave", b"1", RUN, Outcome.ANSWERED),
                    ("report", b"1", [9.0], 0.0),
                ]
                for operation, *given in steps:
                    said = getattr(ledger, operation)(*account, *given)
                    assert said == getattr(oracle, operation)(*account, *given)
                found, expected = ledger.account(*account), oracle.account(*account)
                assert found[1:4] == expected[1:4]  # its charge was at another moment
            ledger.reset(f"{kind} 1", f"{kind} 1")
            assert ledger.account(f"{kind} 1", f"{kind} 1").opened
    masters = {cluster.master_of(slot).port for slot in range(0, 16_384, 100)}
    assert len(masters) == 3
    assert all(cluster.clients[port].dbsize() > 20 for port in masters)


def test_held_answers_lie_on_one_node(cluster: Cluster) -> None:
    answer = Answer(200, (), b"the answer")
    with loop_in_a_thread() as run:
        blocking = open_held(cluster.url, timeout=PATIENCE)
        awaiting = OnALoop(open_held(cluster.url, timeout=PATIENCE, asynchronous=True), run)
        for number, account in enumerate(ACCOUNTS):
            one, other = (blocking, awaiting) if number % 2 else (awaiting, blocking)
            assert one.put(account, RUN, answer)
            assert other.get(account, RUN) == answer
        blocking.close()
        awaiting.close()


def test_accounts_follow_their_slot_to_another_node(cluster: Cluster) -> None:
    account = "one that moves"
    slot = slot_of(cluster, account)
    source = cluster.master_of(slot)
    target = cluster.master_of((slot + 6000) % 16_384)
    assert source is not target
    with opened(cluster.url) as ledgers:
        ledgers[0].charge(account, "", b"1", RUN, [9.0])
        assert ledgers[1].account(account).state[0] == 1
        cluster.begin_to_move(slot, source, target)
        moved = cluster.move_a_key(slot, source, target)
        assert moved  # half of the account is here, half is there
        assert not any(served(ledger, account) for ledger in ledgers)
        while cluster.move_a_key(slot, source, target):
            pass
        for ledger in ledgers:  # they are sent there: ASK
            assert ledger.account(account).state[0] == 1  # half a charge was none
        cluster.end_move(slot, target)
        assert all(served(ledger, account) for ledger in ledgers)  # MOVED
        assert ledgers[0].account(account).state[0] == 3


@pytest.mark.parametrize("fault", FAULTS, ids=["killed", "paused"])
def test_a_master_of_a_cluster_is_lost(cluster: Cluster, fault: Fault) -> None:
    lost = cluster.first_master()  # whom redis-py asks where no key says whom
    theirs = [a for a in ACCOUNTS if cluster.master_of(slot_of(cluster, a)) is lost]
    others = [a for a in ACCOUNTS if a not in theirs]
    assert theirs
    assert others
    slot = slot_of(cluster, theirs[0])
    with opened(cluster.url, TIMEOUT) as ledgers:
        for account in ACCOUNTS:
            assert all(served_at_once(ledger, account) for ledger in ledgers)
        fault(lost)
        for ledger in ledgers:
            # a machine that stands still may find its successor there already
            assert not served(ledger, theirs[0]) or cluster.master_of(slot) is not lost
            assert all(served_at_once(ledger, account) for account in others)
        with opened(cluster.url, TIMEOUT) as latecomers:
            for ledger in latecomers:  # which may meet the silent node first
                until(lambda ledger=ledger: served(ledger, others[0]))
            for ledger in [*ledgers, *latecomers]:  # by itself, once a replica has taken over
                until(lambda ledger=ledger: all(served(ledger, account) for account in theirs))
        assert heard(ledgers[0].account, theirs[0]).state[0] >= 2  # and nothing is forgotten
    FAULTS[fault](lost)
    cluster.settle()


@pytest.mark.parametrize("fault", FAULTS, ids=["killed", "paused"])
def test_a_watched_master_is_lost(fault: Fault, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    with (
        redis_serving(folders[0], "--repl-diskless-sync-delay", "0") as master,
        redis_serving(folders[1], "--replicaof", f"127.0.0.1 {master.port}") as replica,
        sentinel_serving(folders[2], master.port, down_after=3000) as url,
        opened(url, TIMEOUT) as ledgers,
        replica.client() as client,
    ):
        until(lambda: client.info("replication")["master_link_status"] == "up")
        with redis.Redis(port=int(url.split(":")[-1].partition("/")[0])) as sentinel:
            until(lambda: sentinel.sentinel_slaves("main"))
        for ledger in ledgers:
            until(lambda ledger=ledger: served(ledger, "a"))
        challenge = "b", "", b"1", b"x" * 16, 4e9, 1
        assert heard(ledgers[0].redeem, *challenge).verdict == Verdict.CREDITED
        until(lambda: client.keys("powfast:*:spent:*"))
        fault(master)
        for ledger in ledgers:  # a machine that stands still may find the successor there already
            assert not served(ledger, "a") or client.info("replication")["role"] == "master"
        for ledger in ledgers:
            until(lambda ledger=ledger: served(ledger, "a"))
        assert heard(ledgers[0].account, "a").state[0] >= 4
        assert heard(ledgers[1].redeem, *challenge).verdict == Verdict.SPENT
