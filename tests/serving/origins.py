"""Two servers that ask for work, redirect, or do both, and note what they were sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from powfast.challenge import Challenge, Issuer, decode
from powfast.http import parse_solution, payment_required

WORK = 50


class Origin:
    """A server that asks for work, redirects, or does both, as its paths say.

    `/pay`         402, again and again
    `/fair`        402, and 200 for a solution
    `/two`         402 with two challenges, and 200 for a solution
    `/drop`        402, and for a solution the connection is closed
    `/go/S/T`      a redirect with status S to target T
    `/pay-go/S/T`  402, and for a solution a redirect

    Targets: `other` is `/pay` of the other origin, `fair` and `same` are `/fair` and `/pay` of
    this one, and `ring` is `/pay-go/S/ring` of the other one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.other: Any = None
        self.url = ""
        self.issuer = Issuer({"2026a": name.encode() * 32})
        self.seen: list[tuple[str, str, str | None]] = []  # method, path, solution

    def challenge(self, path: str) -> str:
        """Return a header's value that asks for work, for this path of this origin."""
        token = self.issuer.issue(work=WORK, group=self.name, request=path.encode())
        return dict(payment_required(token, "pay").headers)[b"www-authenticate"].decode()

    def answer(self, path: str, solution: str | None) -> tuple[int, dict[str, str]] | None:
        kind, *rest = path.strip("/").split("/")
        asks = kind != "go" and (kind == "pay" or solution is None)
        if asks:
            count = 2 if kind == "two" else 1
            asked = ", ".join(self.challenge(path) for _ in range(count))
            return 402, {"www-authenticate": asked, "set-cookie": f"seen={len(self.seen)}"}
        if kind in ("fair", "two"):
            return 200, {"pow-receipt": f"work={WORK}; balance=-1.5e3; note=none"}
        if kind == "drop":
            return None
        status, target = rest
        to = {
            "other": f"{self.other.url}/pay",
            "same": "/pay",
            "fair": "/fair",
            "ring": f"{self.other.url}/pay-go/{status}/ring",
        }
        return int(status), {"location": to[target]}

    @contextmanager
    def served(self) -> Iterator[None]:
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                solution = self.headers.get("pow-solution")
                origin.seen.append((self.command, self.path, solution))
                answer = origin.answer(self.path, solution)
                if answer is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers = answer
                self.send_response(status)
                for name, value in {**headers, "content-length": "2"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield
            server.shutdown()
            thread.join()

    def solutions(self) -> list[Challenge]:
        """Return the challenges that were solved, each for the path that it was sent to."""
        solved = []
        for _, path, header in self.seen:
            if header is not None:
                challenge = decode(parse_solution(header)[0])
                assert (challenge.group, challenge.request) == (self.name, path.encode())
                solved.append(challenge)
        return solved


@contextmanager
def two_origins() -> Iterator[tuple[Origin, Origin]]:
    here, there = Origin("a"), Origin("b")
    here.other, there.other = there, here
    with here.served(), there.served():
        yield here, there
