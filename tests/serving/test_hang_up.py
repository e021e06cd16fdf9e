"""A client that hangs up and sends its solution again in the very moment its answer is charged."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from served import served
from service import ALICE, BASE, Service, paid, token_of

from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff


class Late:
    """A ledger in memory, whose third `enter` waits."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger(EvidenceTariff(base_work=BASE))
        self.may_enter = threading.Event()
        self.entered = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    async def enter(self, *given: Any, **more: Any) -> Any:
        self.entered += 1
        if self.entered == 3:
            await asyncio.to_thread(self.may_enter.wait)
        return self.ledger.enter(*given, **more)


def test_a_solution_seen_to_be_spent_before_its_run_is_charged() -> None:
    """It is known between `redeem` and `enter` that the run is paid: the answer is there."""
    ledger = Late()
    service = Service(ledger=ledger, gate={"max_unpaid_runs": 0})
    with served(service.app) as url, ThreadPoolExecutor(2) as pool:
        asked = httpx.post(f"{url}/v1/slow", headers=ALICE)
        headers = paid(token_of(asked))
        first = pool.submit(httpx.post, f"{url}/v1/slow", headers=headers, timeout=60)
        while service.runs < 1:
            time.sleep(0.01)
        again = pool.submit(httpx.post, f"{url}/v1/slow", headers=headers, timeout=60)
        while ledger.entered < 3:
            time.sleep(0.01)
        service.may_go.set()
        assert first.result().status_code == 200
        ledger.may_enter.set()
        assert again.result().status_code == 200, again.result().text
        assert again.result().headers["pow-receipt"].startswith(f"work={BASE}")
    assert service.runs == 1
