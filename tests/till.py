"""A small shop over HTTP that keeps a balance for every account: the contract and no more."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from powfast.challenge import Issuer, decode
from powfast.errors import Refused
from powfast.http import parse_solution, payment_required

KEYS = {"2026a": bytes(range(32))}
PRICE = 300
MANY = 32 * PRICE  # what a prepaid challenge is worth


class Till:
    """`/ask...` costs `price`; `/go...` leads to `leads_to`; everything else is free.

    An account with less than `low` left is brought a challenge over `worth`.
    """

    def __init__(
        self,
        *,
        price: int = PRICE,
        low: int = 8 * PRICE,
        worth: int = MANY,
        ttl: float = 120.0,
    ) -> None:
        self.price, self.low, self.worth = price, low, worth
        self.moves = ""  # a path that leads elsewhere once it was answered
        self.issuer = Issuer(KEYS)
        self._short = Issuer(KEYS, ttl=ttl)  # of prepaid challenges
        self.balances: defaultdict[str, int] = defaultdict(int)
        self.seen: list[tuple[str, str | None]] = []  # path, and what was solved with it
        self.statuses: list[int] = []
        self.url = self.leads_to = ""
        self.offer: Any = self.prepaid
        self._lock = threading.Lock()

    def prepaid(self, account: str) -> str:
        return asked(self._short.issue(work=self.worth, account=account))

    def answer(self, path: str, account: str, header: str | None) -> tuple[int, dict[str, str]]:
        work, challenge = 0, None if header is None else decode(parse_solution(header)[0])
        kind = None if challenge is None else "own" if challenge.request else "ahead"
        self.seen.append((path, kind))
        moved = path == self.moves and self.seen.count((path, "own")) > 0 and kind != "own"
        if path.startswith("/go") or moved:
            return 307, {"location": self.leads_to}
        if not path.startswith("/ask"):
            return 200, {}
        if header is not None and challenge is not None:
            token, solution = parse_solution(header)
            try:
                request = path.encode() if challenge.request else b""
                receipt = self.issuer.redeem(token, solution, account=account, request=request)
                work = receipt.work
            except Refused:
                pass
        self.balances[account] += work
        if self.balances[account] < self.price:
            token = self.issuer.issue(work=self.price, account=account, request=path.encode())
            return 402, {"www-authenticate": asked(token)}
        self.balances[account] -= self.price
        left = self.balances[account]
        told = {"pow-receipt": f"work={work}, balance={left}"}
        if left < self.low:
            told["pow-challenge"] = self.offer(account)
        return 200, told

    @contextmanager
    def served(self) -> Iterator[Till]:
        till = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                account = self.headers.get("authorization", "anonymous")
                with till._lock:
                    solution = self.headers.get("pow-solution")
                    status, headers = till.answer(self.path, account, solution)
                    till.statuses.append(status)
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
            yield self
            server.shutdown()
            thread.join()

    def kinds(self) -> list[str | None]:
        return [kind for _, kind in self.seen]


def asked(token: bytes) -> str:
    """Return a header's value that carries a challenge."""
    return dict(payment_required(token, "pay").headers)[b"www-authenticate"].decode()
