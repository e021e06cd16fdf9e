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
from powfast.tariff import EvidenceTariff

Fault = Callable[[RedisServer], None]

TARIFF = EvidenceTariff(1000.0, 50_000.0)
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


def every_operation(ledger: Any, held: Any) -> list[Callable[[], Any]]:
    return [
        lambda: ledger.charge("a", "g", os.urandom(8), [1.0]),
        lambda: ledger.claim(os.urandom(16), 4e9),
        lambda: ledger.reset("b"),
        lambda: held.reserve("a", os.urandom(8)),
        lambda: held.fill("a", b"held", 1, Answer(200, (), b"x"), 1),
        lambda: held.release("a", b"held"),
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
        assert heard(ledger.charge, "a", "g", b"1", [1.0]) > 0
        server.kill()
        assert_unavailable(kind, *every_operation(ledger, held))


@pytest.mark.parametrize("fault", [RedisServer.kill, RedisServer.pause])
def test_a_node_of_a_cluster_fails(fault: Fault, tmp_path: Path, kind: str) -> None:
    with cluster_serving(tmp_path) as (node, url), opened(url, kind) as (ledger, held):
        assert heard(ledger.charge, "a", "g", b"1", [1.0]) > 0
        fault(node)
        assert_unavailable(kind, *every_operation(ledger, held)[1:4])


@pytest.mark.parametrize("fault", [RedisServer.kill, RedisServer.pause])
def test_a_master_behind_a_sentinel_fails(
    fault: Fault, server: RedisServer, tmp_path: Path, kind: str
) -> None:
    with sentinel_serving(tmp_path, server.port) as url, opened(url, kind) as (ledger, held):
        until(lambda: ledger.charge("a", "g", b"1", [1.0]), StoreUnavailable)
        fault(server)
        assert_unavailable(kind, *every_operation(ledger, held)[1:4])


def test_redis_restarted_empty_has_forgotten(server: RedisServer, kind: str) -> None:
    with opened(server.url, kind) as (ledger, held):
        price = heard(ledger.charge, "a", "g", b"1", [9.0])
        assert heard(ledger.charge, "a", "g", b"2", [9.0]) < price
        assert heard(ledger.claim, b"x" * 16, 4e9)
        heard(held.reserve, "a", b"1")
        heard(held.fill, "a", b"1", 7, Answer(200, (), b"x"), 1)
        server.kill()
        server.start()
        assert heard(ledger.state, "a", "g") is None
        assert heard(ledger.charge, "a", "g", b"1", [9.0]) == price  # the opening, once more
        assert heard(ledger.claim, b"x" * 16, 4e9)  # doubled
        assert heard(held.release, "a", b"1") is None  # lost


def test_redis_with_an_appended_file_remembers(tmp_path: Path, kind: str) -> None:
    with (
        redis_serving(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server,
        opened(server.url, kind) as (ledger, held),
    ):
        price = heard(ledger.charge, "a", "g", b"1", [9.0])
        assert heard(ledger.claim, b"x" * 16, 4e9)
        heard(held.reserve, "a", b"1")
        heard(held.fill, "a", b"1", 7, Answer(200, (), b"x"), 1)
        server.kill()
        server.start()
        assert heard(ledger.charge, "a", "g", b"1", [9.0]) == price
        assert heard(ledger.state, "a", "g")[0] == 1
        assert not heard(ledger.claim, b"x" * 16, 4e9)
        assert heard(held.release, "a", b"1") == Answer(200, (), b"x")


def test_redis_paused_does_later_what_it_was_asked(server: RedisServer, kind: str) -> None:
    with opened(server.url, kind) as (ledger, held):
        price = heard(ledger.charge, "a", "", b"1", [9.0])
        assert heard(ledger.claim, b"w" * 16, 4e9)
        server.pause()
        assert_unavailable(
            kind,
            lambda: ledger.charge("a", "", b"2", [9.0]),
            lambda: ledger.claim(b"x" * 16, 4e9),
            *every_operation(ledger, held),
        )
        server.resume()
        # what was sent over an open connection is done once it wakes up, or never, but not twice
        second = heard(ledger.charge, "a", "", b"2", [9.0])
        assert 0 < second < price
        assert heard(ledger.charge, "a", "", b"2", [9.0]) == second
        assert heard(ledger.state, "a")[0] in (2, 3)
        heard(ledger.claim, b"x" * 16, 4e9)
        assert not heard(ledger.claim, b"x" * 16, 4e9)


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
        until(lambda: ledger.charge("a", "", bytes([0]), [2.0]), StoreUnavailable)
        prices = [heard(ledger.charge, "a", "", bytes([i]), [2.0]) for i in range(3)]
        assert heard(ledger.claim, b"w" * 16, 4e9)
        delay(TIMEOUT)  # each way: the reply takes twice as long as anybody waits
        assert_unavailable(
            kind,
            lambda: ledger.charge("a", "", b"late", [2.0]),
            *(lambda: ledger.claim(b"w" * 16, 4e9) for _ in range(3)),
            *every_operation(ledger, held),
        )
        delay(0.0)
        time.sleep(3 * TIMEOUT)  # what is under way arrives
        assert [heard(ledger.charge, "a", "", bytes([i]), [2.0]) for i in range(3)] == prices
        until(lambda: heard(ledger.state, "a")[0] == 4)  # charged though nobody heard
        heard(ledger.charge, "a", "", b"late", [2.0])
        assert heard(ledger.state, "a")[0] == 4  # and once
        delay(TIMEOUT)
        assert_unavailable(kind, lambda: ledger.claim(b"x" * 16, 4e9))
        delay(0.0)
        with server.client() as client:  # spent though nobody heard
            until(lambda: client.keys(f"*{(b'x' * 16).hex()}*"))
        assert not heard(ledger.claim, b"x" * 16, 4e9)


def test_redis_full(tmp_path: Path, kind: str) -> None:
    with (
        redis_serving(tmp_path, "--maxmemory-policy", "noeviction") as server,
        opened(server.url, kind) as (ledger, held),
        server.client() as client,
    ):
        heard(ledger.charge, "a", "g", b"1", [1.0])
        heard(held.reserve, "a", b"held")
        before = heard(ledger.state, "a", "g")
        client.config_set("maxmemory", 1)
        charge, claim, _, reserve, fill, _ = every_operation(ledger, held)
        assert_unavailable(kind, charge, claim, reserve, fill)
        assert (heard(ledger.state, "a", "g") == before).all()  # half a charge is none
        client.config_set("maxmemory", 0)
        assert heard(charge) > 0


def test_redis_that_may_not_write(server: RedisServer, kind: str) -> None:
    with opened(server.url, kind) as (ledger, held), server.client() as client:
        heard(ledger.charge, "a", "g", b"1", [1.0])
        client.replicaof("127.0.0.1", 1)  # a replica now, of nobody
        assert_unavailable(kind, *every_operation(ledger, held)[:2])
        client.replicaof("NO", "ONE")
        assert heard(ledger.claim, b"x" * 16, 4e9)


def test_redis_busy_with_a_script(tmp_path: Path, kind: str) -> None:
    with (
        redis_serving(tmp_path, "--busy-reply-threshold", "1") as server,
        opened(server.url, kind) as (ledger, held),
        server.client() as client,
        server.client() as other,
    ):
        heard(ledger.charge, "a", "g", b"1", [1.0])
        busy = threading.Thread(target=run_forever, args=(other,))
        busy.start()
        until(lambda: is_busy(client))
        assert_unavailable(kind, *every_operation(ledger, held))
        client.script_kill()
        busy.join()
        assert heard(ledger.claim, b"x" * 16, 4e9)


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


def open_and_claim(path: Path) -> None:
    with closing(SQLiteLedger(path, TARIFF, timeout=TIMEOUT)) as ledger:
        ledger.claim(b"x" * 16, 4e9)


def test_sqlite_locked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(SQLiteLedger(path, TARIFF, timeout=TIMEOUT)) as ledger:
        heard(ledger.charge, "a", "", b"1", [1.0])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            operations = [
                lambda: ledger.charge("a", "", b"2", [1.0]),
                lambda: ledger.claim(b"x" * 16, 4e9),
                lambda: ledger.reset("a"),
                lambda: open_and_claim(path),
            ]
            assert_unavailable("awaiting", *operations)
            assert_in_time(1, lambda: of_16_threads(operations[0]))  # none waits for who waits
            other.execute("ROLLBACK")
        assert heard(ledger.state, "a")[0] == 1
        assert heard(operations[0]) > 0


async def test_sqlite_on_a_loop_fails_for_nobody_else(tmp_path: Path) -> None:
    """What waits for the thread shares a transaction, whatever becomes of one of them."""
    path = tmp_path / "ledger.db"
    ledger = AsyncSQLiteLedger(path, TARIFF, timeout=60.0)
    await ledger.charge("damaged", "", b"0", [1.0])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE page SET state = x'00'")
    names = [f"account {n}" for n in range(100)]
    charges = [ledger.charge(name, "", b"1", [9.0]) for name in (*names[:50], "damaged", *names)]
    claims = [ledger.claim(bytes([n % 50] * 16), time.time() + 60) for n in range(100)]
    between = [each for pair in zip(claims, charges[:100], strict=True) for each in pair]
    done = await asyncio.gather(*between, *charges[100:], return_exceptions=True)
    claimed, charged = done[:200:2], done[1:200:2] + done[200:]
    assert claimed == [True] * 50 + [False] * 50
    assert isinstance(charged.pop(50), StoreUnavailable)
    assert charged == [MemoryLedger(TARIFF).charge("account", "", b"1", [9.0])] * 150
    assert [(await ledger.state(name))[0] for name in names] == [1.0] * 100
    await ledger.close()


def test_sqlite_on_a_loop_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with loop_in_a_thread() as run:
        url = f"sqlite:///{path}"
        ledger = OnALoop(open_ledger(url, TARIFF, asynchronous=True, timeout=TIMEOUT), run)
        heard(ledger.charge, "a", "", b"1", [1.0])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            charge = lambda: ledger.charge("a", "", b"2", [1.0])  # noqa: E731
            assert_in_time(1, lambda: of_16_threads(charge))
            other.execute("ROLLBACK")
        assert heard(charge) > 0
        assert heard(ledger.state, "a")[0] == 2
        ledger.close()


def test_sqlite_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(SQLiteLedger(path, TARIFF)) as ledger:
        for i in range(200):
            ledger.charge(f"account {i}", "", b"1", [1.0])
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable), closing(SQLiteLedger(path, TARIFF)) as ledger:
        for i in range(200):
            ledger.charge(f"account {i}", "", b"2", [1.0])


def in_a_process(script: str, *arguments: object) -> str:
    preamble = """
        import os, resource, signal, sys
        from powfast.errors import StoreUnavailable
        from powfast.stores import SQLiteLedger
        from powfast.tariff import EvidenceTariff
        TARIFF = EvidenceTariff(1000.0, 50_000.0)
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
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        charged = 0
        try:
            while True:
                ledger.charge("a", "g", charged.to_bytes(8, "big"), [1.0])
                charged += 1
        except StoreUnavailable as error:
            assert ledger.state("a", "g")[0] == charged > 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        ledger.charge("a", "g", charged.to_bytes(8, "big"), [1.0])
        assert ledger.state("a", "g")[0] == charged + 1
        print("as promised")
    """
    assert in_a_process(script, tmp_path / "ledger.db") == "as promised\n"


def test_sqlite_that_may_not_write(tmp_path: Path) -> None:
    script = """
        path = sys.argv[1]
        ledger = SQLiteLedger(path, TARIFF)
        ledger.charge("a", "", b"1", [1.0])
        ledger.close()
        os.chmod(path, 0o444)
        os.chmod(os.path.dirname(path), 0o555)
        if os.getuid() == 0:
            os.setuid(65534)
        for operation in (
            lambda: SQLiteLedger(path, TARIFF),
            lambda: SQLiteLedger(path, TARIFF).charge("a", "", b"2", [1.0]),
            lambda: SQLiteLedger(path, TARIFF).claim(b"x" * 16, 4e9),
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
