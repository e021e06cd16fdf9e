"""What gets past a careless proxy: framing, spellings of a path, forged headers; and hang-ups."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from conftest import PATIENCE
from processes import program, started
from service import paid, token_of
from stores import free_port
from upstreams import OK, Asked, Scripted, proxied, raw, sends

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def model() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture(scope="module")
def proxy(model: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxied(model.url, tmp_path_factory.mktemp("proxy"), metrics="true") as url:
        yield url


@pytest.mark.parametrize(
    "target",
    [
        "/x/../v1/chat/completions", "/x/%2e%2e/v1/chat/completions", "/./v1/chat/completions",
        "/%2e/v1/chat/completions", "/x/..%2fv1/chat/completions", "/v1%252fchat/completions",
        "/%2576%2531/chat", "/V1/chat/completions", "/Invocations", "/v1;a=b/chat/completions",
        "/x;/../v1/chat", "\\v1\\chat\\completions", "/\\v1/chat", "/x%5c..%5cv1/chat",
        "http://127.0.0.1/v1/chat/completions", "//127.0.0.1/../v1/chat", "/v1/chat/..", "/x/.",
        "/%00/v1/chat", "/x%0d%0a/v1/chat", "*", "v1/chat/completions", "/v1#/../health", "/%",
        "/v%31/chat/completions", "/%76%31/chat/completions", "//v1//chat/completions", "/v1/",
        "/invocations", "/invocations/", "/v1?x", "/invocations?a=/health",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_past(proxy: str, model: Scripted, target: str) -> None:
    model.asked.clear()
    request = f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}"
    status = raw(proxy, request.encode())
    # what ran was charged, and is withheld
    assert status == 402 or (status == 400 and not model.asked)


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 2\r\ntransfer-encoding: chunked", "content-length: 2\r\ncontent-length: 3",
        "transfer-encoding: gzip, chunked", "transfer-encoding: xchunked", "content-length: +2",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked", "content-length: 0x2",
        "content-length: 2\r\nexpect: 200-maybe", "transfer-encoding : chunked", "x\0y: z",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/free", CHAT])
def test_framing_that_contradicts_itself_is_refused(
    proxy: str, model: Scripted, head: str, path: str
) -> None:
    model.asked.clear()
    smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    request = f"POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n0\r\n\r\n{smuggled}"
    assert raw(proxy, request.encode()) == 400
    httpx.get(f"{proxy}/free")
    assert [asked.line for asked in model.asked] == ["GET /free HTTP/1.1"]


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_are_not_passed_on(proxy: str, model: Scripted, method: str) -> None:
    model.asked.clear()
    assert raw(proxy, f"{method} /free HTTP/1.1\r\nhost: x\r\n\r\n".encode()) == 400
    assert model.asked == []


@pytest.mark.parametrize("path", ["/free", CHAT])
@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "CONTENT-TYPE", "content-encoding", "x-payment"]
)
def test_what_a_solution_is_bound_to_does_not_stay_behind(
    proxy: str, model: Scripted, name: str, path: str
) -> None:
    model.asked.clear()
    head = f"host: x\r\nconnection: close, {name}\r\n{name}: x\r\ncontent-length: 0\r\n\r\n"
    assert raw(proxy, f"POST {path} HTTP/1.1\r\n{head}".encode()) == 400
    assert model.asked == []


@pytest.mark.parametrize(
    ("method", "said", "status", "passed"),
    [
        ("OPTIONS", "0", 204, None),
        ("OPTIONS", "1", 200, "0"),
        ("OPTIONS", "12", 200, "11"),
        ("OPTIONS", "-1", 200, "-1"),
        ("GET", "0", 200, "0"),
    ],
)
def test_max_forwards(
    proxy: str, model: Scripted, method: str, said: str, status: int, passed: str | None
) -> None:
    """RFC 9110, 7.6.2: it counts for OPTIONS (and TRACE) alone."""
    model.asked.clear()
    assert (
        httpx.request(method, f"{proxy}/free", headers={"max-forwards": said}).status_code == status
    )
    seen = [asked.field("max-forwards") for asked in model.asked]
    assert seen == ([] if passed is None else [passed])


@pytest.mark.parametrize("path", ["/v1/realtime", "/free"])
def test_no_connection_is_upgraded(proxy: str, model: Scripted, path: str) -> None:
    model.asked.clear()
    socket_head = (
        f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert raw(proxy, socket_head.encode()) == 403
    assert model.asked == []
    plain = "GET /free HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\n"
    plain += "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
    assert raw(proxy, plain.encode()) == 200
    (asked,) = model.asked
    assert asked.field("upgrade") is asked.field("http2-settings") is None


def test_a_body_that_is_promised_and_does_not_come(proxy: str, model: Scripted) -> None:
    """The half that came ends its connection: it is not the beginning of somebody else's."""
    host, port = proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(b"POST /free HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
        time.sleep(0.2)
    for _ in range(5):
        assert httpx.post(f"{proxy}/free", content=b"mine").status_code == 200
        assert model.asked[-1].body == b"mine"


def test_what_is_streamed_to_the_model_and_back(proxy: str, model: Scripted) -> None:
    def echo(asked: Asked, peer: socket.socket) -> bool:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(asked.body)
        return sends(peer, head, asked.body)

    model.behave = echo
    try:
        pieces = [b"a" * 100_000, b"b" * 100_000, b"c"]
        answer = httpx.post(f"{proxy}/free", content=iter(pieces))
        assert answer.content == b"".join(pieces)
        assert model.asked[-1].field("transfer-encoding") == "chunked"
        answer = httpx.post(f"{proxy}/free", content=b"".join(pieces))
        assert answer.content == b"".join(pieces)
        assert model.asked[-1].field("content-length") == "200001"
    finally:
        model.behave = lambda asked, peer: sends(peer, OK)


def test_pieces_arrive_as_they_are_made(proxy: str, model: Scripted) -> None:
    go_on = threading.Event()

    def slowly(asked: Asked, peer: socket.socket) -> bool:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        peer.sendall(head + b"5\r\nfirst\r\n")
        go_on.wait(PATIENCE)
        return sends(peer, b"6\r\nsecond\r\n0\r\n\r\n")

    model.behave = slowly
    try:
        with httpx.stream("GET", f"{proxy}/free") as answer:
            pieces = answer.iter_bytes()
            assert next(pieces) == b"first"
            go_on.set()
            assert b"".join(pieces) == b"second"
    finally:
        go_on.set()
        model.behave = lambda asked, peer: sends(peer, OK)


def test_an_exchange_ends_with_its_client(proxy: str, model: Scripted) -> None:
    """Where nobody pays: an endless answer does not go on for nobody."""
    ended = threading.Event()

    def endless(asked: Asked, peer: socket.socket) -> bool:
        peer.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                peer.sendall(b"1\r\nx\r\n")
                time.sleep(0.01)
        except OSError:
            ended.set()
        return False

    model.behave = endless
    try:
        with httpx.stream("GET", f"{proxy}/free") as answer:
            next(answer.iter_bytes())
        assert ended.wait(PATIENCE)
    finally:
        model.behave = lambda asked, peer: sends(peer, OK)


def test_who_hangs_up_and_has_paid_gets_the_answer(proxy: str, model: Scripted) -> None:
    """A charged answer is read to its end, and held for the same solution."""
    model.asked.clear()
    asked = httpx.post(f"{proxy}{CHAT}", json={"lost": 1}, headers=LOSER)
    solution = {**paid(token_of(asked)), **LOSER}
    head = "".join(f"{name}: {value}\r\n" for name, value in solution.items())
    content = httpx.Request("POST", proxy, json={"lost": 1}).content.decode()
    request = f"POST {CHAT} HTTP/1.1\r\nhost: {proxy.removeprefix('http://')}\r\n{head}"
    request += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n{content}"
    host, port = proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(request.encode())  # and nothing is read
    again = httpx.post(f"{proxy}{CHAT}", json={"lost": 1}, headers=solution)
    while again.status_code == 409:
        time.sleep(0.1)
        again = httpx.post(f"{proxy}{CHAT}", json={"lost": 1}, headers=solution)
    assert (again.status_code, again.json()) == (200, {})
    assert len(model.asked) == 1


LOSER = {"authorization": "Bearer loser"}


PROXY_PASS = """
events {{}}
http {{
  access_log off;
  {temporary}
  upstream model {{ server 127.0.0.1:{model}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location / {{ proxy_pass http://model; }}
  }}
}}
"""


@pytest.fixture(scope="module")
def beside(model: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in kinds)
    text = PROXY_PASS.format(temporary=temporary, model=model.port, port=port)
    (folder / "nginx.conf").write_text(text)
    options = f"user root; daemon off; pid {folder}/nginx.pid; error_log stderr;"
    command = [program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-g", options]
    with started(command, port, environ=dict(os.environ), folder=folder) as url:
        yield url


OURS = {"via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "host", "connection"}


@pytest.mark.parametrize(
    "head",
    [
        "", "x-a: 1\r\nx-a: 2\r\n", "x_a: 1\r\n", "cookie: a=b\r\ncookie: c=d\r\n",
        "x-empty:\r\n", "accept: */*\r\naccept-encoding: gzip, br\r\n", "x-utf8: caf\u00e9\r\n",
        "range: bytes=0-1\r\n", "x-spaces:   a  b   \r\n", "authorization: Bearer x\r\n",
        "te: trailers\r\n", "x-tab: a\tb\r\n", "expect: 100-continue\r\n", "keep-alive: 5\r\n",
        'if-none-match: "x"\r\n',
    ],
)  # fmt: skip
def test_headers_reach_the_model_as_behind_nginx(
    proxy: str, beside: str, model: Scripted, head: str
) -> None:
    model.asked.clear()
    request = "POST /free?q=1&r=%2F HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close"
    request += f"\r\n{head}\r\n{{}}"
    answers = [raw(url, request.encode("latin-1")) for url in (beside, proxy)]
    assert answers == [200, 200]
    theirs, ours = model.asked
    assert ours.line == theirs.line
    assert ours.body == theirs.body

    def fields(asked: Asked) -> list[tuple[str, str]]:
        dropped = OURS | {"te", "keep-alive"}  # nginx passes these two on, against RFC 9110 7.6.1
        return sorted((k.lower(), v) for k, v in asked.fields if k.lower() not in dropped)

    assert fields(ours) == fields(theirs)
