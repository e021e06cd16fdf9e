"""A real redis-server, and the asynchronous ledger driven from synchronous tests."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from conftest import missing

from powfast.ledger import AsyncRedisLedger, RedisLedger
from powfast.tariff import EvidenceTariff


@contextmanager
def redis_serving(folder: Path) -> Iterator[str]:
    """Serve on a socket in `folder`; give its path."""
    program = shutil.which("redis-server")
    if program is None:
        missing("redis-server is not installed")
    path = folder / "redis.sock"
    options = {"port": "0", "save": "", "unixsocket": str(path), "dir": str(folder)}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    server = subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            assert server.poll() is None, "redis-server did not start"
            time.sleep(0.01)
        yield str(path)
    finally:
        server.terminate()
        server.wait()


class OnALoop:
    """An `AsyncRedisLedger`, called like a blocking one from any thread."""

    def __init__(self, ledger: AsyncRedisLedger, run: Callable[[Coroutine[Any, Any, Any]], Any]):
        self._ledger = ledger
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._run(getattr(self._ledger, name)(*arguments))


@contextmanager
def redis_ledgers(path: str, tariff: EvidenceTariff) -> Iterator[Callable[..., RedisLedger]]:
    with redis.Redis(unix_socket_path=path, socket_timeout=5.0) as client:
        yield lambda **options: RedisLedger(client, tariff, **options)


@contextmanager
def redis_ledgers_on_a_loop(path: str, tariff: EvidenceTariff) -> Iterator[Callable[..., OnALoop]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    client = redis.asyncio.Redis(unix_socket_path=path, socket_timeout=5.0)
    yield lambda **options: OnALoop(AsyncRedisLedger(client, tariff, **options), run)
    run(client.aclose())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
