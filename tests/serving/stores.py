"""Real Redis servers, alone, in a cluster and watched by a sentinel, which tests may mistreat.

Also the asynchronous stores, driven from synchronous tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from conftest import PATIENCE, missing
from ports import free_port as free_port
from redis.backoff import NoBackoff
from redis.retry import Retry

from powfast.errors import StoreUnavailable


class RedisServer:
    """A redis-server on a port of this machine; `flags` as on its command line."""

    def __init__(self, folder: Path, *flags: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            missing("redis-server is not installed")
        self.port = free_port()
        self._folder = folder
        self._command = [program, "--port", str(self.port), "--dir", str(folder), *flags]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """A client that waits longer than any test lets a server sleep."""
        return redis.Redis(port=self.port, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0))

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


def heard(operation: Callable[..., Any], *arguments: Any) -> Any:
    """Ask a store that is there; again, where a machine that stood still made its answer late."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return operation(*arguments)
        except StoreUnavailable:
            assert time.monotonic() < end, "the store is away"


@contextmanager
def redis_serving(folder: Path, *flags: str) -> Iterator[RedisServer]:
    with RedisServer(folder, "--save", "", *flags) as server:
        yield server


@contextmanager
def cluster_serving(folder: Path) -> Iterator[tuple[RedisServer, str]]:
    """One node that owns every slot; gives it, and the cluster's URL."""
    flags = ("--save", "", "--cluster-enabled", "yes", "--cluster-require-full-coverage", "yes")
    with RedisServer(folder, *flags) as server, server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        yield server, server.url.replace("redis://", "redis+cluster://")


class Cluster:
    """Three masters with a replica each; a master that is lost has a successor after 4 s or so."""

    def __init__(self, nodes: list[RedisServer]) -> None:
        self._nodes = nodes
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run([*command, "--cluster-replicas", "1"], check=True, stdout=subprocess.DEVNULL)
        self.clients = {node.port: node.client() for node in nodes}
        self.client = self.clients[nodes[-1].port]
        self.settle()
        self.url = f"redis+cluster://{','.join(addresses)}"

    def settle(self) -> None:
        """Wait until every node is there, and knows of the others."""
        for client in self.clients.values():
            until(lambda client=client: self._is_whole(client), redis.ConnectionError)

    def _is_whole(self, client: redis.Redis) -> bool:
        said = client.execute_command("CLUSTER", "NODES").decode()
        flags, links = zip(*(line.split()[2:8:5] for line in said.splitlines()), strict=True)
        return (
            b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")
            and "fail" not in "".join(flags)
            and sum("slave" in each for each in flags) == len(self._nodes) / 2
            and set(links) == {"connected"}
            and client.info("replication").get("master_link_status", "up") == "up"
        )

    def master_of(self, slot: int) -> RedisServer:
        for start, end, (_, port, *_), *_ in self._slots():
            if start <= slot <= end:
                return next(node for node in self._nodes if node.port == port)
        raise LookupError(slot)

    def first_master(self) -> RedisServer:
        return self.master_of(self._slots()[0][0])

    def _slots(self) -> Any:
        return self.client.execute_command("CLUSTER", "SLOTS")

    def begin_to_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        self._set_slot(target, slot, "IMPORTING", self._name(source))
        self._set_slot(source, slot, "MIGRATING", self._name(target))

    def move_a_key(self, slot: int, source: RedisServer, target: RedisServer) -> bool:
        """Move one key of a slot; say whether there was one."""
        client = self.clients[source.port]
        keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1)
        if keys:
            client.migrate("127.0.0.1", target.port, keys[0], 0, 60_000)
        return bool(keys)

    def end_move(self, slot: int, target: RedisServer) -> None:
        for node in (target, *self._nodes):
            if self.clients[node.port].info("replication")["role"] == "master":
                self._set_slot(node, slot, "NODE", self._name(target))

    def _set_slot(self, node: RedisServer, slot: int, *what: Any) -> None:
        self.clients[node.port].execute_command("CLUSTER", "SETSLOT", slot, *what)

    def _name(self, node: RedisServer) -> Any:
        return self.clients[node.port].execute_command("CLUSTER", "MYID")


@contextmanager
def nodes_serving(folder: Path) -> Iterator[Cluster]:
    flags = ("--save", "", "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    patience = ("--cluster-node-timeout", "3000", "--repl-diskless-sync-delay", "0")
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(6):
            (folder / str(number)).mkdir()
            node = RedisServer(folder / str(number), *flags, *patience)
            nodes.append(stack.enter_context(node))
        cluster = Cluster(nodes)
        yield cluster
        for client in cluster.clients.values():
            client.close()


@contextmanager
def sentinel_serving(folder: Path, port: int, down_after: int = 30_000) -> Iterator[str]:
    """A sentinel that watches the master on `port` as "main"; gives the URL.

    A master that has been silent for `down_after` milliseconds is replaced by its replica.
    """
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor main 127.0.0.1 {port} 1\n"
        f"sentinel down-after-milliseconds main {down_after}\n"
        "sentinel failover-timeout main 2000\n"  # until it tries again
    )
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
        ends = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            ends.append(back)
            await asyncio.gather(passing(reader, back), passing(there, writer))
        except ConnectionError:
            pass
        finally:  # of one that is still open when the proxy stops, Python would warn
            for end in ends:
                end.transport.abort()

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
