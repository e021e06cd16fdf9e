"""A proxy under load: bodies larger than its memory, and a model that is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import count, takewhile
from pathlib import Path

import httpx
from conftest import PATIENCE, missing
from processes import program, settings
from service import BASE, paid, token_of
from stores import free_port
from upstreams import OK, Asked, Scripted, proxied, sends

from powfast.clients.httpx import PowAuth

CHAT = "/v1/chat/completions"


def _memory(process: int) -> int:
    """Resident bytes of a process now."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_large_bodies_need_little_memory(tmp_path: Path) -> None:
    """200 MB each way: neither lies in the proxy, whoever is slow."""
    if not Path("/proc/self/statm").exists():
        missing("no /proc")
    size, received = 200 << 20, []
    big = Scripted()
    piece = b"x" * (1 << 20)

    def takes_and_gives(asked: Asked, peer: socket.socket) -> bool:
        received.append(len(asked.body))
        peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        return sends(peer, *[piece] * (size >> 20))

    big.behave = takes_and_gives
    port = free_port()
    environ = settings(tmp_path, "memory://")
    command = [program("powfast"), "serve", "--upstream", big.url, "--port", str(port)]
    server = subprocess.Popen(command, env=environ, cwd=tmp_path)
    try:
        url = f"http://127.0.0.1:{port}/free"
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/powfast/healthz")
                break
            except httpx.ConnectError:
                assert server.poll() is None
                time.sleep(0.05)
        before, most, count = _memory(server.pid), 0, 0
        body = iter([piece] * (size >> 20))
        with httpx.stream("POST", url, content=body, headers={"content-length": str(size)}) as got:
            for number, read in enumerate(got.iter_raw(1 << 20)):
                count += len(read)
                if number % 20 == 0:
                    time.sleep(0.05)
                    most = max(most, _memory(server.pid) - before)
        assert (count, received) == (size, [size])
        assert most < 24 << 20
    finally:
        server.terminate()
        server.wait()
        big.close()


APP = """
import json
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    said = json.dumps({"echo": json.loads(body), "usage": {"prompt_tokens": 1}}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": said})
"""


async def test_the_model_is_killed_again_and_again(tmp_path: Path) -> None:
    """1000 requests or more: no answer that nobody paid, and what was paid for comes, once."""
    (tmp_path / "model.py").write_text(APP)
    port, total = free_port(), 1000
    command = [sys.executable, "-m", "uvicorn", "model:app", "--port", str(port)]
    command += ["--log-level", "critical"]
    done = asyncio.Event()

    times = 0

    async def kills() -> None:
        nonlocal times
        while not done.is_set():
            model = subprocess.Popen(command, cwd=tmp_path)
            await asyncio.sleep(2.5)
            model.send_signal(signal.SIGKILL)
            model.wait()
            times += 1
            await asyncio.sleep(0.2)

    store = f"sqlite:///{tmp_path}/ledger.db"
    url = f"http://127.0.0.1:{port}"
    statuses: dict[int, int] = {}
    work = 0
    with proxied(url, tmp_path, store=store, workers=2) as proxy:
        killing = asyncio.ensure_future(kills())
        numbers = takewhile(lambda number: number < total or times < 2, count())

        async def asks(name: int) -> None:
            nonlocal work
            headers = {"authorization": f"Bearer user-{name}"}
            auth = PowAuth()
            async with httpx.AsyncClient(auth=auth, headers=headers, timeout=PATIENCE) as client:
                for number in numbers:
                    while True:
                        answer = await client.post(f"{proxy}{CHAT}", json={"n": number})
                        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                        if answer.status_code == 200:
                            break
                        assert answer.status_code in (409, 502), answer.text
                        await asyncio.sleep(0.1)
                    assert answer.json()["echo"] == {"n": number}
            work += auth.spent

        await asyncio.gather(*[asks(name) for name in range(8)])
        done.set()
        await killing
    assert statuses[200] >= total
    assert statuses.get(502, 0) > 0
    assert work >= BASE * statuses[200]  # every answer that was read is paid


def test_a_payment_survives_the_model(tmp_path: Path) -> None:
    """It is redeemed, and the model fails: the same solution is good once it is back."""
    model = Scripted()
    account = {"authorization": "Bearer survivor"}
    with proxied(model.url, tmp_path, held_bytes="0") as url:
        asked = httpx.post(f"{url}{CHAT}", json={}, headers=account)
        solution = {**paid(token_of(asked)), **account}
        model.behave = lambda asked, peer: False
        for _ in range(2):
            assert httpx.post(f"{url}{CHAT}", json={}, headers=solution).status_code == 502
        model.behave = lambda asked, peer: sends(peer, OK)
        answer = httpx.post(f"{url}{CHAT}", json={}, headers=solution)
        assert (answer.status_code, answer.json()) == (200, {})
    model.close()
