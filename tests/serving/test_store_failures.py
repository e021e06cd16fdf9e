"""Stores that are killed, paused, restarted, slow, full, locked or broken.

Every fault is a `StoreUnavailable` within the timeout; docs/stores.md states what may be lost.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from ledger_oracle import bits
from ledgers import LIMITS, RUN, TARIFF
from stores import (
    OnALoop,
    RedisServer,
    cluster_serving,
    heard,
    loop_in_a_thread,
    redis_serving,
    sentinel_serving,
    slow_proxy,
    until,
)

from powfast.errors import StoreUnavailable
from powfast.http import Answer
from powfast.stores import (
    AsyncSQLiteLedger,
    MemoryLedger,
    SQLiteLedger,
    open_held,
    open_ledger,
)
from powfast.stores.base import Verdict

Fault = Callable[[RedisServer], None]

ANSWER = Answer(200, (), b"x")
TIMEOUT = 0.3
# A blocking call waits for the store up to four times: a new connection, and a script to load.
WAITS = {"blocking": 4, "awaiting": 1}
SLACK = 1.0  # for a machine that is busy with other things
TRIES = 20  # it may also stand still: what is in time at all is so in one of these


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_serving(tmp_path) as server:
        yield server


@pytest.fixture(params=["blocking", "awaiting"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@contextmanager
def opened(url: str, kind: str) -> Iterator[tuple[Any, Any]]:
    """Ledger and held answers, whose calls may not take longer than they are allowed to."""
    awaiting = kind == "awaiting"
    stores = [
        open_ledger(url, TARIFF, asynchronous=awaiting, timeout=TIMEOUT),
        open_held(url, asynchronous=awaiting, timeout=TIMEOUT),
    ]
    with loop_in_a_thread() as run:
        ledger, held = [OnALoop(store, run) if awaiting else store for store in stores]
        try:
            yield ledger, held
        finally:
            ledger.close()
            held.close()


def charging(ledger: Any, digest: bytes, *evidence: float) -> Callable[[], Any]:
    """Charge a run of the account "a", which counts once however often it is asked for."""
    return lambda: ledger.charge("a", "", digest, digest.ljust(16), evidence or (1.0,))


def redeeming(ledger: Any, challenge: bytes) -> Callable[[], Any]:
    return lambda: ledger.redeem("a", "", b"", challenge * 16, 4e9, 1000)


def every_operation(ledger: Any, held: Any) -> list[Callable[[], Any]]:
    return [
        lambda: ledger.charge("a", "g", os.urandom(8), os.urandom(16), [1.0]),
        lambda: ledger.redeem("a", "g", b"", os.urandom(16), 4e9, 1000),
        lambda: ledger.enter("opened", "g", os.urandom(8), RUN, LIMITS),
        lambda: ledger.reset("b"),
        lambda: held.put("a", os.urandom(16), ANSWER),
        lambda: held.get("a", RUN),
    ]


def assert_unavailable(kind: str, *operations: Callable[[], Any]) -> None:
    for operation in operations:
        assert_in_time(WAITS[kind], lambda operation=operation: [seconds_to_fail(operation)])


def assert_in_time(waits: int, measure: Callable[[], list[float]]) -> None:
    """In one of some tries, nobody takes longer than so many timeouts."""
    tries = []
    while not tries or tries[-1] >= waits * TIMEOUT + SLACK:
        assert len(tries) < TRIES, tries
        tries.append(max(measure()))


def seconds_to_fail(operation: Callable[[], Any]) -> float:
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        operation()
    return time.monotonic() - started


def of_16_threads(operation: Callable[[], Any]) -> list[float]:
    """Seconds after which each is told."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(seconds_to_fail, [operation] * 16))


def test_redis_killed(server: RedisServer, kind: str) -> None:
    with opened(server.url, kind) as (ledger, held):
        assert heard(charging(ledger, b"1")).price > 0
        server.kill()
        assert_unavailable(kind, *every_operation(ledger, held))


@pytest.mark.parametrize("fault", [RedisServer.kill, RedisServer.pause])
def test_a_node_of_a_cluster_fails(fault: Fault, tmp_path: Path, kind: str) -> None:
    with cluster_serving(tmp_path) as (node, url), opened(url, kind) as (ledger, held):
        assert heard(charging(ledger, b"1")).price > 0
        fault(node)
        assert_unavailable(kind, *every_operation(ledger, held)[1:5])


@pytest.mark.parametrize("fault", [RedisServer.kill, RedisServer.pause])
def test_a_master_behind_a_sentinel_fails(
    fault: Fault, server: RedisServer, tmp_path: Path, kind: str
) -> None:
    with sentinel_serving(tmp_path, server.port) as url, opened(url, kind) as (ledger, held):
        until(charging(ledger, b"1"), StoreUnavailable)
        fault(server)
        assert_unavailable(kind, *every_operation(ledger, held)[1:5])


def opened_and_paid(ledger: Any, held: Any) -> Any:
    """Open an account that has credit and a held answer; return its record."""
    heard(ledger.reset, "a")
    assert heard(redeeming(ledger, b"x")).verdict is Verdict.CREDITED
    assert heard(held.put, "a", RUN, ANSWER)
    assert heard(ledger.enter, "new", "", b"1", RUN, LIMITS).verdict is Verdict.OPENING
    return heard(ledger.account, "a")


def test_redis_restarted_empty_has_forgotten(server: RedisServer, kind: str) -> None:
    with opened(server.url, kind) as (ledger, held):
        opened_and_paid(ledger, held)
        server.kill()
        server.start()
        assert heard(ledger.account, "a") is None
        entry = heard(ledger.enter, "a", "", b"1", RUN, LIMITS)
        assert entry.verdict is Verdict.OPENING  # once more
        assert heard(redeeming(ledger, b"x")).verdict is Verdict.CREDITED  # doubled
        assert heard(held.get, "a", RUN) is None  # lost


def test_redis_with_an_appended_file_remembers(tmp_path: Path, kind: str) -> None:
    with (
        redis_serving(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server,
        opened(server.url, kind) as (ledger, held),
    ):
        before = opened_and_paid(ledger, held)
        server.kill()
        server.start()
        assert bits(heard(ledger.account, "a")) == bits(before)
        assert heard(redeeming(ledger, b"x")).verdict is Verdict.SPENT
        assert heard(held.get, "a", RUN) == ANSWER


def test_redis_paused_does_later_what_it_was_asked(server: RedisServer, kind: str) -> None:
    with opened(server.url, kind) as (ledger, held):
        heard(charging(ledger, b"1", 9.0))
        assert heard(redeeming(ledger, b"w")).verdict is Verdict.CREDITED
        second = charging(ledger, b"2", 9.0)
        server.pause()
        assert_unavailable(kind, second, redeeming(ledger, b"x"), *every_operation(ledger, held))
        server.resume()
        # what was sent over an open connection is done once it wakes up, or never, but not twice
        charged = heard(second)
        assert charged.due > 0
        assert heard(second) == charged
        assert heard(ledger.account, "a").state[0] == 2
        heard(redeeming(ledger, b"x"))
        assert heard(redeeming(ledger, b"x")).verdict is Verdict.SPENT
        price = heard(charging(ledger, b"1", 9.0)).price
        assert heard(ledger.account, "a").balance == 2 * 1000 - price - charged.price


@pytest.mark.parametrize("watched", [False, True], ids=["alone", "sentinel"])
def test_a_reply_that_is_late_belongs_to_nobody(
    server: RedisServer, tmp_path: Path, kind: str, watched: bool
) -> None:
    with ExitStack() as stack:
        port, delay = stack.enter_context(slow_proxy(server.port))
        url = f"redis://127.0.0.1:{port}"
        if watched:
            url = stack.enter_context(sentinel_serving(tmp_path, port))
        ledger, held = stack.enter_context(opened(url, kind))
        charges = [charging(ledger, bytes([i]), 2.0) for i in range(3)]
        late = charging(ledger, b"late", 2.0)
        until(charges[0], StoreUnavailable)
        charged = [heard(charge)[:2] for charge in charges]  # the balance is that of the moment
        assert heard(redeeming(ledger, b"w")).verdict is Verdict.CREDITED
        delay(TIMEOUT)  # each way: the reply takes twice as long as anybody waits
        assert_unavailable(
            kind, late, *[redeeming(ledger, b"w")] * 3, *every_operation(ledger, held)
        )
        delay(0.0)
        time.sleep(3 * TIMEOUT)  # what is under way arrives
        assert [heard(charge)[:2] for charge in charges] == charged
        until(lambda: heard(ledger.account, "a").state[0] == 4)  # charged though nobody heard
        heard(late)
        assert heard(ledger.account, "a").state[0] == 4  # and once
        delay(TIMEOUT)
        assert_unavailable(kind, redeeming(ledger, b"x"))
        delay(0.0)
        with server.client() as client:  # spent though nobody heard
            until(lambda: client.keys(f"*{(b'x' * 16).hex()}*"))
        assert heard(redeeming(ledger, b"x")).verdict is Verdict.SPENT


def test_redis_full(tmp_path: Path, kind: str) -> None:
    with (
        redis_serving(tmp_path, "--maxmemory-policy", "noeviction") as server,
        opened(server.url, kind) as (ledger, held),
        server.client() as client,
    ):
        heard(ledger.reset, "opened", "g")
        heard(charging(ledger, b"1"))
        before = heard(ledger.account, "a")
        client.config_set("maxmemory", 1)
        charge, redeem, enter, _, put, _ = every_operation(ledger, held)
        assert_unavailable(kind, charge, redeem, enter, put, charging(ledger, b"2"))
        assert bits(heard(ledger.account, "a")) == bits(before)  # half a charge is none
        client.config_set("maxmemory", 0)
        assert heard(charge).price > 0


def test_redis_that_may_not_write(server: RedisServer, kind: str) -> None:
    with opened(server.url, kind) as (ledger, held), server.client() as client:
        heard(charging(ledger, b"1"))
        client.replicaof("127.0.0.1", 1)  # a replica now, of nobody
        assert_unavailable(kind, *every_operation(ledger, held)[:2])
        client.replicaof("NO", "ONE")
        assert heard(redeeming(ledger, b"x")).verdict is Verdict.CREDITED


def test_redis_busy_with_a_script(tmp_path: Path, kind: str) -> None:
    with (
        redis_serving(tmp_path, "--busy-reply-threshold", "1") as server,
        opened(server.url, kind) as (ledger, held),
        server.client() as client,
        server.client() as other,
    ):
        heard(charging(ledger, b"1"))
        busy = threading.Thread(target=run_forever, args=(other,))
        busy.start()
        until(lambda: is_busy(client))
        assert_unavailable(kind, *every_operation(ledger, held))
        client.script_kill()
        busy.join()
        assert heard(redeeming(ledger, b"x")).verdict is Verdict.CREDITED


def run_forever(client: Any) -> None:
    with pytest.raises(redis.ResponseError, match="killed"):
        client.eval("while true do end", 0)


def is_busy(client: Any) -> bool:
    try:
        client.ping()
    except Exception as error:
        return "BUSY" in str(error)
    return False


def test_redis_loading_its_data(tmp_path: Path, kind: str) -> None:
    # microseconds a key: it loads for the better part of a minute, and answers that it does
    flags = ("--key-load-delay", "400", "--loading-process-events-interval-bytes", "1024")
    with redis_serving(tmp_path) as server, server.client() as client:
        client.mset({f"key {i}": "x" * 100 for i in range(100_000)})
        client.save()
    loading = RedisServer(tmp_path, *flags)
    loading.launch()
    try:
        with opened(loading.url, kind) as (ledger, held), loading.client() as client:
            until(lambda: is_loading(client), ConnectionError)
            assert_unavailable(kind, *every_operation(ledger, held)[:3])
            assert is_loading(client)
    finally:
        loading.kill()


def is_loading(client: Any) -> bool:
    try:
        client.ping()
    except Exception as error:
        return "loading" in str(error)
    return False


def test_a_password_that_is_wrong(tmp_path: Path, kind: str) -> None:
    with redis_serving(tmp_path) as server, server.client() as client:
        client.config_set("requirepass", "right")
        for url in (server.url, server.url.replace("//", "//:wrong@")):
            with opened(url, kind) as (ledger, held):
                assert_unavailable(kind, *every_operation(ledger, held))


# -- SQLite


def open_and_redeem(path: Path) -> None:
    with closing(SQLiteLedger(path, TARIFF, timeout=TIMEOUT)) as ledger:
        redeeming(ledger, b"x")()


def test_sqlite_locked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(SQLiteLedger(path, TARIFF, timeout=TIMEOUT)) as ledger:
        heard(charging(ledger, b"1"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            operations = [
                charging(ledger, b"2"),
                redeeming(ledger, b"x"),
                lambda: ledger.enter("b", "", b"1", RUN, LIMITS),
                lambda: ledger.reset("a"),
                lambda: open_and_redeem(path),
            ]
            assert_unavailable("awaiting", *operations)
            assert_in_time(1, lambda: of_16_threads(operations[0]))  # none waits for who waits
            other.execute("ROLLBACK")
        assert heard(ledger.account, "a").state[0] == 1
        assert heard(operations[0]).price > 0


async def test_sqlite_on_a_loop_fails_for_nobody_else(tmp_path: Path) -> None:
    """What waits for the thread shares a transaction, whatever becomes of one of them."""
    path = tmp_path / "ledger.db"
    ledger = AsyncSQLiteLedger(path, TARIFF, timeout=60.0)
    await ledger.charge("damaged", "", b"0", RUN, [1.0])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE account SET record = x'00'")
    names = [f"account {n}" for n in range(100)]
    charges = [
        ledger.charge(name, "", b"1", RUN, [9.0]) for name in (*names[:50], "damaged", *names)
    ]
    redemptions = [
        ledger.redeem("payer", "", b"1", bytes([n % 50] * 16), time.time() + 60, 1)
        for n in range(100)
    ]
    between = [each for pair in zip(redemptions, charges[:100], strict=True) for each in pair]
    done = await asyncio.gather(*between, *charges[100:], return_exceptions=True)
    redeemed, charged = done[:200:2], done[1:200:2] + done[200:]
    verdicts = [each.verdict for each in redeemed]  # type: ignore[union-attr]
    assert verdicts == [Verdict.CREDITED] * 50 + [Verdict.SPENT] * 50
    assert isinstance(charged.pop(50), StoreUnavailable)
    assert charged == [MemoryLedger(TARIFF).charge("account", "", b"1", RUN, [9.0])] * 150
    records = [await ledger.account(name) for name in names]
    assert [record.state[0] for record in records if record] == [1.0] * 100
    await ledger.close()


def test_sqlite_on_a_loop_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with loop_in_a_thread() as run:
        url = f"sqlite:///{path}"
        ledger = OnALoop(open_ledger(url, TARIFF, asynchronous=True, timeout=TIMEOUT), run)
        heard(charging(ledger, b"1"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            charge = charging(ledger, b"2")
            assert_in_time(1, lambda: of_16_threads(charge))
            other.execute("ROLLBACK")
        assert heard(charge).price > 0
        assert heard(ledger.account, "a").state[0] == 2
        ledger.close()


def test_sqlite_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(SQLiteLedger(path, TARIFF)) as ledger:
        for i in range(200):
            ledger.charge(f"account {i}", "", b"1", RUN, [1.0])
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable), closing(SQLiteLedger(path, TARIFF)) as ledger:
        for i in range(200):
            ledger.charge(f"account {i}", "", b"2", RUN, [1.0])


def in_a_process(script: str, *arguments: object) -> str:
    preamble = """
        import os, resource, signal, sys
        from powfast.errors import StoreUnavailable
        from powfast.stores import SQLiteLedger
        from powfast.tariff import EvidenceTariff
        TARIFF, RUN = EvidenceTariff(1000.0, 50_000.0), bytes(16)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(preamble) + textwrap.dedent(script)]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_sqlite_on_a_full_disk(tmp_path: Path) -> None:
    script = """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        ledger = SQLiteLedger(sys.argv[1], TARIFF)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        charged = 0
        try:
            while True:
                ledger.charge("a", "g", charged.to_bytes(8, "big"), RUN, [1.0])
                charged += 1
        except StoreUnavailable as error:
            assert ledger.account("a", "g").state[0] == charged > 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        ledger.charge("a", "g", charged.to_bytes(8, "big"), RUN, [1.0])
        assert ledger.account("a", "g").state[0] == charged + 1
        print("as promised")
    """
    assert in_a_process(script, tmp_path / "ledger.db") == "as promised\n"


def test_sqlite_that_may_not_write(tmp_path: Path) -> None:
    script = """
        path = sys.argv[1]
        ledger = SQLiteLedger(path, TARIFF)
        ledger.charge("a", "", b"1", RUN, [1.0])
        ledger.close()
        os.chmod(path, 0o444)
        os.chmod(os.path.dirname(path), 0o555)
        if os.getuid() == 0:
            os.setuid(65534)
        for operation in (
            lambda: SQLiteLedger(path, TARIFF),
            lambda: SQLiteLedger(path, TARIFF).charge("a", "", b"2", RUN, [1.0]),
            lambda: SQLiteLedger(path, TARIFF).redeem("a", "", b"", RUN, 4e9, 1),
        ):
            try:
                operation()
            except StoreUnavailable as error:
                print(error)
    """
    folder = Path("/tmp") / f"powfast-{os.getpid()}"  # pytest's own is closed to other users
    folder.mkdir()
    try:
        said = in_a_process(script, folder / "ledger.db")
    finally:
        folder.chmod(0o755)
        (folder / "ledger.db").unlink()
        for rest in folder.iterdir():
            rest.unlink()
        folder.rmdir()
    assert len(said.splitlines()) >= 2
