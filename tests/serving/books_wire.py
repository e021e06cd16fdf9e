"""Clients that stop and go on where a test says, and a model that says who asked for each answer.

Everything runs on one event loop in one thread, and each request waits at named points only: the
same steps always make the same history.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from books_model import Books, Person, Request, Run, Solution
from ledgers import Clock

from powfast.servers.asgi import PowMiddleware, bill_of
from powfast.tariff import EvidenceTariff

BODIES = {"a": [1.0], "b": [0.0, 3.0], "c": [40.0], "d": [9.0, 9.0, 9.0], "e": [1.0] * 7}
SAMPLES = ([1.0], [25.0], [2.0, 4.0], [0.5])
POINTS = ("before", "after", "answering")
"""Where a request may wait: before its charge, after it, and in the middle of its answer."""
LARGE = 70_000  # bytes: no held answer has so many


class Left(Exception):
    """The application has seen that its client is gone."""


class Killed(BaseException):
    """What is asked of a store by a server that is no more."""


class Mortal:
    """A store as one server sees it, as long as that lives."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.is_alive = True

    def __getattr__(self, name: str) -> Any:
        if not self.is_alive:
            raise Killed
        return getattr(self._store, name)


class Place:
    """Where two nodes keep their stores."""

    def __init__(
        self,
        clock: Clock,
        ledger: Callable[[EvidenceTariff], Any],
        held: Callable[[int], Any],
        shares_held: bool = False,
    ) -> None:
        self._new = ledger, held
        self._shares_held = shares_held
        self._starts = [0, 0]
        self.clock = clock
        self.ledgers: list[Any] = [None, None]
        self.held: list[Any] = [None, None]

    def start(self, node: int, max_bytes: int, tariff: EvidenceTariff) -> None:
        self.close(node)
        ledger, held = self._new
        self.ledgers[node], self.held[node] = Mortal(ledger(tariff)), Mortal(held(max_bytes))
        self._starts[node] += 1

    def kill(self, node: int) -> None:
        self.ledgers[node].is_alive = self.held[node].is_alive = False

    def shelf(self, node: int) -> tuple[int, int]:
        """Say where a node finds held answers: it loses its own when it is restarted."""
        return (0, 0) if self._shares_held else (node, self._starts[node])

    def close(self, node: int) -> None:
        if self.ledgers[node] is not None:
            self.ledgers[node].is_alive = True
            self.ledgers[node].close()


def evidence_of(request: Request, run: int) -> list[float]:
    """What the model finds: all that the request says counts."""
    if request.path == "/many":
        return [1.0] * 9
    if request.path == "/sample":
        return SAMPLES[run % len(SAMPLES)]
    found = BODIES[request.body] + ([20.0] if request.content_type == "x/2" else [])
    return [2.0 * e for e in found] if request.model == "m2" else found


def counted(path: str, body: str) -> int:
    """What the operator can tell of the number of queries before the model runs."""
    return len(BODIES[body]) if path not in ("/many", "/sample") else 1


class Flight:
    """One request on its way, as its client sees it."""

    def __init__(
        self,
        person: Person,
        request: Request,
        solution: Solution | None,
        stop_at: str,
    ) -> None:
        self.person, self.request, self.solution = person, request, solution
        self.header = ""
        self.node = 0
        self.stop_at = stop_at
        self.run: Run | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.sent = b""
        """The body that the server has sent, of which the client has heard `body`."""
        self.body = b""
        self.is_heard = True
        self.is_whole = False
        self.waiting: asyncio.Future[None] | None = None
        self.leaves, self.is_begun = "", False
        self.task: asyncio.Task[None] | None = None
        self.expected: bytes | None = None
        """The body that its solution has paid for before, which is held."""

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()


class Model:
    """The ASGI application."""

    def __init__(self, books: Books, ledger: Callable[[], Any]) -> None:
        self._books, self._ledger = books, ledger
        self.may_stream = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        flight: Flight = scope["flight"]
        request, bill = flight.request, bill_of(scope)
        await receive()
        queries, who = counted(request.path, request.body), flight.person.who
        self._books.saw(who, self._books.look(self._ledger(), who))
        run = flight.run = self._books.began(flight.person, request, flight.solution, queries)
        run.is_model = request.path != "/require"
        try:
            await self._answer(flight, run, bill, receive, send)
        except Left:
            if flight.leaves == "answered" and not flight.is_begun:
                await send({"type": "http.response.start", "status": 499, "headers": []})
                await send({"type": "http.response.body", "body": b"nobody hears this"})
        finally:
            run.is_over = True

    async def _answer(self, flight: Flight, run: Run, bill: Any, receive: Any, send: Any) -> None:
        request, evidence = run.request, evidence_of(run.request, run.number)
        await self._point(flight, "before", receive)
        if request.path == "/raises":
            run.is_free = True
            raise ValueError("broken")
        if request.path == "/free":
            run.is_free = True
        elif request.path == "/tell":
            bill.charge_at_end(lambda: self._tell(run, evidence))
        elif request.path == "/require":
            await self._charging(bill.require(evidence), run, evidence)
            run.is_model = True
        else:
            await self._charging(bill.charge(evidence), run, evidence)
        await self._point(flight, "after", receive)
        headers = [(b"x-run", b"%d" % run.number), (b"x-path", request.path.encode())]
        if request.path == "/cookie":
            headers.append((b"Set-Cookie", b"run=%d" % run.number))
        status = 503 if request.path == "/broken" else 200
        flight.is_begun = True
        run.streams = request.path == "/tell" and self.may_stream
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = self._body(run)
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        await self._point(flight, "answering", receive)
        await send({"type": "http.response.body", "body": body[5:]})

    def _tell(self, run: Run, evidence: list[float]) -> list[float]:
        run.told = evidence
        return evidence

    async def _charging(self, charging: Any, run: Run, evidence: list[float]) -> None:
        """Charge, and tell the books, also where the endpoint is stopped."""
        try:
            await charging
        finally:
            if len(evidence) <= 8:
                seen = self._books.look(self._ledger(), run.person.who)
                self._books.charged(run, evidence, seen)

    def _body(self, run: Run) -> bytes:
        body = json.dumps({"run": run.number, "by": run.person, "asked": run.request}).encode()
        return body.ljust(LARGE) if run.request.path == "/large" else body

    async def _point(self, flight: Flight, name: str, receive: Any) -> None:
        if flight.stop_at == name:
            flight.waiting = asyncio.get_running_loop().create_future()
            await flight.waiting
        if flight.leaves:
            assert (await receive())["type"] == "http.disconnect"
            raise Left


class Wire:
    """Carries requests to a middleware, one step of the loop at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def begin(self, app: PowMiddleware, flight: Flight, trace: str = "") -> None:
        """Send a request; it is over, or waits at its point, when this returns."""
        flight.task = self._loop.create_task(self._served(app, flight, trace))
        self._settle(flight)

    def resume(self, flight: Flight) -> None:
        """Let it go on to its end."""
        assert flight.waiting is not None
        flight.waiting.set_result(None)
        flight.stop_at, flight.waiting = "", None
        self._settle(flight)

    def hang_up(self, flight: Flight, how: str) -> None:
        """End it: the application sees it and stops, or answers; it is cancelled; or nothing.

        Of a server that is killed, the stores are deaf already.
        """
        flight.is_heard = False
        if how == "killed" and flight.run is not None:
            flight.run.is_killed = True
        flight.leaves = how if how in ("seen", "answered") else ""
        assert flight.task is not None
        if how in ("cancelled", "killed"):
            flight.task.cancel()
            flight.waiting = None
            self._settle(flight)
        else:
            self.resume(flight)

    def close(self, flights: list[Flight]) -> None:
        for flight in flights:
            self.hang_up(flight, "cancelled")
        self._loop.close()

    def _settle(self, flight: Flight) -> None:
        async def still() -> None:
            while flight.task and not (flight.task.done() or flight.waiting):
                await asyncio.sleep(0)

        self._loop.run_until_complete(still())
        if flight.task is not None and flight.task.done():
            flight.task.result()

    async def _served(self, app: PowMiddleware, flight: Flight, trace: str) -> None:
        unread = [{"type": "http.request", "body": flight.request.body.encode()}]

        async def receive() -> Any:
            return unread.pop() if unread else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                flight.status = message["status"]
                flight.headers = {
                    name.decode().lower(): value.decode() for name, value in message["headers"]
                }
                return
            flight.sent += message["body"]
            flight.body += message["body"] if flight.is_heard else b""
            flight.is_whole = not message.get("more_body", False)

        try:
            await app(_scope(flight, trace), receive, send)
        except (asyncio.CancelledError, Killed):
            pass
        except ValueError:  # the server's own answer to an application that breaks
            flight.status = 500


def _scope(flight: Flight, trace: str) -> dict[str, Any]:
    person, request = flight.person, flight.request
    headers = {
        "host": "h",
        "x-user": person.account,
        "x-team": person.group,
        "authorization": person.authorization,
        "cookie": person.cookie,
        "content-type": request.content_type,
        "x-model": request.model,
        "x-trace": trace,
        "pow-solution": flight.header,
    }
    return {
        "type": "http",
        "method": "POST",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items() if v],
        "flight": flight,
    }
