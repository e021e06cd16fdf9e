"""The proxy's tests: a model server that sends bytes as it is told, and the proxy before it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import NamedTuple

from processes import program, settings, started
from stores import free_port


class Asked(NamedTuple):
    """A request as it came, and the number of the connection it came over."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes
    connection: int

    def field(self, name: str) -> str | None:
        found = [value for key, value in self.fields if key.lower() == name]
        return ", ".join(found) if found else None


Behave = Callable[[Asked, socket.socket], bool]
"""Answers a request; returns whether the connection stays."""

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Scripted:
    """A server of HTTP/1.1 that does what `behave` says, byte for byte."""

    def __init__(self, port: int = 0) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.behave: Behave = lambda asked, peer: sends(peer, OK)
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                self.connections += 1
                arguments = (peer, self.connections)
                threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def _serve(self, peer: socket.socket, number: int) -> None:
        with peer, suppress(OSError), peer.makefile("rb") as reading:
            while True:
                asked = _read(reading, number)
                if asked is None:
                    return
                self.asked.append(asked)
                if not self.behave(asked, peer):
                    return


def _read(reading: object, number: int) -> Asked | None:
    line = reading.readline().decode("latin-1").rstrip("\r\n")  # type: ignore[attr-defined]
    if not line:
        return None
    fields = []
    while text := reading.readline().decode("latin-1").rstrip("\r\n"):  # type: ignore[attr-defined]
        name, _, value = text.partition(":")
        fields.append((name, value.strip()))
    asked = Asked(line, fields, b"", number)
    body = b""
    if asked.field("transfer-encoding") == "chunked":
        while size := int(reading.readline(), 16):  # type: ignore[attr-defined]
            body += reading.read(size)  # type: ignore[attr-defined]
            reading.readline()  # type: ignore[attr-defined]
        reading.readline()  # type: ignore[attr-defined]
    elif length := asked.field("content-length"):
        body = reading.read(int(length))  # type: ignore[attr-defined]
    return asked._replace(body=body)


def sends(peer: socket.socket, *pieces: bytes, stays: bool = True) -> bool:
    for piece in pieces:
        peer.sendall(piece)
    return stays


@contextmanager
def proxied(
    upstream: str, folder: Path, *, store: str = "memory://", workers: int = 1, **more: str
) -> Iterator[str]:
    """Run `powfast serve --upstream` until the end of the block; give its URL."""
    port = free_port()
    environ = settings(folder, store, **more)
    command = [program("powfast"), "serve", "--upstream", upstream, "--port", str(port)]
    command += ["--workers", str(workers)]
    with started(command, port, environ=environ, folder=folder) as url:
        yield url


def raw(url: str, request: bytes) -> int:
    """Send bytes, and return the status of what is answered."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as peer:
        peer.sendall(request)
        answer = HTTPResponse(peer)
        answer.begin()
        answer.read()
        return answer.status
