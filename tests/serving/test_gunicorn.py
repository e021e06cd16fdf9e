"""examples/gunicorn_nginx with the real gunicorn and nginx: workers of a host share a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import ROOT
from processes import nginx, program, settings, started
from stores import RedisServer, free_port

from powfast.accounts import SharedName
from powfast.challenge import decode, solve
from powfast.clients.httpx import PowAuth
from powfast.http import challenge_in, format_solution
from powfast.stores import Ledger, open_ledger
from powfast.tariff import EvidenceTariff

BASE = 1000
FOLDER = ROOT / "examples/gunicorn_nginx"
ASK = {"inputs": [[1.0, 2.0], [3.0, 4.0]]}
ALICE = {"authorization": "Bearer alice"}


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/ledger.db"


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    with RedisServer(folder, "--save", "") as server:
        yield server.url


WSGI = ["app:app"]
ASGI = ["-k", "uvicorn.workers.UvicornWorker", "asgi_app:app"]


@pytest.mark.parametrize(
    ("application", "store"), [(WSGI, sqlite), (ASGI, redis)], ids=["wsgi-sqlite", "asgi-redis"]
)
def test_workers_behind_nginx_are_one_gate(
    application: list[str], store: Callable[[Path], Iterator[str]], tmp_path: Path
) -> None:
    port, front = free_port(), free_port()
    command = [program("gunicorn"), "-c", "gunicorn.conf.py", "-b", f"127.0.0.1:{port}"]
    with store(tmp_path) as url:
        given = {"paths": "/v1/", "account": "address proxies=1", "hold_shared": "true"}
        given["max_unpaid_runs"] = "256"
        environ = settings(tmp_path, url, BASE, **given)
        with (
            started([*command, *application], port, environ=environ, folder=FOLDER),
            nginx(FOLDER, tmp_path, p8080=front, p8000=port) as site,
        ):
            ledger = open_ledger(url, EvidenceTariff(base_work=BASE), timeout=60.0)
            with closing(ledger):
                one_gate(site, ledger)


def one_gate(site: str, ledger: Ledger) -> None:
    workers: set[int] = set()

    def until_both(start: int) -> None:
        with httpx.Client(auth=PowAuth(threads=1), base_url=site, timeout=60) as client:
            for x in range(start, start + 1000, 8):
                ask = {"inputs": [[x, 2.0], [3.0, 4.0]]}
                answer = client.post("/v1/predict", json=ask, headers={"connection": "close"})
                assert answer.status_code == 200, answer.text
                assert answer.json()["answers"] == [x + 2.0, 7.0]
                assert answer.headers["pow-receipt"] == f"work={2 * BASE}"
                workers.add(answer.json()["worker"])
                if len(workers) == 2:
                    return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(until_both, range(8)))
    assert len(workers) == 2, "one worker answered everything"

    asked = httpx.post(f"{site}/v1/predict", json=ASK, headers={"x-forwarded-for": "10.0.0.1"})
    token = challenge_in(asked.status_code, asked.headers["www-authenticate"])
    assert token is not None
    account = SharedName("127.0.0.0/24")
    assert decode(token).account == account
    before = ledger.account(account)
    paid = {"pow-solution": format_solution(token, solve(token))}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: httpx.post(f"{site}/v1/predict", json=ASK, headers=paid), range(16))
        )
    # the worker that holds the answer gives it again; the other one computes it once at most, and
    # tells copies to wait meanwhile or, later, to pay
    assert {answer.status_code for answer in answers} <= {200, 402, 409}
    given = [answer.json()["answers"] for answer in answers if answer.status_code == 200]
    assert given
    assert given == [[3.0, 7.0]] * len(given)
    after = ledger.account(account)
    assert before is not None
    assert after is not None
    anew = after.state[0] - before.state[0]  # a copy that came late may have asked once more
    assert anew in (0, 2)
    assert after.balance - before.balance == pytest.approx((2 - anew) * BASE, abs=1.0)
    assert httpx.get(f"{site}/healthz").status_code == 200
