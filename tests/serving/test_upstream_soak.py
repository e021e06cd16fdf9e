"""The books of a proxy whose model is killed, slow, silent, and answers by halves.

CI asks 800 times. `POWFAST_SOAK=10000 pytest -s tests/serving/test_upstream_soak.py` asks more
often, and says what happened.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
from conftest import PATIENCE
from service import BASE, token_of
from stores import free_port
from upstreams import proxied

from powfast.accounts import account_of
from powfast.challenge import decode, solve
from powfast.http import format_solution
from powfast.stores import open_ledger
from powfast.tariff import EvidenceTariff

HERE = Path(__file__).parent
REQUESTS = int(os.environ.get("POWFAST_SOAK", "800"))
ACCOUNTS, AT_ONCE = 8, 2
TOKENS_PER_QUERY = 10


class Asker:
    """An account that asks until it has read an answer, and hangs up on some that it has paid."""

    def __init__(self, url: str, name: str, streams: bool) -> None:
        self.url, self.name, self.streams = url, name, streams
        self.seen: Counter[int | str] = Counter()
        self.work = 0
        """Of the solutions that were redeemed."""
        self.read = 0
        """Price of the answers that were read to their end."""

    async def ask(self, client: httpx.AsyncClient, number: int) -> None:
        tokens = random.randrange(1, 100)
        asked = {"n": number, "tokens": tokens, "max_tokens": 1, "stream": self.streams}
        headers, work = {"authorization": f"Bearer {self.name}"}, 0
        has_hung_up = False  # once: a solution whose run has failed is credit, and holds nothing
        while True:
            hangs_up = work and not has_hung_up and random.random() < 0.1
            has_hung_up = bool(hangs_up)
            patience = random.random() * 0.1 if hangs_up else PATIENCE
            try:
                got = await client.post(self.url, json=asked, headers=headers, timeout=patience)
            except httpx.TransportError as error:
                self.seen[type(error).__name__] += 1
                continue
            self.seen[got.status_code] += 1
            self.work += work  # the gate has seen it; what it has seen twice counts once
            work = 0
            if got.status_code == 402:
                self.seen["already redeemed"] += "already-redeemed" in got.text
                token = token_of(got)
                work = decode(token).work
                headers["pow-solution"] = format_solution(token, solve(token))
            elif got.status_code == 200:
                assert f'"n": {number}' in got.text
                self.read += BASE * math.ceil(tokens / TOKENS_PER_QUERY)
                return
            else:
                assert got.status_code in (409, 500, 502, 504), got.text
                await asyncio.sleep(0.05)


async def _killed(command: list[str], done: asyncio.Event) -> int:
    """Run the model until it is done, and kill it meanwhile, again and again."""
    times = 0
    while True:
        model = subprocess.Popen(command)
        try:
            async with asyncio.timeout(4):
                await done.wait()
            return times
        except TimeoutError:
            times += 1
        finally:
            model.send_signal(signal.SIGKILL)
            model.wait()
        await asyncio.sleep(0.2)


async def test_nothing_unpaid_is_read_and_nothing_paid_is_lost(tmp_path: Path) -> None:
    port, done = free_port(), asyncio.Event()
    more = {"upstream_timeout": "1", "tokens_per_query": str(TOKENS_PER_QUERY)}
    model = [sys.executable, str(HERE / "failing_model.py"), str(port)]
    store = f"sqlite:///{tmp_path}/ledger.db"
    with proxied(f"http://127.0.0.1:{port}", tmp_path, store=store, **more) as proxy:
        url = f"{proxy}/v1/chat/completions"
        askers = [Asker(url, f"user-{name}", name % 4 == 0) for name in range(ACCOUNTS)]
        numbers = iter(range(REQUESTS))

        async def asks(asker: Asker) -> None:
            async with httpx.AsyncClient() as client:
                for number in numbers:
                    await asker.ask(client, number)

        killing = asyncio.ensure_future(_killed(model, done))
        await asyncio.gather(*[asks(asker) for asker in askers * AT_ONCE])
        done.set()
        times = await killing
    _compare(askers, times, store)


def _compare(askers: list[Asker], times: int, store: str) -> None:
    """Hold the books against what was read."""
    seen = sum((asker.seen for asker in askers), Counter())
    print(f"\n{REQUESTS} requests, the model killed {times} times: {dict(seen)}")
    ledger = open_ledger(store, EvidenceTariff(BASE), timeout=PATIENCE)
    charged = {}
    for asker in askers:
        record = ledger.account(account_of(f"Bearer {asker.name}"))
        assert record is not None
        charged[asker] = asker.work - record.balance
        print(f"{asker.name}: worked {asker.work}, charged {charged[asker]:.0f}, read {asker.read}")
    ledger.close()
    assert seen[200] == REQUESTS
    assert min(times, seen[502], seen[504], seen[500]) > 0, seen
    for asker in askers:
        assert charged[asker] >= asker.read, "an answer that nobody paid was read"
        if not asker.streams:  # what broke off was read, and is charged
            assert charged[asker] == asker.read, "work was lost"
