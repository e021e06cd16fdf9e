"""Real Redis servers, alone, in a cluster and watched by a sentinel, which tests may mistreat.

Also the asynchronous stores, driven from synchronous tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from conftest import missing
from redis.backoff import NoBackoff
from redis.retry import Retry

PATIENCE = 10.0  # seconds that a server may take to start or stop


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """A redis-server on a port of this machine; `flags` as on its command line."""

    def __init__(self, folder: Path, *flags: str, port: int | None = None) -> None:
        program = shutil.which("redis-server")
        if program is None:
            missing("redis-server is not installed")
        self.port = free_port() if port is None else port
        self._folder = folder
        self._command = [program, "--port", str(self.port), "--dir", str(folder), *flags]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """A client that waits longer than any test lets a server sleep."""
        return redis.Redis(port=self.port, socket_timeout=30.0, retry=Retry(NoBackoff(), 0))

    def launch(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        self.launch()
        with self.client() as client:
            until(lambda: client.ping(), redis.ConnectionError)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Remove what an appended file remembers."""
        shutil.rmtree(self._folder / "appendonlydir")

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def until(holds: Callable[[], Any], *errors: type[Exception]) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(*errors):
            if holds():
                return
        assert time.monotonic() < end, "that took too long"
        time.sleep(0.01)


@contextmanager
def redis_serving(folder: Path, *flags: str) -> Iterator[RedisServer]:
    with RedisServer(folder, "--save", "", *flags) as server:
        yield server


@contextmanager
def cluster_serving(folder: Path) -> Iterator[tuple[RedisServer, str]]:
    """One node that owns every slot; gives it, and the cluster's URL."""
    flags = ("--save", "", "--cluster-enabled", "yes", "--cluster-require-full-coverage", "yes")
    # a cluster's bus has its port 10000 above; the system gives out ports up to 60999
    port = next(port for port in iter(free_port, None) if port + 10_000 < 65_536)
    with RedisServer(folder, *flags, port=port) as server, server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        yield server, server.url.replace("redis://", "redis+cluster://")


@contextmanager
def sentinel_serving(folder: Path, master: RedisServer) -> Iterator[str]:
    """A sentinel that watches `master` as "main"; gives the URL."""
    configuration = folder / "sentinel.conf"
    configuration.write_text(f"sentinel monitor main 127.0.0.1 {master.port} 1\n")
    with Sentinel(folder, configuration) as sentinel:
        yield f"redis+sentinel://127.0.0.1:{sentinel.port}/main"


class Sentinel(RedisServer):
    def __init__(self, folder: Path, configuration: Path) -> None:
        super().__init__(folder)
        self._command[1:1] = [str(configuration), "--sentinel"]


@contextmanager
def slow_proxy(port: int) -> Iterator[tuple[int, Callable[[float], None]]]:
    """Pass bytes on to a local port; gives the proxy's own, and what sets its delay in seconds.

    Where nobody listens on the port, a connection ends at once.
    """
    delay = [0.0]

    async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await asyncio.sleep(delay[0])
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            writer.transport.abort()
            return
        await asyncio.gather(passing(reader, back), passing(there, writer))

    async def stop(server: asyncio.Server) -> None:
        server.close()

    def set_delay(seconds: float) -> None:
        delay[0] = seconds

    with loop_in_a_thread() as run:
        server = run(asyncio.start_server(connected, "127.0.0.1", 0))
        try:
            yield server.sockets[0].getsockname()[1], set_delay
        finally:
            run(stop(server))


Run = Callable[[Coroutine[Any, Any, Any]], Any]


@contextmanager
def loop_in_a_thread() -> Iterator[Run]:
    """Gives what runs a coroutine there, from any other thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    async def stop_tasks() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield run
    finally:
        run(stop_tasks())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class OnALoop:
    """An asynchronous store, called like a blocking one from any thread."""

    def __init__(self, store: Any, run: Run) -> None:
        self._store = store
        self._run = run

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._store, name)
        if not callable(member):
            return member
        return lambda *arguments: self._run(member(*arguments))
