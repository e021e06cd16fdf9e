"""What is ASGI's own, with a real service and real clients."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import httpx2
import pytest
from fastapi import Request, WebSocket
from fastapi.responses import PlainTextResponse
from service import ALICE, ASK, BASE, KEYS, UNPAID, Service, paid, served, token_of
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from stores import until

from powfast.accounts import account_of
from powfast.challenge import Issuer
from powfast.clients.httpx import PowAuth
from powfast.clients.httpx2 import PowAuth as PowAuth2
from powfast.errors import PaymentRequired, TooMuchWork
from powfast.gate import Gate
from powfast.servers.asgi import PowMiddleware, bill_of
from powfast.servers.environment import ordinary
from powfast.servers.fastapi import Charge
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff


@pytest.mark.parametrize(("library", "auth"), [(httpx, PowAuth), (httpx2, PowAuth2)])
def test_a_client_never_sees_the_402(library: Any, auth: Any) -> None:
    service = Service()
    with served(service.app) as url, library.Client(base_url=url, auth=auth()) as client:
        response = client.post("/v1/predict", json=ASK, headers=ALICE)
        assert (response.status_code, response.json()) == (200, {"answer": 1})
        assert response.headers["pow-receipt"] == f"work={2 * BASE}, balance=0"
        assert response.request.headers["authorization"] == "Bearer alice"
    assert service.runs == 1


@pytest.mark.parametrize(("library", "auth"), [(httpx, PowAuth), (httpx2, PowAuth2)])
async def test_an_asynchronous_client_pays_for_many_at_once(library: Any, auth: Any) -> None:
    service = Service()
    with served(service.app) as url:
        options = {"base_url": url, "auth": auth(), "timeout": 60, "headers": ALICE}
        async with library.AsyncClient(**options) as client:
            asked = [client.post("/v1/predict", json={**ASK, "x": i}) for i in range(20)]
            answers = [response.json()["answer"] for response in await asyncio.gather(*asked)]
    assert answers == list(range(20))
    assert service.runs == 20


def test_the_challenge_says_everything_a_client_needs() -> None:
    service = Service()
    with served(service.app) as url:
        response = httpx.post(url + "/v1/predict", json=ASK, headers=ALICE)
    token = token_of(response)
    problem = response.json()
    assert response.status_code == 402
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-should-retry"] == "false"
    assert (problem["work"], problem["status"], problem["expires"]) == (2 * BASE, 402, 120)
    text = base64.urlsafe_b64encode(token).rstrip(b"=").decode()
    assert problem["challenge"] == text
    wanted = f'PoW challenge="{text}", work="2000", parts="7", expires="120"'
    assert response.headers["www-authenticate"] == wanted
    assert "answer" not in response.text
    assert "alice" not in base64.urlsafe_b64decode(text + "==").decode("latin-1")


def test_require_runs_the_model_only_when_paid() -> None:
    service = Service()
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/beforehand", json=ASK))
        assert service.runs == 0
        answer = client.post("/v1/beforehand", json=ASK, headers=paid(token))
        assert answer.json() == {"answer": 1}
    assert service.runs == 1


def hand_on_by_a_handler(service: Service) -> None:
    @service.app.exception_handler(PaymentRequired)
    async def handle(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("free answer!")


def hand_on_through_a_middleware(service: Service) -> None:
    async def grouped(request: Request, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except Exception as error:
            raise ExceptionGroup("of a task group", [error]) from None

    service.app.user_middleware.append(Middleware(BaseHTTPMiddleware, dispatch=grouped))


@pytest.mark.parametrize("hand_on", [hand_on_by_a_handler, hand_on_through_a_middleware])
def test_require_stops_the_endpoint_whatever_becomes_of_its_exception(hand_on: Any) -> None:
    service = Service()
    hand_on(service)
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = client.post("/v1/beforehand", json=ASK)
        token = token_of(asked)
        assert "free" not in asked.text
        assert service.runs == 0
        answer = client.post("/v1/beforehand", json=ASK, headers=paid(token))
        assert answer.json() == {"answer": 1}
    assert service.runs == 1


class Halting:
    """An application that is slow, and stops once it is told that its client is gone."""

    def __init__(self, makes_of_it: str) -> None:
        self._makes_of_it = makes_of_it
        self.runs = self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.runs += 1
        await receive()
        gone = asyncio.create_task(receive())
        if self._makes_of_it == "half":
            await self._start(send)
        await asyncio.wait([gone], timeout=0.3)
        if not gone.done():
            if self._makes_of_it != "half":
                await self._start(send)
            await send({"type": "http.response.body", "body": b"second"})
            gone.cancel()
        elif self._makes_of_it == "null":  # as who looks for what a cancelled handler returned
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"null"})
        self.ended += 1

    async def _start(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})


@pytest.mark.parametrize("makes_of_it", ["half", "null", "nothing"])
def test_what_becomes_of_an_answer_whose_client_is_gone_is_neither_held_nor_sold(
    makes_of_it: str,
) -> None:
    app, gate = Halting(makes_of_it), Service().gate
    guarded = PowMiddleware(app, gate, evidence=ordinary)
    with served(guarded) as url, httpx.Client(headers=ALICE) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get(url, timeout=0.1)
        until(lambda: app.ended)
        assert len(gate.held) == 0
        assert owed_by_alice(gate) == (BASE, 1)  # what has run counts
        answer = client.get(url, headers=paid(token_of(client.get(url))))
    assert (answer.text, app.runs) == ("first second", 2)
    assert owed_by_alice(gate) == (BASE, 1)


def owed_by_alice(gate: Gate) -> tuple[float, float]:
    """Work, and runs that nobody has paid for."""
    record: Any = gate.ledger.account(account_of(ALICE["authorization"]))
    return -record.balance, record.unpaid_runs


async def test_an_answer_that_its_application_leaves_unfinished_is_a_failure() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    gate = Service().gate
    transport = httpx.ASGITransport(PowMiddleware(app, gate, evidence=ordinary))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(RuntimeError, match="ended before its answer was whole"):
            await client.get("/")
    assert len(gate.held) == 0


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("method", ["charge", "require"])
def test_an_answer_whose_charge_was_not_awaited_stays(method: str) -> None:
    service = Service()

    @service.app.post("/v1/forgets")
    async def forgets(pow: Charge) -> str:
        getattr(pow, method)([1.0])
        return "answer"

    with served(service.app) as url:
        response = httpx.post(url + "/v1/forgets")
    assert response.status_code == 500
    assert "answer" not in response.text


def test_an_answer_that_no_store_can_hold_is_made_again_once_paid() -> None:
    runs = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(scope["path"])
        await bill_of(scope).charge([1.0])
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"answer"})
        await send({"type": "http.response.trailers", "headers": []})

    gate = Gate(Issuer(KEYS), MemoryLedger(EvidenceTariff(base_work=BASE)), **UNPAID)

    async def without_trailers(scope: Any, receive: Any, send: Any) -> None:
        async def known(message: Any) -> None:
            if message["type"] != "http.response.trailers":
                await send(message)

        await PowMiddleware(app, gate)(scope, receive, known)

    with served(without_trailers) as url, httpx.Client(auth=PowAuth()) as client:
        response = client.get(url)
        assert (response.text, response.headers["pow-receipt"]) == ("answer", f"work={BASE}")
    assert runs == ["/", "/"]


def test_what_is_not_charged_passes_untouched() -> None:
    service = Service(max_body=100)
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/free").json() == "free"
        assert client.get("/v1/stream").text == "ab"
        assert client.post("/unguarded", json={"long": "x" * 1000}).is_success
        assert client.post("/v1/predict", json={"long": "x" * 1000}).status_code == 413
        assert client.post("/v1/fails").status_code == 503
        assert client.post("/v1/predict", json={"x": 1}).status_code >= 500  # KeyError inside
    assert len(service.gate.held) == 0


async def test_a_body_that_does_not_come_ends_its_request() -> None:
    service = Service(body_timeout=0.2)
    with served(service.app) as url:
        host, port = httpx.URL(url).host, httpx.URL(url).port
        reader, writer = await asyncio.open_connection(host, port)
        head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        writer.write(head + b"{")
        await writer.drain()
        answer = await reader.read(1000)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:powfast:body-too-slow" in answer
    assert service.runs == 0


@pytest.mark.parametrize(("path", "refused"), [("/v1/talk", True), ("/talk", False)])
async def test_a_websocket_on_a_guarded_path_is_refused(path: str, refused: bool) -> None:
    service, sent = Service(), []

    @service.app.websocket(path)
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append((message["type"], message.get("code")))

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
    await service.app(scope, receive, send)
    assert sent[0] == (("websocket.close", 1008) if refused else ("websocket.accept", None))


def test_a_request_is_charged_once() -> None:
    service = Service()
    with served(service.app) as url, httpx.Client(base_url=url, auth=PowAuth()) as client:
        assert "charged once" in client.post("/v1/twice").json()


def test_a_client_refuses_work_above_its_limit() -> None:
    service = Service()
    with (
        served(service.app) as url,
        httpx.Client(base_url=url, auth=PowAuth(max_work=2 * BASE - 1)) as client,
        pytest.raises(TooMuchWork, match="2000"),
    ):
        client.post("/v1/predict", json=ASK)


def test_a_second_402_is_handed_to_the_caller() -> None:
    service = Service(ttl=0.001)  # every solution comes too late
    with served(service.app) as url, httpx.Client(base_url=url, auth=PowAuth()) as client:
        assert client.post("/v1/predict", json=ASK).status_code == 402


def test_a_generated_body_is_sent_twice() -> None:
    service = Service()
    with served(service.app) as url, httpx.Client(base_url=url, auth=PowAuth()) as client:
        pieces = (piece for piece in [b'{"x": 3, ', b'"evidence": [1]}'])
        headers = {"content-type": "application/json"}
        response = client.post("/v1/predict", content=pieces, headers=headers)
        assert response.json() == {"answer": 3}


async def test_cancelling_the_request_cancels_the_solving() -> None:
    service = Service()
    hard = {"x": 1, "evidence": [1e6] * 8}
    with served(service.app) as url:
        async with httpx.AsyncClient(base_url=url, auth=PowAuth(max_work=2**62)) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.post("/v1/predict", json=hard), 1.0)
