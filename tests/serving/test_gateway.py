"""`powfast serve`: what it answers a proxy, and what a report changes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE
from processes import program, settings, started
from service import BASE, KEYS, served
from starlette.responses import PlainTextResponse
from stores import free_port

from powfast.accounts import account_of, address
from powfast.challenge import Issuer, decode, solve
from powfast.errors import InvalidInput, StoreUnavailable
from powfast.gate import Gate
from powfast.http import challenge_in, format_solution
from powfast.servers.gateway import Gateway
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

SECRET = "a-secret-of-the-operator"
ALICE = {"authorization": "Bearer alice"}
ASK = {"x-forwarded-method": "POST", "x-forwarded-uri": "/v1/predict?n=1", **ALICE}
OPENING = 32_000


def new_gate(ledger: Any = None, **options: Any) -> Gate:
    tariff = EvidenceTariff(base_work=BASE, opening_work=OPENING)
    return Gate(Issuer(KEYS), ledger or MemoryLedger(tariff), **options)


@pytest.fixture
def gate_at() -> Iterator[Callable[..., httpx.Client]]:
    """Serve a gateway with these options; give a client of it."""
    with ExitStack() as stack:

        def serve(gate: Gate | None = None, **options: Any) -> httpx.Client:
            url = stack.enter_context(served(Gateway(gate or new_gate(), **options).app))
            return stack.enter_context(httpx.Client(base_url=url))

        yield serve


def token_of(response: httpx.Response, status: int = 401) -> bytes:
    assert response.status_code == status, response.text
    token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
    assert token is not None
    return token


def paid(token: bytes) -> dict[str, str]:
    return {"pow-solution": format_solution(token, solve(token))}


def work_of(client: httpx.Client, **headers: str) -> int:
    return decode(token_of(client.get("/check", headers={**ASK, **headers}))).work


def opened(client: httpx.Client, **headers: str) -> None:
    """Pay an account's opening, and its first request with it."""
    said = {**ASK, **headers}
    assert client.get(
        "/check", headers={**said, **paid(token_of(client.get("/check", headers=said)))}
    )


Serve = Callable[..., httpx.Client]


# -- what a proxy is told


def test_a_request_passes_when_it_is_paid(gate_at: Serve) -> None:
    client = gate_at()
    asked = client.get("/check", headers=ASK)
    assert asked.headers["cache-control"] == "no-store"
    token = token_of(asked)
    assert decode(token).work == OPENING
    assert decode(token).account == account_of("Bearer alice")
    passed = client.get("/check", headers={**ASK, **paid(token)})
    assert (passed.status_code, passed.content) == (200, b"")
    assert passed.headers["pow-receipt"] == f"work={OPENING}"
    assert passed.headers["pow-account"] == account_of("Bearer alice")
    assert passed.headers["pow-request"] == decode(token).challenge_id.hex()
    assert work_of(client) == BASE


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"x-forwarded-uri": "/v1/predict?n=2"}, "wrong-request"),
        ({"x-forwarded-uri": "/check/v1/predict?n=1"}, "wrong-request"),
        ({"x-forwarded-method": "GET"}, "wrong-request"),
        ({"authorization": "Bearer bob"}, "wrong-account"),
        ({"pow-solution": "a.b"}, "malformed"),
        ({"pow-solution": ""}, "malformed"),
        ({"pow-solution": "é"}, "malformed"),
    ],
)
def test_a_solution_pays_for_its_own_request(
    gate_at: Serve, other: dict[str, str], reason: str
) -> None:
    client = gate_at()
    solution = paid(token_of(client.get("/check", headers=ASK)))
    headers = {**ASK, **solution, **other}
    refused = client.get(
        "/check", headers={name: value.encode() for name, value in headers.items()}
    )
    token_of(refused)  # a fresh one
    assert reason in refused.json()["detail"]


def test_a_solution_passes_one_request(gate_at: Serve) -> None:
    client = gate_at()
    headers = {**ASK, **paid(token_of(client.get("/check", headers=ASK)))}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get("/check", headers=headers), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 15


def test_every_request_is_charged(gate_at: Serve) -> None:
    """A proxy that keeps the body to itself makes all requests look alike."""
    client = gate_at()
    opened(client)
    assert [work_of(client) for _ in range(3)] == [BASE, BASE, BASE]


def test_an_opening_is_owed_until_it_is_paid(gate_at: Serve) -> None:
    client = gate_at()
    assert [work_of(client) for _ in range(3)] == [OPENING] * 3
    opened(client)
    assert work_of(client) == BASE
    assert work_of(client, authorization="Bearer bob") == OPENING


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_envoy_repeats_the_request_below_check(gate_at: Serve, method: str) -> None:
    client = gate_at(status=402)
    path = "/check/v1/predict%2Fa?n=1"
    # what a client forges says nothing where the path does
    forged = {**ALICE, "x-forwarded-uri": "/cheap", "x-forwarded-method": "GET"}
    token = token_of(client.request(method, path, headers=forged, content=b"x"), 402)
    forwarded = {**ALICE, "x-forwarded-method": method, "x-forwarded-uri": "/v1/predict%2Fa?n=1"}
    other = {**forged, **paid(token)}
    for refused in (
        client.request(method, path, headers=other, content=b"y"),
        client.request(method, path + "2", headers=other, content=b"x"),
        client.request(method, path.replace("%2F", "/"), headers=other, content=b"x"),
    ):
        assert "wrong-request" in refused.json()["detail"]
    # the same request, as another proxy would say it
    assert (
        client.request(
            "POST", "/check", headers={**forwarded, **paid(token)}, content=b"x"
        ).status_code
        == 200
    )


def test_check_is_for_proxies(gate_at: Serve) -> None:
    client = gate_at()
    assert client.get("/check").status_code == 400
    assert client.get("/check", headers={"x-forwarded-uri": "/"}).status_code == 400
    for name, value in ASK.items():
        twice = [*ASK.items(), (name, value)]  # a proxy that adds to what the client sent
        assert client.get("/check", headers=twice).status_code == 400
    assert client.get("/").status_code == 404
    assert client.post("/report").status_code == 404
    assert client.get("/metrics").status_code == 404


def test_accounts_are_resolved_from_what_the_proxy_passes_on(gate_at: Serve) -> None:
    client = gate_at(account=address(proxies=1), group=address(proxies=1, ipv4=16))
    challenge = decode(
        token_of(client.get("/check", headers={**ASK, "x-forwarded-for": "10.0.0.1, 198.51.100.7"}))
    )
    assert (challenge.account, challenge.group) == ("198.51.100.0/24", "198.51.0.0/16")


def test_a_trusted_header_says_how_many_queries_there_are(gate_at: Serve) -> None:
    trusting, other = gate_at(queries_header="x-queries"), gate_at()
    opened(trusting)
    opened(other)
    assert work_of(trusting, **{"x-queries": "7"}) == 7 * BASE
    assert work_of(trusting) == BASE
    assert work_of(other, **{"x-queries": "7"}) == BASE
    for wrong in ("0", "-1", "1.5", "1e3", "²", "100001", "9" * 5000, "1, 2"):
        headers = {**ASK, "x-queries": wrong.encode()}
        assert trusting.get("/check", headers=headers).status_code == 400, wrong


def test_bodies_are_bounded(gate_at: Serve) -> None:
    client = gate_at(max_body=10, report_secret=SECRET)
    assert client.post("/check", headers=ASK, content=b"x" * 11).status_code == 413
    assert report(client, x="y" * 11).status_code == 413


# -- when something is away


class Away(MemoryLedger):
    def charge(self, *_: Any) -> int:
        raise StoreUnavailable("the store is away", 3.0)


def test_a_store_that_is_away(gate_at: Serve) -> None:
    ledger = Away(EvidenceTariff(base_work=BASE))
    closed = gate_at(new_gate(ledger), report_secret=SECRET)
    refused = closed.get("/check", headers=ASK)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
    assert report(closed, evidence=[1.0]).status_code == 503
    assert closed.get("/healthz").status_code == 200
    opened = gate_at(new_gate(ledger, on_store_error="open"))
    assert opened.get("/check", headers=ASK).status_code == 200


def test_a_price_above_what_the_server_answers(gate_at: Serve) -> None:
    client = gate_at(new_gate(refuse_above=BASE), queries_header="x-queries")
    opened(client)
    assert client.get("/check", headers={**ASK, "x-queries": "2"}).status_code == 403
    assert work_of(client) == BASE


# -- reports


def report(client: httpx.Client, secret: str = SECRET, **document: Any) -> httpx.Response:
    said = {"account": account_of("Bearer alice"), "request": "1", **document}
    headers = {"authorization": f"Bearer {secret}"}
    return client.post("/report", content=json.dumps(said), headers=headers)


def test_the_price_follows_the_reports(gate_at: Serve) -> None:
    client = gate_at(report_secret=SECRET)
    opened(client)
    assert report(client, evidence=[4.0] * 5).status_code == 204
    dearer = work_of(client)
    assert dearer > 2 * BASE
    assert report(client, evidence=[4.0] * 5).status_code == 204  # the same: counts once
    assert work_of(client) == pytest.approx(dearer, rel=0.2)
    assert report(client, evidence=[4.0] * 5, request="2").status_code == 204
    assert work_of(client) > 2 * dearer
    assert work_of(client, authorization="Bearer bob") == OPENING


@pytest.mark.parametrize("name", ["alice", " a b ", "a%41", "Ünï\ncode", "99.9% sure"])
def test_a_report_names_the_account_as_check_did(gate_at: Serve, name: str) -> None:
    client = gate_at(account=lambda caller: name, group=lambda caller: name, report_secret=SECRET)
    passed = client.get(
        "/check", headers={**ASK, **paid(token_of(client.get("/check", headers=ASK)))}
    )
    said = {key: passed.headers[f"pow-{key}"] for key in ("account", "group", "request")}
    assert report(client, **said, evidence=[50.0] * 5).status_code == 204
    assert work_of(client) > 2 * BASE


@pytest.mark.parametrize("secret", ["x", "a-secret-of-the-operato", SECRET + "x", "é"])
def test_a_report_needs_its_secret(gate_at: Serve, secret: str) -> None:
    client = gate_at(report_secret=SECRET)
    opened(client)
    refused = client.post(
        "/report",
        json={"account": account_of("Bearer alice"), "request": "1", "evidence": [1e6] * 5},
        headers={"authorization": f"Bearer {secret}".encode()},
    )
    assert refused.status_code == 401
    assert work_of(client) == BASE


@pytest.mark.parametrize(
    "document",
    [
        {"account": ""}, {"account": 1}, {"account": None}, {"account": "a" * 256},
        {"account": "\ud800"}, {"group": "\ud800"}, {"group": 1},
        {"request": ""}, {"request": 1}, {"request": "1" * 65}, {"request": "\ud800"},
        {"evidence": None}, {"evidence": [-1.0]}, {"evidence": ["x"]}, {"evidence": [[1.0]]},
        {"evidence": {"a": 1}}, {"evidence": [None]},
    ],
)  # fmt: skip
def test_a_malformed_report_changes_nothing(gate_at: Serve, document: dict[str, Any]) -> None:
    client = gate_at(report_secret=SECRET)
    opened(client)
    refused = report(client, **{"evidence": [1e6] * 5, **document})
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:powfast:invalid-input")
    assert work_of(client) == BASE


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b"{", b"[" * 100_000, b"\xff"])
def test_a_report_is_an_object(gate_at: Serve, body: bytes) -> None:
    client = gate_at(report_secret=SECRET)
    headers = {"authorization": f"Bearer {SECRET}"}
    assert client.post("/report", content=body, headers=headers).status_code == 400


def test_a_secret_has_some_length() -> None:
    with pytest.raises(InvalidInput, match="16"):
        Gateway(new_gate(), report_secret="short")


# -- beside these


def test_health_and_metrics(gate_at: Serve) -> None:
    client = gate_at(metrics=PlainTextResponse("powfast_redeemed_total 0\n"))
    assert client.get("/healthz").text == "ok\n"
    assert "powfast_redeemed" in client.get("/metrics").text


# -- the command


def test_the_command_serves(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "ours.py").write_text("from powfast.accounts import bearer as account")
    given = {"report_secret": SECRET, "metrics": "true", "account": "ours:account"}
    environ = settings(tmp_path, f"sqlite:///{tmp_path}/ledger.db", **given)
    command = [program("powfast"), "serve", "--port", str(port), "--workers", "2"]
    with (
        started(command, port, environ=environ, folder=tmp_path) as url,
        httpx.Client(base_url=url) as client,
    ):
        solution = paid(token_of(client.get("/check", headers=ASK)))
        headers = {**ASK, **solution}
        answers = [httpx.get(f"{url}/check", headers=headers).status_code for _ in range(6)]
        assert sorted(answers) == [200] + [401] * 5
        assert report(client, evidence=[50.0] * 5).status_code == 204
        assert work_of(client) > 2 * BASE
        assert client.get("/healthz").status_code == 200
        for _ in range(6):  # whichever worker says it
            metrics = httpx.get(f"{url}/metrics").text
            assert 'powfast_redeemed_total{outcome="ok"} 1.0' in metrics
            assert 'powfast_redeemed_total{outcome="already-redeemed"} 5.0' in metrics
        assert "server" not in client.get("/healthz").headers


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"report_secret": "short", "ttl": "x"}, ["POWFAST_REPORT_SECRET", "16", "POWFAST_TTL"]),
        ({}, ["memory serves one worker"]),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, given: dict[str, str], said: list[str]
) -> None:
    command = [sys.executable, "-m", "powfast.cli", "serve", "--workers", "2"]
    environ = settings(tmp_path, "memory://", **given)
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert all(word in ended.stderr for word in said)
    assert "short" not in ended.stderr
    assert "Traceback" not in ended.stderr
