"""The examples of proxies before `powfast serve`, run: nothing reaches the model unpaid."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from conftest import ROOT
from processes import caddy, envoy, nginx, program, settings, started, traefik
from service import KEYS, Seen, served
from stores import free_port

from powfast.accounts import account_of, address
from powfast.challenge import Issuer, decode, solve
from powfast.clients.httpx import PowAuth
from powfast.gate import Gate
from powfast.http import challenge_in, format_solution, request_digest
from powfast.servers.gateway import Gateway
from powfast.stores import MemoryLedger, open_ledger
from powfast.tariff import EvidenceTariff

BASE = 1000
ALICE = {"authorization": "Bearer alice"}
SECRET = "a-secret-of-the-operator"
HOSTILE = {
    "forwarded": "for=203.0.113.9",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-host": "cheap.example",
    "x-forwarded-method": "GET",
    "x-forwarded-uri": "/free",
    "x-http-method-override": "GET",
    "x-original-url": "/free",
    "x-real-ip": "203.0.113.9",
}
LARGEST = 1 << 20  # bytes of a body, where there is a limit


@dataclass(frozen=True)
class Proxy:
    """What is particular to one; the tests say what they have in common."""

    run: Callable[..., AbstractContextManager[str]]
    status: str = "402"  # of a challenge, as the gate has to say it
    binds_bodies: bool = False
    shows_receipts: bool = False
    too_large: int = 200
    without_gate: int = 503
    retry_after: str | None = "1"


PROXIES = {
    "nginx": Proxy(nginx, status="401", shows_receipts=True, too_large=413),
    "caddy": Proxy(caddy, without_gate=502),
    "traefik": Proxy(traefik, binds_bodies=True, too_large=401, without_gate=500),
    "envoy": Proxy(envoy, binds_bodies=True, shows_receipts=True, too_large=413, retry_after=None),
}


class Model:
    """An ASGI application of somebody else, which tells what reached it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.targets: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append(headers)
        self.targets.append(scope["raw_path"] + b"?" + scope["query_string"])
        status = 401 if headers["authorization"] == "Bearer wrong" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"answer to " + body})


@dataclass
class Site:
    proxy: Proxy
    model: Model
    url: str
    gate: str

    def work(self, **headers: str) -> int:
        response = httpx.post(f"{self.url}/v1/predict", headers={**ALICE, **headers})
        assert response.status_code == 402
        return decode(token_of(response)).work


@dataclass
class Alone:
    proxy: Proxy
    model: Model
    url: str
    gate: int


def token_of(response: httpx.Response) -> bytes:
    token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
    assert token is not None, response.text
    return token


@pytest.fixture(scope="module", params=PROXIES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    proxy = PROXIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    store = f"sqlite:///{folder}/ledger.db"
    environ = settings(folder, store, BASE, report_secret=SECRET, check_status=proxy.status)
    port, front, model = free_port(), free_port(), Model()
    serve = [program("powfast"), "serve", "--port", str(port), "--workers", "2"]
    with ExitStack() as stack:
        gate = stack.enter_context(started(serve, port, environ=environ))
        behind = int(stack.enter_context(served(model)).rpartition(":")[2])
        example, ports = ROOT / "examples" / request.param, {"p8402": port, "p8000": behind}
        url = stack.enter_context(proxy.run(example, folder, p8080=front, **ports))
        yield Site(proxy, model, url, gate)


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
    if site.proxy.run is nginx:
        assert httpx.get(f"{site.url}/pow-check", headers=ALICE).status_code == 404


def test_a_client_pays_and_the_model_answers(site: Site) -> None:
    before = len(site.model.seen)
    with httpx.Client(auth=PowAuth(), headers=ALICE) as client:
        forged = {"pow-account": "bob", "pow-group": "his", "pow-request": "1"}
        response = client.post(f"{site.url}/v1/predict?n=1", content=b"me", headers=forged)
    assert (response.status_code, response.content) == (200, b"answer to me")
    shown = f"work={BASE}, balance=0" if site.proxy.shows_receipts else None
    assert response.headers.get("pow-receipt") == shown
    (seen,) = site.model.seen[before:]
    assert seen["pow-account"] == account_of("Bearer alice")
    assert seen.get("pow-group", "") == ""
    assert re.fullmatch(rf"[0-9a-f]{{32}}\.{BASE}", seen["pow-request"])
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


def test_a_solution_is_bound_to_a_body_that_the_gate_has_seen(site: Site) -> None:
    token = token_of(httpx.post(f"{site.url}/v1/predict", content=b"this", headers=ALICE))
    paid = {**ALICE, "pow-solution": format_solution(token, solve(token))}
    other = httpx.post(f"{site.url}/v1/predict", content=b"that", headers=paid)
    assert other.status_code == (402 if site.proxy.binds_bodies else 200)


def test_how_large_a_body_may_be(site: Site) -> None:
    for size, status in ((LARGEST, 200), (LARGEST + 1, site.proxy.too_large)):
        with httpx.Client(auth=PowAuth(), headers=ALICE) as client:
            response = client.post(f"{site.url}/v1/predict", content=b"x" * size)
        assert response.status_code == status


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


@pytest.fixture(params=PROXIES)
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Alone]:
    """A proxy whose gate is not there yet."""
    proxy, model, gate = PROXIES[request.param], Model(), free_port()
    with served(model) as url:
        ports = {"p8080": free_port(), "p8402": gate, "p8000": int(url.rpartition(":")[2])}
        with proxy.run(ROOT / "examples" / request.param, tmp_path, **ports) as front:
            yield Alone(proxy, model, front, gate)


def test_clients_say_neither_who_they_are_nor_what_they_ask(alone: Alone) -> None:
    gate = Gate(Issuer(KEYS), MemoryLedger(EvidenceTariff(BASE)))
    gateway = Gateway(gate, account=address(proxies=1), status=int(alone.proxy.status))
    heard, told = Seen(gateway.app), []
    with served(heard, port=alone.gate):
        for said in ({}, HOSTILE):
            response = httpx.post(f"{alone.url}/v1/predict?n=1", content=b"x", headers=said)
            told.append(decode(token_of(response)))
    body = b"x" if alone.proxy.binds_bodies else b""
    assert told[0].request == digest("POST", b"/v1/predict?n=1", body, heard)
    assert told[0].account != "203.0.113.0/24"
    assert (told[0].request, told[0].account) == (told[1].request, told[1].account)


def digest(method: str, target: bytes, body: bytes, heard: Seen) -> bytes:
    """What the latest request is, of which a gate has heard these headers."""
    fields = {name.encode(): value.encode() for name, value in heard.headers[-1].items()}
    return request_digest(method, target, body, fields.get, (b"x-forwarded-host",))


@pytest.mark.parametrize(
    "change",
    [
        {"host": "other.example"},
        {"content-type": "text/plain; charset=utf-7"},
        {"content-encoding": "gzip"},
    ],
)
def test_a_solution_is_good_for_one_reading_of_a_request(
    site: Site, change: dict[str, str]
) -> None:
    before, ask = len(site.model.seen), {**ALICE, "content-type": "text/plain"}
    token = token_of(httpx.post(f"{site.url}/v1/predict", content=b"x", headers=ask))
    paid = {**ask, "pow-solution": format_solution(token, solve(token))}
    httpx.post(f"{site.url}/v1/predict", content=b"x", headers={**paid, **change})
    assert len(site.model.seen) == before
    same = httpx.post(f"{site.url}/v1/predict", content=b"x", headers=paid)
    assert same.status_code == 200


@pytest.mark.parametrize("path", ["/v1/%70redict/../x//y", "//v1/x", "/x/../v1/x", "/%761/x"])
def test_the_model_gets_the_path_that_is_paid_for(alone: Alone, path: str) -> None:
    gate = Gate(Issuer(KEYS), MemoryLedger(EvidenceTariff(BASE)))
    heard = Seen(Gateway(gate, status=int(alone.proxy.status)).app)
    with served(heard, port=alone.gate):
        status, headers = asked(alone.url, path)
        assert status in (400, 402, 404)
        assert not alone.model.seen
        token = challenge_in(status, headers.get("www-authenticate"))
        if token is not None:
            solution = format_solution(token, solve(token))
            assert asked(alone.url, path, **{"pow-solution": solution})[0] == 200
            target = alone.model.targets[-1]
            assert decode(token).request == digest("GET", target, b"", heard)


def asked(url: str, path: str, **more: str) -> tuple[int, Any]:
    """Ask for a path as it is: other clients than this one tidy it up."""
    with closing(HTTPConnection(url.removeprefix("http://"))) as connection:
        connection.request("GET", f"{path}?n=%2F&n=+", headers={**ALICE, **more})
        response = connection.getresponse()
        return response.status, response.headers


def test_without_a_gate_nothing_passes(alone: Alone) -> None:
    response = httpx.post(f"{alone.url}/v1/predict", headers=ALICE)
    assert response.status_code == alone.proxy.without_gate
    assert not alone.model.seen


def test_a_gate_without_its_store_says_when_to_come_again(alone: Alone) -> None:
    ledger = open_ledger("redis://127.0.0.1:1", EvidenceTariff(BASE), asynchronous=True)
    gate = Gate(Issuer(KEYS), ledger)
    with served(Gateway(gate, status=int(alone.proxy.status)).app, port=alone.gate):
        response = httpx.post(f"{alone.url}/v1/predict", headers=ALICE)
    assert response.status_code == 503
    assert response.headers.get("retry-after") == alone.proxy.retry_after
    assert not alone.model.seen
