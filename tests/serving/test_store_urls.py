"""Stores by URL: real servers, a cluster and a sentinel; bad URLs; memory among many workers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, missing
from ledger_oracle import Oracle
from ledgers import LIMITS, RUN, Caller
from stores import (
    OnALoop,
    cluster_serving,
    free_port,
    loop_in_a_thread,
    redis_serving,
    sentinel_serving,
    until,
)

from powfast.errors import InvalidInput, StoreUnavailable
from powfast.http import Answer
from powfast.stores import MemoryLedger, SQLiteLedger, open_held, open_ledger
from powfast.stores.base import Verdict
from powfast.stores.held import HeldAnswers
from powfast.tariff import EvidenceTariff, Iclr2022Tariff

TARIFF = EvidenceTariff(1000.0, 50_000.0, half_life=3600.0, volume=((3, 2.0),))


@pytest.fixture(
    scope="module", params=["memory", "sqlite", "redis", "database", "cluster", "sentinel"]
)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "memory":
        yield "memory://"
    elif request.param == "sqlite":
        yield f"sqlite:///{folder}/ledger%20of%20many.db"
        assert (folder / "ledger of many.db").exists()
    elif request.param == "cluster":
        with cluster_serving(folder) as (_, of_cluster):
            yield of_cluster
    else:
        with redis_serving(folder) as server:
            if request.param == "redis":
                yield server.url
            elif request.param == "database":
                with server.client() as client:
                    client.execute_command("ACL SETUSER me on >p%40ss ~* +@all")
                yield f"{server.url.replace('//', '//me:p%2540ss@')}/7"
                with server.client() as client:
                    assert not client.keys() and client.execute_command("SELECT", 7)
            else:
                with sentinel_serving(folder, server.port) as of_sentinel:
                    with loop_in_a_thread() as run:
                        store = OnALoop(open_ledger(of_sentinel, TARIFF, asynchronous=True), run)
                        until(lambda: store.account("nobody") is None, StoreUnavailable)
                        store.close()
                    yield of_sentinel


@pytest.fixture(params=[False, True], ids=["blocking", "awaiting"])
def opened(request: pytest.FixtureRequest, url: str) -> Iterator[tuple[Any, Any]]:
    """A ledger and the held answers of one URL."""
    asynchronous = request.param
    stores = [
        open_ledger(url, TARIFF, asynchronous=asynchronous, timeout=60.0),
        open_held(url, asynchronous=asynchronous, timeout=60.0),
    ]
    with loop_in_a_thread() as run:
        if asynchronous:
            stores = [
                s if isinstance(s, MemoryLedger | HeldAnswers) else OnALoop(s, run) for s in stores
            ]
        yield stores[0], stores[1]
        for store in stores:
            if not isinstance(store, HeldAnswers):
                store.close()


def test_opens_charges_redeems_and_holds(
    opened: tuple[Any, Any], request: pytest.FixtureRequest
) -> None:
    (ledger, held), name = opened, request.node.name
    mine, naive = (
        exchange(Caller(each, name, f"group of {name}"))
        for each in (ledger, Oracle(TARIFF, clock=time.time))
    )
    assert mine[0] == naive[0]
    assert mine[1] == pytest.approx(naive[1], rel=1e-3)  # each as of when it was asked
    run, answer = os.urandom(16), Answer(200, ((b"a", b"b"),), b"the answer")
    assert held.put(name, run, answer)
    assert [held.get(name, run, time.time() + 60) for _ in range(2)] == [answer, answer]
    assert held.get("somebody else", run) is None


def exchange(caller: Caller) -> tuple[list[Verdict], list[float]]:
    """Open an account, be charged for a request and pay for it; return what was said."""
    until, evidence = time.time() + 100, [3.0, 9.0, 0.5]
    challenges = [hashlib.sha256(f"{caller.name} {n}".encode()).digest()[:16] for n in range(2)]
    owed = caller.enter()
    opening = caller.redeem(owed.work, challenges[0], expires=until)
    entered = caller.enter()
    charged = caller.charge(evidence)
    again = caller.enter()
    paid, twice = (caller.redeem(charged.due, challenges[1], expires=until) for _ in range(2))
    assert paid.run == twice.run == RUN
    said = [each.verdict for each in (owed, opening, entered, again, paid, twice)]
    record = caller.record
    return said, [owed.work, *charged, again.work, record.balance, *record.state]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("", "no scheme"),
        ("/var/lib/ledger.db", "no scheme"),
        ("postgres://host/db", "no store is called postgres://"),
        ("redis+unix://host", "no store is called"),
        ("memory://host", "neither host nor options"),
        ("memory:///path", "no path"),
        ("sqlite://ledger.db", "neither host nor options"),
        ("sqlite:///", "needs a path"),
        ("sqlite:///ledger.db?mode=ro", "neither host nor options"),
        ("redis://", "needs a host"),
        ("redis://host:99999", "ort"),
        ("redis://host:port", "ort"),
        ("redis://one,two", "one host"),
        ("redis://host/main", "a database is a number"),
        ("redis://host/1/2", "a database is a number"),
        ("redis://host#1", "fragment"),
        ("redis://[::1", "IPv6"),
        ("redis+cluster://host/1", "no databases"),
        ("redis+sentinel://host", "service"),
        ("redis+sentinel://host/main/first", "a database is a number"),
        (None, "store"),
    ],
)
def test_a_bad_url_says_what_would_be_right(bad: Any, reason: str) -> None:
    for open_it in (lambda: open_ledger(bad, TARIFF), lambda: open_held(bad)):
        with pytest.raises(InvalidInput, match=reason) as raised:
            open_it()
        assert "redis+sentinel://host" in str(raised.value)
        assert "sqlite:///" in str(raised.value)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", ["redis", "redis+sentinel"])
def test_an_option_that_nobody_knows_is_refused(kind: str, asynchronous: bool) -> None:
    service = "/main" if kind == "redis+sentinel" else ""
    with pytest.raises(InvalidInput, match="option"):
        open_held(f"{kind}://host{service}?sockt_timeout=1", asynchronous=asynchronous)
    with pytest.raises(InvalidInput, match="max_connections"):
        open_held(f"{kind}://host{service}?max_connections=many", asynchronous=asynchronous)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_redis_over_tls(asynchronous: bool, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        missing("openssl is not installed")
    certificate, key, port = tmp_path / "certificate.pem", tmp_path / "key.pem", free_port()
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out"]
    subprocess.run([*make.split(), *files, str(certificate)], check=True, capture_output=True)
    flags = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-key-file", str(key)]
    for option in ("--tls-cert-file", "--tls-ca-cert-file"):
        flags += [option, str(certificate)]
    url = f"rediss://127.0.0.1:{port}"
    with redis_serving(tmp_path, *flags), loop_in_a_thread() as run:
        for given, trusted in ((f"{url}?ssl_ca_certs={certificate}", True), (url, False)):
            ledger: Any = open_ledger(given, TARIFF, asynchronous=asynchronous, timeout=60.0)
            if asynchronous:
                ledger = OnALoop(ledger, run)
            if trusted:
                ledger.reset("a")
                assert ledger.account("a").opened
            else:
                with pytest.raises(StoreUnavailable, match="certificate"):
                    ledger.reset("a")
            ledger.close()


def test_redis_carries_no_other_tariff() -> None:
    with pytest.raises(InvalidInput, match="evidence"):
        open_ledger("redis://host", Iclr2022Tariff(1.0, 1.0))


def test_a_file_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere"):
        open_ledger(f"sqlite:///{tmp_path}/nowhere/ledger.db", TARIFF)
    (tmp_path / "text").write_bytes(b"no database, whatever its name says" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_ledger(f"sqlite:///{tmp_path}/text", TARIFF)


def test_a_cluster_that_nobody_answers_for_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        open_ledger("redis+cluster://127.0.0.1:1", TARIFF, timeout=0.2)

    async def charge() -> None:
        ledger = open_ledger("redis+cluster://127.0.0.1:1", TARIFF, asynchronous=True)
        try:
            await ledger.charge("a", "", b"1", RUN, [1.0])  # type: ignore[misc]
        finally:
            await ledger.close()  # type: ignore[misc]

    with pytest.raises(StoreUnavailable):
        asyncio.run(charge())


# -- one process's memory, given to several


@pytest.mark.parametrize(
    ("environment", "arguments", "warned"),
    [
        ({}, ["/usr/bin/gunicorn", "app:app"], False),
        ({"WEB_CONCURRENCY": "1"}, ["/usr/bin/gunicorn", "app:app"], False),
        ({"WEB_CONCURRENCY": "4"}, ["/usr/bin/gunicorn", "app:app"], True),
        ({}, ["/usr/bin/gunicorn", "-w", "4", "app:app"], True),
        ({}, ["/usr/bin/gunicorn", "-w4", "app:app"], True),
        ({"GUNICORN_CMD_ARGS": "--bind=:80 --workers=3"}, ["/usr/bin/gunicorn", "a"], True),
        ({}, ["/lib/uvicorn/__main__.py", "app:app", "--workers", "2"], True),
        ({}, ["/lib/uvicorn/__main__.py", "app:app", "--workers", "1"], False),
        ({}, ["/usr/bin/pytest", "-w", "4"], False),
        ({}, [], False),
    ],
    ids=str,
)
def test_memory_says_that_it_is_alone(
    environment: dict[str, str],
    arguments: list[str],
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", arguments)
    with caplog.at_level(logging.WARNING):
        open_ledger("memory://", TARIFF)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert not warned or "sqlite:///path or redis://host" in caplog.text


def enter_twice(ledger: MemoryLedger, sender: Any) -> None:
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("powfast").addHandler(handler)
    for digest in (b"1", b"2"):
        ledger.enter("a", "", digest, RUN, LIMITS)
    sender.send(records)


def test_memory_notices_a_fork() -> None:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=enter_twice, args=(MemoryLedger(TARIFF), sender))
    child.start()
    (said,) = receiver.recv()  # once
    child.join()
    assert "was forked" in said


def test_a_file_is_opened_anew_after_a_fork(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger.db", TARIFF, timeout=60)
    ledger.charge("a", "", b"0", RUN, [1.0])
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=ledger.charge, args=("a", "", bytes([i]), RUN, [1.0]))
        for i in range(1, 5)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert Caller(ledger).record.state[0] == 5
    ledger.close()


def test_gunicorn_s_workers_are_told(tmp_path: Path) -> None:
    program = Path(sysconfig.get_path("scripts")) / "gunicorn"
    if not program.exists():
        missing("gunicorn is not installed")
    (tmp_path / "service.py").write_text(
        textwrap.dedent(
            """
            import os, signal, time
            from powfast.stores import open_ledger
            from powfast.tariff import EvidenceTariff

            open_ledger("memory://", EvidenceTariff(1000.0))
            os.kill(os.getppid(), signal.SIGTERM)

            def app(environ, start_response): ...
            """
        )
    )
    ran = subprocess.run(
        [str(program), "--workers", "2", "--bind", "127.0.0.1:0", "service:app"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "MemoryLedger serves one process" in ran.stderr
