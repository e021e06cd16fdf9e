"""examples/nginx and examples/caddy before `powfast serve`: nothing reaches the model unpaid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from conftest import ROOT
from processes import caddy, nginx, program, settings, started
from service import served
from stores import free_port

from powfast.accounts import account_of
from powfast.challenge import decode, solve
from powfast.clients.httpx import PowAuth
from powfast.http import challenge_in, format_solution

BASE = 1000
ALICE = {"authorization": "Bearer alice"}
SECRET = "a-secret-of-the-operator"
PROXIES = {
    "nginx": (nginx, ROOT / "examples/nginx/nginx.conf", "401"),
    "caddy": (caddy, ROOT / "examples/caddy/Caddyfile", "402"),
}


class Model:
    """An ASGI application of somebody else, which tells what reached it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append(headers)
        status = 401 if headers["authorization"] == "Bearer wrong" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"answer to " + body})


@dataclass
class Site:
    proxy: str
    model: Model
    url: str
    gate: str

    def work(self, **headers: str) -> int:
        response = httpx.post(f"{self.url}/v1/predict", headers={**ALICE, **headers})
        assert response.status_code == 402
        return decode(token_of(response)).work


def token_of(response: httpx.Response) -> bytes:
    token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
    assert token is not None, response.text
    return token


@pytest.fixture(scope="module", params=PROXIES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    run, configuration, status = PROXIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    store = f"sqlite:///{folder}/ledger.db"
    environ = settings(folder, store, BASE, report_secret=SECRET, check_status=status)
    port, front, model = free_port(), free_port(), Model()
    serve = [program("powfast"), "serve", "--port", str(port), "--workers", "2"]
    with ExitStack() as stack:
        gate = stack.enter_context(started(serve, port, environ=environ))
        behind = int(stack.enter_context(served(model)).rpartition(":")[2])
        url = stack.enter_context(run(configuration, folder, p8080=front, p8402=port, p8000=behind))
        yield Site(request.param, model, url, gate)


def test_the_challenge_reaches_the_client_and_nothing_the_model(site: Site) -> None:
    before = len(site.model.seen)
    response = httpx.post(f"{site.url}/v1/predict", content=b"x", headers=ALICE)
    assert response.status_code == 402
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:powfast:payment-required"
    assert decode(token_of(response)).work == BASE
    for forged in ("a.b", "", "x" * 7000):
        headers = {**ALICE, "pow-solution": forged, "x-forwarded-uri": "/", "pow-account": "bob"}
        assert httpx.post(f"{site.url}/v1/predict", headers=headers).status_code == 402
    assert len(site.model.seen) == before
    if site.proxy == "nginx":
        assert httpx.get(f"{site.url}/pow-check", headers=ALICE).status_code == 404


def test_a_client_pays_and_the_model_answers(site: Site) -> None:
    before = len(site.model.seen)
    with httpx.Client(auth=PowAuth(), headers=ALICE) as client:
        forged = {"pow-account": "bob", "pow-request": "1"}
        response = client.post(f"{site.url}/v1/predict?n=1", content=b"me", headers=forged)
    assert (response.status_code, response.content) == (200, b"answer to me")
    if site.proxy == "nginx":
        assert response.headers["pow-receipt"] == f"work={BASE}"
    (seen,) = site.model.seen[before:]
    assert seen["pow-account"] == account_of("Bearer alice")
    assert len(seen["pow-request"]) == 32
    assert seen["authorization"] == "Bearer alice"


def test_a_solution_pays_for_one_request_of_its_own(site: Site) -> None:
    token = token_of(httpx.post(f"{site.url}/v1/predict", headers=ALICE))
    paid = {**ALICE, "pow-solution": format_solution(token, solve(token))}
    bob = {**paid, "authorization": "Bearer bob"}
    assert httpx.post(f"{site.url}/v1/other", headers=paid).status_code == 402
    assert httpx.put(f"{site.url}/v1/predict", headers=paid).status_code == 402
    assert httpx.post(f"{site.url}/v1/predict", headers=bob).status_code == 402
    assert httpx.post(f"{site.url}/v1/predict", headers=paid).status_code == 200
    assert httpx.post(f"{site.url}/v1/predict", headers=paid).status_code == 402


def test_the_models_own_refusal_is_its_own(site: Site) -> None:
    with httpx.Client(auth=PowAuth(), headers={"authorization": "Bearer wrong"}) as client:
        response = client.post(f"{site.url}/v1/predict", content=b"me")
    assert (response.status_code, response.content) == (401, b"answer to me")


def test_an_sdk_pays(site: Site) -> None:
    with httpx.Client(auth=PowAuth()) as http:
        client = openai.OpenAI(
            base_url=f"{site.url}/v1", api_key="sk", http_client=http, max_retries=0
        )
        answer = client.post("/raw", body={"n": 1}, cast_to=httpx.Response)
    assert answer.content.startswith(b"answer to")


def test_reports_raise_the_price(site: Site) -> None:
    carol = {"authorization": "Bearer carol"}
    assert site.work(**carol) == BASE
    with httpx.Client(auth=PowAuth(), headers=carol) as client:
        assert client.post(f"{site.url}/v1/predict").status_code == 200
    seen = site.model.seen[-1]
    report = {key: seen.get(f"pow-{key}", "") for key in ("account", "group", "request")}
    reported = httpx.post(
        f"{site.gate}/report",
        json={**report, "evidence": [50.0] * 5},
        headers={"authorization": f"Bearer {SECRET}"},
    )
    assert reported.status_code == 204
    assert site.work(**carol) > 10 * BASE
    assert site.work() == BASE


@pytest.mark.parametrize(("run", "configuration", "_"), PROXIES.values(), ids=PROXIES)
def test_without_a_gate_nothing_passes(
    run: Callable[..., Any], configuration: Path, _: str, tmp_path: Path
) -> None:
    model = Model()
    with served(model) as url:
        behind = int(url.rpartition(":")[2])
        ports = {"p8080": free_port(), "p8402": free_port(), "p8000": behind}
        with run(configuration, tmp_path, **ports) as front:
            assert httpx.post(f"{front}/v1/predict", headers=ALICE).status_code in (502, 503)
    assert not model.seen
