"""A proxy under load: bodies larger than its memory, and a model that fails after a payment."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
from conftest import missing
from processes import program, settings
from service import paid, token_of
from stores import free_port
from upstreams import OK, Asked, Scripted, proxied, sends

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
