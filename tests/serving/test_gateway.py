"""`powfast serve`: what it answers a proxy, and what a report changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_service import (
    ASK,
    FIRST,
    REQUEST,
    SECRET,
    new_gate,
    opened,
    paid,
    record,
    report,
    token_of,
    work_of,
)
from service import ALICE, BASE, served
from starlette.responses import PlainTextResponse

from powfast.accounts import account_of, address
from powfast.challenge import decode
from powfast.errors import InvalidInput, StoreUnavailable
from powfast.gate import Gate
from powfast.servers.gateway import Gateway
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

INVALID = "urn:powfast:invalid-input"
NO_COUNTS = (
    "0", "-1", "+5", "5.", "1.5", "1e3", "1_0", "²", "٣", "0x5", "5, 6", "5,",
    "00000012000000", "05", "9" * 5007, "1" + "0" * 9,
)  # fmt: skip


@pytest.fixture
def gate_at() -> Iterator[Callable[..., httpx.Client]]:
    """Serve a gateway with these options; give a client of it."""
    with ExitStack() as stack:

        def serve(gate: Gate | None = None, **options: Any) -> httpx.Client:
            url = stack.enter_context(served(Gateway(gate or new_gate(), **options).app))
            return stack.enter_context(httpx.Client(base_url=url))

        yield serve


Serve = Callable[..., httpx.Client]


# -- what a proxy is told


def test_a_request_passes_when_it_is_paid(gate_at: Serve) -> None:
    client = gate_at()
    asked = client.get("/check", headers=ASK)
    assert asked.headers["cache-control"] == "no-store"
    token = token_of(asked)
    assert decode(token).work == FIRST
    assert decode(token).account == account_of("Bearer alice")
    passed = client.get("/check", headers={**ASK, **paid(token)})
    assert (passed.status_code, passed.content) == (200, b"")
    assert passed.headers["pow-receipt"] == f"work={FIRST}, balance=0"
    assert passed.headers["pow-account"] == account_of("Bearer alice")
    assert passed.headers["pow-request"] == f"{decode(token).challenge_id.hex()}.{BASE}"
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
    gate = new_gate()
    client = gate_at(gate)
    opened(client)
    for queries in (2, 3):
        tokens = [token_of(client.get("/check", headers=ASK)) for _ in range(3)]
        assert [decode(token).work for token in tokens] == [BASE] * 3
        assert record(gate).state[0] == queries - 1  # unpaid, it is not charged
        assert client.get("/check", headers={**ASK, **paid(tokens[0])}).status_code == 200
        assert record(gate).state[0] == queries


def test_an_opening_is_owed_until_it_is_paid(gate_at: Serve) -> None:
    client = gate_at()
    assert [work_of(client) for _ in range(3)] == [FIRST] * 3
    opened(client)
    assert work_of(client) == BASE
    assert work_of(client, authorization="Bearer bob") == FIRST


def test_credit_passes_requests(gate_at: Serve) -> None:
    """What was too much, or paid for something else, is not lost."""
    client = gate_at()
    others = [{**ASK, "x-forwarded-uri": f"/v1/{i}"} for i in range(3)]
    solutions = [paid(token_of(client.get("/check", headers=other))) for other in others]
    for number, (other, solution) in enumerate(zip(others, solutions, strict=True)):
        passed = client.get("/check", headers={**other, **solution})
        left = number * (FIRST - BASE)
        assert passed.headers["pow-receipt"] == f"work={FIRST}, balance={left}"
    passed = client.get("/check", headers=ASK)
    assert passed.headers["pow-receipt"] == f"work=0, balance={left - BASE}"
    assert passed.headers["pow-request"].endswith(f".{BASE}")


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
    for wrong in NO_COUNTS:
        headers = {**ASK, "x-queries": wrong.encode()}
        refused = trusting.get("/check", headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (400, INVALID), wrong
    twice = [*ASK.items(), ("x-queries", "5"), ("x-queries", "6")]
    assert trusting.get("/check", headers=twice).status_code == 400
    many = trusting.get("/check", headers={**ASK, "x-queries": "10001"})
    assert (many.status_code, many.json()["type"]) == (413, "urn:powfast:too-many-queries")
    assert "split" in many.json()["detail"]


async def test_no_space_stands_around_a_count() -> None:
    """HTTP strips it; another server may not."""
    transport = httpx.ASGITransport(Gateway(new_gate(), queries_header="x-queries").app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
        for wrong in (" 5", "5 ", "\t5", "5\n", "5\n6", "\xa05"):
            headers = [(k.encode(), v.encode()) for k, v in ASK.items()]
            headers.append((b"x-queries", wrong.encode("latin-1")))
            assert (await client.get("/check", headers=headers)).status_code == 400, wrong


# -- what was paid is what passes


def dear(client: httpx.Client, headers: dict[str, str]) -> int:
    """The work that is asked for a request that does not pass, whatever comes with it."""
    refused = client.get("/check", headers=headers)
    assert "wrong-request" in refused.json()["detail"]
    return decode(token_of(refused)).work


def test_who_pays_for_one_query_passes_one(gate_at: Serve) -> None:
    client = gate_at(queries_header="x-queries")
    opened(client)
    one = paid(token_of(client.get("/check", headers={**ASK, "x-queries": "1"})))
    for queries in ("100000", "10001"):
        many = client.get("/check", headers={**ASK, **one, "x-queries": queries})
        assert many.status_code == 413
    assert dear(client, {**ASK, **one, "x-queries": "10000"}) >= 10_000 * BASE
    assert dear(client, {**ASK, **one}) == BASE  # not even as the request that says nothing
    assert client.get("/check", headers={**ASK, **one, "x-queries": "1"}).status_code == 200


def test_a_dear_request_is_asked_for_its_own_price(gate_at: Serve) -> None:
    """Whatever else its account has paid meanwhile: a cheap challenge settles nothing."""
    gate = new_gate()
    client = gate_at(gate, queries_header="x-queries")
    dears = [{**ASK, "x-forwarded-uri": f"/v1/{i}", "x-queries": "2000"} for i in range(3)]
    tokens = [token_of(client.get("/check", headers=each)) for each in dears]
    assert min(decode(token).work for token in tokens) >= FIRST + 1999 * BASE
    opened(client)
    for each in dears:
        one = {**each, "x-queries": "1"}
        cheap = paid(token_of(client.get("/check", headers=one)))
        refused = client.get("/check", headers={**each, **cheap})
        assert decode(token_of(refused)).work >= 2000 * BASE
    assert record(gate).state[0] == 1  # nothing has passed


def test_a_solution_is_good_for_the_host_and_the_headers_that_are_bound(gate_at: Serve) -> None:
    client = gate_at(bind=("X-Model",))
    ask = {**ASK, "host": "a.example", "x-forwarded-host": "a.example", "x-model": "small"}
    changes: list[dict[str, str]] = [
        {"host": "b.example"},
        {"x-forwarded-host": "b.example"},
        {"x-model": "large"},
        {"content-type": "text/plain"},
        {"content-encoding": "gzip"},
    ]
    opened(client)
    for change in changes:
        solution = paid(token_of(client.get("/check", headers=ask)))
        assert dear(client, {**ask, **solution, **change}) == BASE
    for name in ("x-forwarded-host", "x-model"):
        without = {key: value for key, value in ask.items() if key != name}
        assert dear(client, {**without, **solution}) == BASE
        assert dear(client, {**without, name: "", **solution}) == BASE
    assert client.get("/check", headers={**ask, **solution, "x-other": "b"}).status_code == 200


# -- bounds


def test_bodies_are_bounded(gate_at: Serve) -> None:
    client = gate_at(max_body=10, report_secret=SECRET)
    assert client.post("/check", headers=ASK, content=b"x" * 11).status_code == 413
    assert report(client, REQUEST, x="y" * 11).status_code == 413


# -- when something is away


class Away(MemoryLedger):
    def enter(self, *_: Any) -> Any:
        raise StoreUnavailable("db.example:6379 is away", 3.0)

    charge = report = enter


def test_a_store_that_is_away(gate_at: Serve) -> None:
    ledger = Away(EvidenceTariff(base_work=BASE))
    closed = gate_at(new_gate(ledger), report_secret=SECRET)
    refused = closed.get("/check", headers=ASK)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
    assert "example" not in refused.text
    assert report(closed, REQUEST, evidence=[1.0]).status_code == 503
    assert closed.get("/healthz").status_code == 200
    opened = gate_at(new_gate(ledger, on_store_error="open"))
    assert opened.get("/check", headers=ASK).status_code == 200


def test_a_price_above_what_the_server_answers(gate_at: Serve) -> None:
    client = gate_at(new_gate(refuse_above=BASE), queries_header="x-queries")
    opened(client)
    assert client.get("/check", headers={**ASK, "x-queries": "2"}).status_code == 403
    assert work_of(client) == BASE


# -- reports


def test_a_report_leaves_a_debt_that_is_asked_for_first(gate_at: Serve) -> None:
    gate = new_gate()
    client = gate_at(gate, report_secret=SECRET)
    first = opened(client).headers["pow-request"]
    assert report(client, first, evidence=[8.0] * 5).status_code == 204
    debt = -record(gate).balance
    prices, state = gate.ledger.tariff.work([1.0, *[8.0] * 5])
    assert debt == pytest.approx(prices[1:].sum() - BASE)
    assert report(client, first, evidence=[8.0] * 5).status_code == 204  # it counts once
    assert record(gate).balance == -debt

    # whatever is asked next, one answer or another: the debt, and the price of the moment
    moment = float(np.mean(state[1:])) * BASE
    for other in (ASK, {**ASK, "x-forwarded-uri": "/v1/other"}):
        token = token_of(client.get("/check", headers=other))
        assert decode(token).work == gate.ledger.tariff.publish(debt + moment)
        assert client.get("/check", headers=other).status_code == 401
    assert work_of(client, authorization="Bearer bob") == FIRST
    passed = client.get("/check", headers={**other, **paid(token)})
    assert passed.status_code == 200
    assert float(passed.headers["pow-request"].partition(".")[2]) > 10 * BASE
    assert record(gate).balance >= 0


def test_an_ordinary_report_costs_nothing(gate_at: Serve) -> None:
    gate = new_gate()
    client = gate_at(gate, report_secret=SECRET)
    passed = opened(client)
    assert report(client, passed.headers["pow-request"], evidence=[1.0]).status_code == 204
    assert record(gate).balance == pytest.approx(0, abs=1e-6)
    assert record(gate).state[0] == 2
    assert work_of(client) == BASE


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
        json={"account": account_of("Bearer alice"), "request": REQUEST, "evidence": [1e6] * 5},
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
        {"request": "0" * 32}, {"request": REQUEST + "0" * 24}, {"request": "-" + REQUEST},
        {"request": "0" * 32 + ".-1"}, {"request": "0" * 32 + ".1e9"}, {"request": REQUEST + "\n"},
        {"request": "0" * 32 + ".²"},
        {"evidence": None}, {"evidence": [-1.0]}, {"evidence": ["x"]}, {"evidence": [[1.0]]},
        {"evidence": {"a": 1}}, {"evidence": [None]},
    ],
)  # fmt: skip
def test_a_malformed_report_changes_nothing(gate_at: Serve, document: dict[str, Any]) -> None:
    client = gate_at(report_secret=SECRET)
    opened(client)
    refused = report(client, **{"request": REQUEST, "evidence": [1e6] * 5, **document})
    assert (refused.status_code, refused.json()["type"]) == (400, INVALID)
    assert work_of(client) == BASE


def test_a_report_of_too_many_queries_changes_nothing(gate_at: Serve) -> None:
    client = gate_at(report_secret=SECRET)
    opened(client)
    refused = report(client, request=REQUEST, evidence=[1e6] * 10_001)
    assert refused.status_code == 413
    assert "at most 10000" in refused.json()["detail"]
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
