"""Clients in Go, Rust and shell against real servers: what docs/protocol.md promises a client."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT
from origins import WORK, Origin, two_origins
from processes import program
from service import KEYS, Service, served

from powfast.challenge import Issuer, token_to_text
from powfast.http import parse_solution

CLIENTS = ROOT / "examples" / "clients"
PREDICT = ("-H", "Content-Type: application/json", "-H", "Authorization: Bearer alice")


def built_go(folder: Path) -> list[str | Path]:
    go, pay = program("go"), folder / "pay-go"
    environment = os.environ | {"GOCACHE": str(folder / "cache")}
    subprocess.run([go, "build", "-o", pay, "."], cwd=CLIENTS / "go", env=environment, check=True)
    unformatted = [program("gofmt"), "-l", CLIENTS / "go"]
    assert subprocess.run(unformatted, capture_output=True, check=True).stdout == b""
    return [pay]


def built_rust(folder: Path) -> list[str | Path]:
    strict = ["--edition=2021", "-O", "-D", "warnings"]
    source, pay = CLIENTS / "rust" / "pay.rs", folder / "pay-rust"
    subprocess.run([program("rustc"), *strict, source, "-o", pay], check=True)
    return [pay]


def shell(folder: Path) -> list[str | Path]:
    program("curl")
    return [program("sh"), CLIENTS / "pay.sh"]


class Client:
    """One of the programs, which take the same options."""

    def __init__(self, name: str, command: list[str | Path]) -> None:
        self.name = name
        self._command = command

    def __call__(self, *arguments: str, max_work: int | None = None) -> Any:
        options: list[str] = []
        environment = dict(os.environ)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        if max_work is not None and self.name == "shell":
            environment["MAX_WORK"] = str(max_work)
        elif max_work is not None:
            options = ["--max-work", str(max_work)]
        return subprocess.run(
            [*self._command, *options, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE,
            check=False,
        )


@pytest.fixture(scope="module", params=[built_go, built_rust, shell])
def client(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Client:
    build = request.param
    return Client(build.__name__.removeprefix("built_"), build(tmp_path_factory.mktemp("client")))


@pytest.fixture
def origins() -> Iterator[tuple[Origin, Origin]]:
    with two_origins() as both:
        yield both


class Asking:
    """Asks with one header, redeems what its issuer made, and notes what it is sent."""

    def __init__(self, asked: str, issuer: Issuer | None = None, status: int = 402) -> None:
        self._start = {"type": "http.response.start", "status": status, "headers": []}
        self._start["headers"] = [(b"www-authenticate", asked.encode())]
        self._issuer = issuer
        self.requests = 0
        self.solutions: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        sent = [value.decode() for name, value in scope["headers"] if name == b"pow-solution"]
        self.solutions += sent
        start = self._start
        if sent and self._issuer is not None:
            self._issuer.redeem(*parse_solution(sent[0]))  # or the answer is 500
            start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": b"answered"})


def asks(token: bytes) -> str:
    return f'PoW challenge="{token_to_text(token)}"'


def test_a_challenge_of_many_parts_is_paid(client: Client) -> None:
    service = Service(gate={"max_unpaid_runs": 0})
    with served(service.app) as url:
        done = client(*PREDICT, "-d", '{"x": 7, "evidence": [1.0]}', url + "/v1/predict")
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"answer":7}', "")
    assert service.runs == 1


def test_an_answer_that_came_to_more_is_paid_as_well(client: Client) -> None:
    service = Service(gate={"max_unpaid_runs": 0})
    with served(service.app) as url:
        done = client(*PREDICT, "-d", '{"x": 7, "evidence": [1.0, 1.0]}', url + "/v1/predict")
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"answer":7}', "")
    assert service.runs == 1


def test_what_is_free_costs_nothing(client: Client) -> None:
    service = Service()
    with served(service.app) as url:
        done = client("-d", '{"x": 7}', *PREDICT, url + "/unguarded")
    assert (done.returncode, done.stdout) == (0, '{"x":7}')


@pytest.mark.parametrize(
    ("work", "parts"), [(1, 1), (2, 1), (100_000, 1), (256, 3), (50_000, 16), (4097, 1024)]
)
def test_every_puzzle_is_solved_whatever_clock_the_server_has(
    client: Client, work: int, parts: int
) -> None:
    issuer = Issuer(KEYS, clock=lambda: 1000.0)  # 1970
    asking = Asking(asks(issuer.issue(work=work, parts=parts)), issuer)
    with served(asking) as url:
        done = client(url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "answered", "")
    assert asking.requests == 2


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("{}", 400),
        ("{}", 499),
        ('Basic realm="a", {}', 401),
        ('DPoW challenge="AAAA", {}', 402),
        ('{}, work="1", {}', 402),
    ],
)
def test_a_challenge_is_found_beside_others(client: Client, asked: str, status: int) -> None:
    issuer = Issuer(KEYS)
    found = asks(issuer.issue(work=WORK)).replace("PoW c", "pOW  C")
    asking = Asking(asked.format(found, asks(issuer.issue(work=2**60))), issuer, status)
    with served(asking) as url:
        assert client(url).stdout == "answered"
    assert len(asking.solutions) == 1


@pytest.mark.parametrize("status", [200, 302, 500])
def test_nothing_is_paid_for_an_answer_that_asks_for_nothing(client: Client, status: int) -> None:
    asking = Asking(asks(Issuer(KEYS).issue(work=WORK)), status=status)
    with served(asking) as url:
        client(url)
    assert (asking.requests, asking.solutions) == (1, [])


@pytest.mark.parametrize(
    ("work", "max_work"), [(2**32 + 1, None), (2**64 - 1, 2**64 - 2), (1001, 1000)]
)
def test_what_is_too_much_is_refused_before_it_is_solved(
    client: Client, work: int, max_work: int | None
) -> None:
    asking = Asking(asks(Issuer(KEYS).issue(work=work)))
    with served(asking) as url:
        done = client(url, max_work=max_work)
    assert (done.returncode, done.stdout, asking.solutions) == (1, "", [])
    default = 2**32 if client.name == "shell" else 2**29
    allowed = default if max_work is None else max_work
    assert f"{work} evaluations, allowed are {allowed}" in done.stderr


@pytest.mark.parametrize("text", ["AAAA", "A", "!", "cG93ZmFzdC9jMQE", "{}===="])
def test_what_is_no_challenge_is_not_solved(client: Client, text: str) -> None:
    whole = token_to_text(Issuer(KEYS).issue(work=WORK))
    asking = Asking(f'PoW challenge="{text.format(whole)}"')
    with served(asking) as url:
        done = client(url)
    assert (done.returncode, asking.solutions) == (1, [])
    assert done.stderr.count("\n") == 1


# the shell's `powfast solve` knows another algorithm, and solves until it has a solution
compiled = pytest.mark.parametrize("client", [built_go, built_rust], indirect=True)


@compiled
def test_another_algorithm_is_named_and_not_solved(client: Client) -> None:
    token = Issuer(KEYS).issue(work=WORK)
    asking = Asking(asks(token[:10] + b"\x03" + token[11:]))
    with served(asking) as url:
        done = client(url)
    assert (done.returncode, asking.solutions) == (1, [])
    assert "algorithm 3" in done.stderr


@compiled
def test_solving_ends_with_the_life_of_the_challenge(client: Client) -> None:
    asking = Asking(asks(Issuer(KEYS, ttl=0.25).issue(work=2**50)))
    with served(asking) as url:
        done = client(url, max_work=2**50)
    assert (done.returncode, asking.solutions) == (1, [])
    assert "not solved while the challenge lived: 250" in done.stderr


@pytest.mark.parametrize(
    ("path", "paid"),
    [
        ("/pay", 1),  # the solution is refused: the second challenge is the caller's
        ("/pay-go/307/other", 1),  # the paid request is redirected to another origin
        ("/pay-go/302/same", 1),
        ("/drop", 1),  # the connection is closed on the solution
        ("/go/307/other", 0),  # the redirect leads to a challenge of another origin
        ("/go/302/other", 0),
    ],
)
def test_a_solution_stays_where_its_challenge_came_from(
    client: Client, origins: tuple[Origin, Origin], path: str, paid: int
) -> None:
    here, there = origins
    done = client("-d", "body", here.url + path)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert (len(here.solutions()), len(there.solutions())) == (paid, 0)


@pytest.mark.parametrize("client", [shell], indirect=True)
def test_curl_follows_no_redirect_with_a_solution(
    client: Client, origins: tuple[Origin, Origin]
) -> None:
    here, there = origins
    assert client("--location", "-d", "body", here.url + "/pay-go/307/other").returncode == 1
    assert (len(here.solutions()), there.seen) == (1, [])
