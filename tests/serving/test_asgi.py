"""The exchange of a real service with real clients: 402, solution, answer, and every refusal."""

from __future__ import annotations

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import httpx2
import pytest
from fastapi import Request
from fastapi.responses import PlainTextResponse
from service import BASE, KEYS, Service, served
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from powfast.asgi import PowMiddleware, charge_of
from powfast.challenge import Issuer, decode, solve
from powfast.clients.httpx import PowAuth
from powfast.clients.httpx2 import PowAuth as PowAuth2
from powfast.errors import PaymentRequired, TooMuchWork
from powfast.gate import Gate
from powfast.held import HeldAnswers
from powfast.http import challenge_in, format_solution
from powfast.ledger import MemoryLedger
from powfast.puzzle import verify
from powfast.tariff import EvidenceTariff

ALICE = {"authorization": "Bearer alice"}
ASK = {"x": 1, "evidence": [1.0, 1.0]}


def token_of(response: httpx.Response) -> bytes:
    token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
    assert token is not None, response.text
    return token


def paid(token: bytes) -> dict[str, str]:
    return {**ALICE, "pow-solution": format_solution(token, solve(token))}


@pytest.mark.parametrize(("library", "auth"), [(httpx, PowAuth), (httpx2, PowAuth2)])
def test_a_client_never_sees_the_402(library: Any, auth: Any) -> None:
    service = Service()
    with served(service.app) as url, library.Client(base_url=url, auth=auth()) as client:
        response = client.post("/v1/predict", json=ASK, headers=ALICE)
        assert (response.status_code, response.json()) == (200, {"answer": 1})
        assert response.headers["pow-receipt"] == f"work={2 * BASE}"
        assert response.request.headers["authorization"] == "Bearer alice"
    assert service.runs == 1


@pytest.mark.parametrize(("library", "auth"), [(httpx, PowAuth), (httpx2, PowAuth2)])
async def test_an_asynchronous_client_pays_for_many_at_once(library: Any, auth: Any) -> None:
    service = Service()
    with served(service.app) as url:
        async with library.AsyncClient(base_url=url, auth=auth(), timeout=60) as client:
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


def test_asking_again_runs_the_model_once_and_charges_once() -> None:
    service = Service()
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        tokens = [token_of(client.post("/v1/predict", json=ASK)) for _ in range(5)]
        assert len(set(tokens)) == 5
        assert {decode(token).work for token in tokens} == {2 * BASE}
        answer = client.post("/v1/predict", json=ASK, headers=paid(tokens[2]))
        assert answer.json() == {"answer": 1}
    assert service.runs == 1
    state = service.ledger.state(decode(tokens[0]).account)
    assert state is not None
    assert state[0] == 2


def test_every_refusal_carries_a_fresh_challenge() -> None:
    service = Service()
    stranger = Issuer({"2026a": bytes(32)})
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/predict", json=ASK))
        headers = paid(token)
        other = token_of(client.post("/v1/predict", json={**ASK, "x": 2}))
        bob = token_of(client.post("/v1/predict", json=ASK, headers={"authorization": "bob"}))
        forged = stranger.issue(
            work=2, account=decode(token).account, request=decode(token).request
        )
        nonces = solve(token)
        worse = next(n for n in range(100) if not verify(decode(token).puzzle, (n, *nonces[1:])))
        wrong = format_solution(token, (worse, *nonces[1:]))
        expired = Issuer(KEYS, clock=lambda: 1.0).issue(
            work=2, account=decode(token).account, request=decode(token).request
        )
        table = {
            "wrong-request": paid(other),
            "wrong-account": paid(bob),
            "bad-signature": paid(forged),
            "expired": paid(expired),
            "wrong-solution": {"pow-solution": wrong},
            "malformed-solution": {"pow-solution": headers["pow-solution"].split(".")[0] + ".AA"},
            "malformed-token": {"pow-solution": "rubbish"},
        }
        for code, attempt in table.items():
            refused = client.post("/v1/predict", json=ASK, headers=attempt)
            assert refused.status_code == 402, code
            assert f"({code})" in refused.json()["detail"], refused.json()["detail"]
            assert decode(token_of(refused)).work == 2 * BASE
        assert client.post("/v1/predict", json=ASK, headers=headers).status_code == 200
        replayed = client.post("/v1/predict", json=ASK, headers=headers)
        assert replayed.status_code == 402
        assert "(already-redeemed)" in replayed.json()["detail"]
        # a challenge is bound to method, path, query and body
        assert client.post("/v1/predict?y=1", json=ASK, headers=headers).status_code == 402


def test_of_64_concurrent_copies_of_a_solution_one_wins() -> None:
    service = Service()
    with served(service.app) as url, httpx.Client(base_url=url, timeout=60) as client:
        headers = paid(token_of(client.post("/v1/predict", json=ASK, headers=ALICE)))
        with ThreadPoolExecutor(64) as pool:
            copies = [
                pool.submit(client.post, "/v1/predict", json=ASK, headers=headers)
                for _ in range(64)
            ]
            statuses = [copy.result().status_code for copy in copies]
    assert sorted(statuses) == [200] + [402] * 63


def test_where_the_held_answer_is_gone_the_endpoint_runs_as_paid() -> None:
    service = Service(held=HeldAnswers(account_bytes=4))
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        token = token_of(client.post("/v1/predict", json=ASK))
        answer = client.post("/v1/predict", json=ASK, headers=paid(token))
        assert answer.json() == {"answer": 1}
    assert service.runs == 2
    state = service.ledger.state(decode(token).account)
    assert state is not None
    assert state[0] == 2  # and costs nothing more


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


def test_an_answer_that_no_store_can_hold_is_made_again_once_paid() -> None:
    runs = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(scope["path"])
        await charge_of(scope).charge([1.0])
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"answer"})
        await send({"type": "http.response.trailers", "headers": []})

    gate = Gate(Issuer(KEYS), MemoryLedger(EvidenceTariff(base_work=BASE)))

    async def without_trailers(scope: Any, receive: Any, send: Any) -> None:
        async def known(message: Any) -> None:
            if message["type"] != "http.response.trailers":
                await send(message)

        await PowMiddleware(app, gate)(scope, receive, known)

    with served(without_trailers) as url, httpx.Client(auth=PowAuth()) as client:
        response = client.get(url)
        assert (response.text, response.headers["pow-receipt"]) == ("answer", f"work={BASE}")
    assert runs == ["/", "/"]


def test_unpaid_answers_are_bounded_per_account() -> None:
    service = Service(held=HeldAnswers(per_account=3))
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        asked = [client.post("/v1/predict", json={**ASK, "x": i}) for i in range(5)]
        assert [response.status_code for response in asked] == [402, 402, 402, 429, 429]
        assert asked[3].json()["type"] == "urn:powfast:too-many-unpaid"
        assert asked[3].headers["retry-after"] == "120"
        assert service.runs == 3
        other = {"authorization": "Bearer bob"}
        assert client.post("/v1/predict", json=ASK, headers=other).status_code == 402
        body = json.loads(asked[0].request.content)
        assert client.post("/v1/predict", json=body, headers=paid(token_of(asked[0]))).is_success
        assert client.post("/v1/predict", json={**ASK, "x": 9}).status_code == 402


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


def test_a_request_is_charged_once() -> None:
    service = Service()
    with served(service.app) as url, httpx.Client(base_url=url, auth=PowAuth()) as client:
        assert "charged once" in client.post("/v1/twice").json()


def test_malformed_evidence_is_never_admitted() -> None:
    service = Service()
    with served(service.app) as url:
        for evidence in ([-1.0], ["a"], [[1.0]]):
            body = {"x": 1, "evidence": evidence}
            response = httpx.post(url + "/v1/predict", json=body, auth=PowAuth())
            assert response.status_code == 500
            assert "answer" not in response.text


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


def test_another_status_can_carry_the_challenge() -> None:
    service = Service(status=401)
    with served(service.app) as url, httpx.Client(base_url=url) as client:
        assert client.post("/v1/predict", json=ASK).status_code == 401
        assert client.post("/v1/predict", json=ASK, auth=PowAuth()).json() == {"answer": 1}


def test_an_account_that_no_token_can_carry_is_refused_before_the_model_runs() -> None:
    service = Service(account=lambda caller: "a" * 256)
    with served(service.app) as url:
        response = httpx.post(url + "/v1/predict", json=ASK)
    assert (response.status_code, response.json()["type"]) == (400, "urn:powfast:invalid-input")
    assert service.runs == 0


def test_a_price_above_the_threshold_is_refused_and_still_charged() -> None:
    service = Service()
    service.gate.refuse_above = 50 * BASE
    dear = {"x": 1, "evidence": [1e6] * 4}
    with served(service.app) as url, httpx.Client(base_url=url, headers=ALICE) as client:
        assert client.post("/v1/predict", json=ASK).status_code == 402
        for _ in range(2):
            refused = client.post("/v1/predict", json=dear)
            assert refused.status_code == 403
            assert refused.json()["type"] == "urn:powfast:price-too-high"
            assert "answer" not in refused.json()
        assert client.post("/v1/predict", json={**ASK, "x": 2}).status_code == 403
        other = {"authorization": "Bearer bob"}
        assert client.post("/v1/predict", json=ASK, headers=other).status_code == 402
