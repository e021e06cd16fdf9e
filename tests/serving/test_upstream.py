"""`powfast serve --upstream`: a real proxy before model servers that fail in every way."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import PATIENCE
from processes import settings
from service import ALICE, paid, token_of
from upstreams import OK, Asked, Scripted, proxied, raw, sends

from powfast.clients.httpx import PowAuth

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture(scope="module")
def proxy(upstream: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("proxy")
    with proxied(upstream.url, folder, upstream_timeout="2") as url:
        yield url


@pytest.fixture
def model(upstream: Scripted) -> Scripted:
    upstream.asked.clear()
    upstream.behave = lambda asked, peer: sends(peer, OK)
    return upstream


def pays(url: str, account: str = "alice") -> httpx.Client:
    headers = {"authorization": "Bearer " + account.replace(" ", "-")}
    return httpx.Client(base_url=url, auth=PowAuth(), headers=headers)


def test_an_answer_is_paid_before_it_is_read(proxy: str, model: Scripted) -> None:
    asked = httpx.post(f"{proxy}{CHAT}", json={"x": 1}, headers=ALICE)
    assert asked.status_code == 402
    assert asked.json()["type"] == "urn:powfast:payment-required"
    answer = httpx.post(f"{proxy}{CHAT}", json={"x": 1}, headers=paid(token_of(asked)))
    assert (answer.status_code, answer.json()) == (200, {})
    assert "work=" in answer.headers["pow-receipt"]
    assert len(model.asked) == 1


def test_what_generates_is_guarded_and_the_rest_passes(proxy: str, model: Scripted) -> None:
    guarded = [
        "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/v2/rerank",
        "/invocations", "/pooling", "/classify", "/score", "/rerank", "/generate", "/predict",
        "/generate_stream", "/embed", "/embed_all", "/completion", "/infill", "/chat/completions",
        "/api/generate", "/inference/v1/generate", "//v1/x", "/score/", "/v2/models/m/infer",
        "/similarity",
    ]  # fmt: skip
    answers = {path: httpx.post(proxy + path, json={}).status_code for path in guarded}
    assert set(answers.values()) == {402}, answers
    assert httpx.get(f"{proxy}/health").status_code == 200
    assert httpx.get(f"{proxy}/powfast/healthz").text == "ok\n"
    assert httpx.get(f"{proxy}/powfast/metrics").status_code == 404


def test_headers_on_their_way_to_the_model(proxy: str, model: Scripted) -> None:
    sent = [
        ("Host", "models.example"), ("X-Model", "m"), ("X-Model", "n"), ("Keep-Alive", "5"),
        ("Connection", "keep-alive, X-Mine"), ("X-Mine", "secret"), ("TE", "trailers"),
        ("Proxy-Authorization", "Basic eA=="), ("PoW-Solution", "x.y"), ("PoW_Solution", "x"),
        ("X_Forwarded_For", "6.6.6.6"), ("X-Forwarded-For", "10.0.0.1"), ("Forwarded", "for=me"),
        ("Via", "1.0 fred"), ("Expect", "100-continue"), ("Accept-Encoding", "gzip"),
        ("Content-Length", "2"),
    ]  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in sent)
    assert raw(proxy, f"POST /free?a=%20b HTTP/1.1\r\n{head}\r\n{{}}".encode()) == 200
    (asked,) = model.asked
    assert asked.line == "POST /free?a=%20b HTTP/1.1"
    assert sorted((name.lower(), value) for name, value in asked.fields) == [
        ("accept-encoding", "gzip"),
        ("content-length", "2"),
        ("host", f"127.0.0.1:{model.port}"),
        ("via", "1.0 fred"),
        ("via", "1.1 powfast"),
        ("x-forwarded-for", "10.0.0.1, 127.0.0.1"),
        ("x-forwarded-host", "models.example"),
        ("x-forwarded-proto", "http"),
        ("x-model", "m"),
        ("x-model", "n"),
    ]
    assert asked.body == b"{}"


def test_what_is_priced_comes_uncompressed(proxy: str, model: Scripted) -> None:
    with pays(proxy) as client:
        client.post(CHAT, json={"y": 1}, headers={"accept-encoding": "gzip"})
    assert [asked.field("accept-encoding") for asked in model.asked] == [None]
    assert model.asked[0].field("pow-solution") is None
    assert model.asked[0].field("authorization") == "Bearer alice"


def test_headers_on_their_way_back(proxy: str, model: Scripted) -> None:
    head = (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 201 Made\r\nX-A: 1\r\nX-A: 2\r\n"
        b"Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nServer: vllm\r\n"
        b"PoW-Receipt: work=9\r\nDate: yesterday\r\nTransfer-Encoding: chunked\r\n"
        b"Trailer: x-late\r\n\r\n3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n"
    )
    model.behave = lambda asked, peer: sends(peer, head)
    answer = httpx.get(f"{proxy}/free")
    assert (answer.status_code, answer.text) == (201, "abc")
    fields = [field for field in answer.headers.multi_items() if field[0] != "date"]
    assert fields == [
        ("x-a", "1"),
        ("x-a", "2"),
        ("server", "vllm"),
        ("via", "1.1 powfast"),
        ("transfer-encoding", "chunked"),
    ]
    assert answer.headers.get_list("date") != ["yesterday"]
    assert len(answer.headers.get_list("date")) == 1


def test_connections_are_used_again(proxy: str, model: Scripted) -> None:
    httpx.get(f"{proxy}/free")
    before = model.connections
    with httpx.Client() as client:
        assert [client.get(f"{proxy}/free").status_code for _ in range(20)] == [200] * 20
    assert model.connections == before
    time.sleep(4)  # idle for longer than is trusted
    assert httpx.get(f"{proxy}/free").status_code == 200
    assert model.connections == before + 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_closes_after_each_answer(
    proxy: str, model: Scripted, method: str
) -> None:
    """Whether it says so or not: what is safe to repeat is, the rest fails at most once."""
    model.behave = lambda asked, peer: sends(peer, OK, stays=False)
    statuses = [httpx.request(method, f"{proxy}/free").status_code for _ in range(50)]
    assert set(statuses) <= ({200} if method == "GET" else {200, 502})
    assert len(model.asked) == statuses.count(200)


HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
FAILURES = {
    "hangs up": (b"", False, 502, "hung up before it answered"),
    "half a head": (b"HTTP/1.1 200 OK\r\nco", False, 502, "hung up before it answered"),
    "shorter than it says": (HALF, False, 502, "hung up before its answer was whole"),
    "a chunk is missing": (CHUNKED + b"5\r\nab", False, 502, "before its answer was whole"),
    "the last chunk is missing": (CHUNKED + b"2\r\nab\r\n", False, 502, "was whole"),
    "a bad chunk": (CHUNKED + b"xyz\r\nab\r\n", True, 502, "is not HTTP/1.1"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", True, 502, "is not HTTP/1.1"),
    "HTTP/2": (b"\0\0\x12\x04\0\0\0\0\0", True, 502, "is not HTTP/1.1"),
    "two lengths": (OK.replace(b"content-type: a", b"content-length: 3\r\nx: a"), True, 502, "not"),
    "length and chunks": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        True, 502, "is not HTTP/1.1",
    ),
    "a coding": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        True, 502, "coding",
    ),
    "switches": (b"HTTP/1.1 101 S\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", True, 502, "pro"),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, True, 502, "too large"),
    "endless hints": (b"HTTP/1.1 103 E\r\n\r\n" * 100_000, True, 502, "too large"),
    "silent": (b"", True, 504, "silent for 2 s"),
    "falls silent": (HALF, True, 504, "silent for 2 s"),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_costs_nothing_and_says_why(proxy: str, model: Scripted, failure: str) -> None:
    sent, stays, status, said = FAILURES[failure]
    released = threading.Event()

    def fail(asked: Asked, peer: socket.socket) -> bool:
        peer.sendall(sent)
        if stays:
            released.wait(60)
        return False

    model.behave = fail
    try:
        with pays(proxy, failure) as client:
            answer = client.post(CHAT, json={})
    finally:
        released.set()
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert "127.0.0.1" not in answer.text
    assert str(model.port) not in answer.text
    assert "pow-receipt" not in answer.headers
    assert len(model.asked) == 1
    model.behave = lambda asked, peer: sends(peer, OK)  # the next exchange is none the wiser
    with pays(proxy, failure) as client:
        assert client.post(CHAT, json={}).json() == {}


@pytest.mark.parametrize("late", [0.0, 0.1])
@pytest.mark.parametrize("forged", [HALF, OK.replace(b"{}", b"[]"), b"HTTP/1.1 200 OK\r\nx:", b"x"])
def test_more_than_it_says_is_nobodys(
    proxy: str, model: Scripted, forged: bytes, late: float
) -> None:
    def says_more(asked: Asked, peer: socket.socket) -> bool:
        peer.sendall(OK if late else OK + forged)
        time.sleep(late)
        return sends(peer, forged if late else b"")

    model.behave = says_more
    with httpx.Client() as client:
        for _ in range(4):
            assert client.get(f"{proxy}/free").text == "{}"
            time.sleep(2 * late)


def test_an_answer_that_ends_with_its_connection(proxy: str, model: Scripted) -> None:
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it"
    model.behave = lambda asked, peer: sends(peer, whole, stays=False)
    assert httpx.get(f"{proxy}/free").text == "all of it"


@pytest.mark.parametrize(
    ("method", "head", "status"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 5\r\n\r\n", 304),
    ],
)
def test_answers_without_a_body(
    proxy: str, model: Scripted, method: str, head: bytes, status: int
) -> None:
    model.behave = lambda asked, peer: sends(peer, head)
    for _ in range(3):
        answer = httpx.request(method, f"{proxy}/free")
        assert (answer.status_code, answer.content) == (status, b"")


def test_half_of_what_has_begun_is_not_taken_for_all(proxy: str, model: Scripted) -> None:
    model.behave = lambda asked, peer: sends(peer, CHUNKED + b"2\r\nab\r\n", stays=False)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{proxy}/free")


def test_it_says_that_the_model_is_away(tmp_path: Path) -> None:
    closed = Scripted()
    closed.close()
    with proxied(closed.url, tmp_path) as url, pays(url) as client:
        answer = client.post(CHAT, json={})
    assert answer.status_code == 502
    assert answer.json()["detail"] == "the model server cannot be reached"


def test_an_upstream_402_passes_untouched(proxy: str, model: Scripted) -> None:
    """x402: the same request is sent again with money, which is another request to the gate."""
    asks = b'{"x402Version":1,"accepts":[]}'
    head = (
        b"HTTP/1.1 402 Payment Required\r\npayment-required: eyJ4\r\ncontent-length: %d\r\n\r\n%b"
    )
    refused = head % (len(asks), asks)

    def sells(asked: Asked, peer: socket.socket) -> bool:
        return sends(peer, OK if asked.field("x-payment") else refused)

    model.behave = sells
    with pays(proxy, "buyer") as client:
        asked = client.post(CHAT, json={"x": 402})
        assert (asked.status_code, asked.content) == (402, asks)
        assert asked.headers["payment-required"] == "eyJ4"
        assert "www-authenticate" not in asked.headers
        bought = client.post(CHAT, json={"x": 402}, headers={"x-payment": "money"})
        assert (bought.status_code, bought.json()) == (200, {})


@pytest.mark.parametrize(
    "upstream",
    ["", "x", "localhost:8000", "ftp://x", "http://", "http://u:p@x", "http://x?a", "http://x:y"],
)
def test_settings_that_are_wrong_are_said_before_it_starts(tmp_path: Path, upstream: str) -> None:
    command = [sys.executable, "-m", "powfast.cli", "serve", "--upstream", upstream]
    given = {"upstream_timeout": "0", "upstream_connections": "0", "tokens_per_query": "0"}
    environ = settings(tmp_path, "memory://", **given)
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    for name in ("UPSTREAM", *map(str.upper, given)):
        assert f"POWFAST_{name}: " in ended.stderr
    assert "u:p" not in ended.stderr


def test_the_paths_are_the_operators_choice(model: Scripted, tmp_path: Path) -> None:
    """The model server's own path stands before every target."""
    with proxied(f"{model.url}/base/", tmp_path, paths="/mine") as url:
        assert httpx.post(f"{url}/v1/chat/completions").status_code == 200
        assert model.asked[-1].line == "POST /base/v1/chat/completions HTTP/1.1"
        assert httpx.post(f"{url}/mine").status_code == 402
