"""What an operator hears of newcomers: their pool's price, and when it rises."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from traffic import BASE, KEY, PROBATION, Extraction, application

from powfast.accounts import account_of
from powfast.challenge import Issuer
from powfast.gate import Gate
from powfast.observers import together
from powfast.observers.base import Unobserved
from powfast.observers.logs import Logs
from powfast.observers.metrics import Metrics
from powfast.observers.newcomers import Newcomers
from powfast.servers.asgi import PowMiddleware
from powfast.stores import MemoryLedger


class Heard(Unobserved):
    def __init__(self) -> None:
        self.levels: list[tuple[str, int]] = []

    def event(self, name: str, **fields: Any) -> None:
        assert name == "newcomers"
        self.levels.append((fields["pool"], fields["level"]))


@pytest.mark.parametrize(
    ("prices", "levels"),
    [
        ([1.0, 1.99, 1.0], []),
        ([2.0], [2]),
        ([1.0, 150.0], [2, 10, 100]),
        ([3.0, 1.5, 3.0, 1.01, 2.5], [2]),  # above half: it has not cooled down
        ([3.0, 1.0, 3.0], [2, 2]),
        ([11.0, 6.0, 11.0], [2, 10]),
        ([11.0, 5.0, 11.0], [2, 10, 10]),
        ([11.0, 1.0, 11.0], [2, 10, 2, 10]),
        ([150.0, 51.0, 150.0, 50.0, 150.0], [2, 10, 100, 100]),
    ],
)
def test_a_level_is_heard_of_once_each_time_it_is_passed(
    prices: list[float], levels: list[int]
) -> None:
    heard = Heard()
    newcomers = Newcomers(heard)
    for price in prices:
        newcomers.pay("", price)
        newcomers.pay("another", 1.0)
    assert heard.levels == [("", level) for level in levels]


def test_pools_are_told_apart_and_few_hot_ones_remembered() -> None:
    heard = Heard()
    newcomers = Newcomers(heard)
    for number in range(5000):
        newcomers.pay(str(number), 3.0)
    assert len(heard.levels) == 5000
    assert len(newcomers._passed) < 5000
    newcomers.pay("4999", 3.0)
    assert len(heard.levels) == 5000


async def test_a_pool_that_heats_up_is_logged_counted_and_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics(BASE)
    extraction = Extraction(together(metrics, Logs()))
    with caplog.at_level(logging.INFO, logger="powfast"):
        await extraction.heat()
    record = extraction.ledger.newcomers("web")
    assert record is not None
    price = PROBATION.newcomers_price(record.state)
    assert price > 10
    warnings = [json.loads(each.message) for each in caplog.records if each.levelname == "WARNING"]
    assert [(said["event"], said["pool"], said["level"]) for said in warnings] == [
        ("newcomers", "web", 2),
        ("newcomers", "web", 10),
    ]
    charged = [json.loads(each.message) for each in caplog.records if '"charged"' in each.message]
    assert [said["pool"] for said in charged] == ["web"] * 40
    assert charged[-1]["newcomers"] == pytest.approx(price)
    text = metrics.text().decode()
    assert f'powfast_newcomers_price{{pool="web"}} {charged[-1]["newcomers"]}' in text
    assert 'powfast_newcomers_queries_total{pool="web"} 40.0' in text
    assert 'powfast_newcomers_heated_total{level="10"} 1.0' in text
    extraction.ledger.reset_newcomers("web")
    await extraction.ask(1.0, "Bearer later")
    assert 'powfast_newcomers_price{pool="web"} 1.0' in metrics.text().decode()


async def test_who_has_paid_its_opening_says_nothing_of_newcomers() -> None:
    metrics = Metrics(BASE)
    extraction = Extraction(metrics)
    extraction.ledger.reset(account_of("Bearer old"))
    await extraction.ask(1.0, "Bearer old")
    assert 'pool="web"' not in metrics.text().decode()


def test_the_metrics_name_few_pools() -> None:
    metrics = Metrics(BASE)
    for number in range(1000):
        said = {"work": BASE, "queries": 1, "pool": f"192.0.{number}", "newcomers": 1.0}
        metrics.event("charged", **said)
    metrics.event("charged", work=BASE, queries=1, pool="", newcomers=3.0)
    lines = [line for line in metrics.text().decode().splitlines() if "newcomers_price{" in line]
    assert len(lines) == 33
    assert 'powfast_newcomers_price{pool="other"} 1.0' in lines
    assert 'powfast_newcomers_price{pool=""} 3.0' in lines


async def test_what_a_newcomer_pays_for_its_pool_refuses_nobody() -> None:
    """`refuse_above` is about an account's own price: others' extraction is not held against it."""
    ledger = MemoryLedger(PROBATION)
    gate = Gate(Issuer({"a": KEY}), ledger, max_unpaid_runs=256, refuse_above=10 * BASE)
    transport = httpx.ASGITransport(PowMiddleware(application, gate))
    for number in range(40):
        ledger.charge(f"extractor {number}", "", b"1", bytes(16), [1e5])
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        honest = await client.get("/1.0", headers={"authorization": "Bearer honest"})
        dear = await client.get("/1e9", headers={"authorization": "Bearer extractor"})
    assert honest.status_code == 402
    assert int(honest.json()["work"]) > 10 * BASE
    assert dear.status_code == 403
