"""What metrics, logs and traces say of real traffic, and what they never say."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from traffic import ANSWER, BASE, Traffic

from powfast.observers import together
from powfast.observers.base import Unobserved
from powfast.observers.logs import Logs
from powfast.observers.metrics import Metrics
from powfast.observers.tracing import Tracing
from powfast.stores.held import LARGEST_SHARE, OVERHEAD


class Watched:
    """All three observers of one service, and what they wrote."""

    def __init__(self, logs: pytest.LogCaptureFixture) -> None:
        self.logs = logs
        self.metrics = Metrics(BASE)
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.observer = together(self.metrics, Logs(), Tracing(provider))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def samples(self) -> dict[str, float]:
        """Samples by name, the sorted values of their labels after it."""
        families = text_string_to_metric_families(self.metrics.text().decode())
        return {
            " ".join(
                [sample.name, *(value for _, value in sorted(sample.labels.items()))]
            ): sample.value
            for family in families
            for sample in family.samples
        }

    @property
    def events(self) -> list[dict[str, Any]]:
        records = [record for record in self.logs.records if record.name == "powfast"]
        return [json.loads(record.getMessage()) for record in records]

    @property
    def everything(self) -> str:
        lines = [self.metrics.text().decode(), self.logs.text]
        lines += [span.to_json() for span in self.spans]
        return "\n".join(lines)


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    with caplog.at_level(logging.DEBUG):
        yield Watched(caplog)


async def test_the_metrics_count_what_happened(watched: Watched) -> None:
    traffic = Traffic(watched.observer)
    await traffic.all_kinds()
    samples = watched.samples
    paid = (1 + 2 + 3) * BASE
    assert samples["powfast_redeemed_total ok"] == 3
    assert samples["powfast_work_redeemed_total"] == paid
    assert samples["powfast_redeemed_total again"] == 1
    assert samples["powfast_redeemed_total malformed-token"] == 1
    assert samples["powfast_redeemed_total wrong-request"] == 1
    assert samples["powfast_challenges_issued_total"] == 7
    assert samples["powfast_work_issued_total"] > paid
    assert samples["powfast_requests_charged_total"] == 8
    assert samples["powfast_queries_charged_total"] == 1 + 2 + 3 + 1 + 1 + 1 + 1 + 2
    assert samples["powfast_price_count"] == 8
    assert samples["powfast_price_bucket 2.0"] >= 3
    assert samples["powfast_refused_total too-many-queries"] == 1
    assert samples["powfast_refused_total price-too-high"] == 1
    assert samples["powfast_refused_total store-unavailable"] == 1
    assert samples["powfast_store_errors_total closed enter"] == 1
    assert samples["powfast_abandoned_total"] == 3
    assert samples["powfast_held_answers"] == 1
    assert samples["powfast_verify_seconds_count"] == 6
    assert samples["powfast_gate_seconds_count"] == 15
    assert samples["powfast_ledger_seconds_count"] > 6


async def test_what_waits_is_measured(watched: Watched) -> None:
    traffic = Traffic(watched.observer)
    await traffic.ask("/1")
    await traffic.ask("/1,1")
    assert watched.samples["powfast_held_answers"] == 2
    assert watched.samples["powfast_held_bytes"] == 2 * (OVERHEAD + len(ANSWER))


async def test_what_made_room_for_others_is_counted(watched: Watched) -> None:
    traffic = Traffic(watched.observer, max_bytes=LARGEST_SHARE * (OVERHEAD + len(ANSWER)))
    for number in range(10, 10 + LARGEST_SHARE):
        await traffic.ask(f"/0.{number}", key="Bearer one")
    assert watched.samples["powfast_held_answers"] == 9  # no more than was free
    for number in range(10, 18):
        await traffic.ask(f"/0.{number}", key=f"Bearer other-{number}")
    assert watched.samples["powfast_evicted_total"] == 1
    assert watched.samples["powfast_held_answers"] == LARGEST_SHARE


async def test_logs_are_one_json_object_an_event(watched: Watched) -> None:
    await Traffic(watched.observer).pay("/1")
    assert [event for event in watched.events if event["event"] != "held"] == [
        {"event": "charged", "work": BASE, "queries": 1},
        {"event": "challenged", "work": BASE},
        {"event": "redeemed", "outcome": "ok", "work": BASE},
    ]


async def test_a_quiet_logger_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="powfast"):
        await Traffic(Logs()).all_kinds()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert json.loads(caplog.messages[0])["event"] == "store-error"


async def test_spans_nest_and_carry_their_events(watched: Watched) -> None:
    await Traffic(watched.observer).pay("/1")
    spans = {span.context.span_id: span for span in watched.spans}
    parents = [
        (span.name, spans[span.parent.span_id].name if span.parent else None)
        for span in watched.spans
    ]
    asked, paid = ("powfast.ledger", "powfast.gate"), ("powfast.verify", "powfast.gate")
    gate = ("powfast.gate", None)
    assert set(parents) == {asked, paid, gate}
    assert (parents.count(gate), parents.count(paid)) == (2, 1)  # two requests, one solution
    names = [event.name for span in watched.spans for event in span.events]
    assert set(names) >= {"powfast.charged", "powfast.challenged", "powfast.redeemed"}


async def test_nothing_secret_is_in_metrics_logs_or_spans(watched: Watched) -> None:
    traffic = Traffic(watched.observer)
    await traffic.all_kinds()
    written = watched.everything
    assert all(name in written for name in ("challenged", "powfast_gate_seconds", "powfast.verify"))
    for secret in traffic.secrets:
        assert secret not in written, secret


def test_several_observers_are_one_and_none_is_one_too() -> None:
    assert isinstance(together(), Unobserved)
    logs = Logs()
    assert together(logs) is logs


async def test_metrics_are_served_by_asgi_and_wsgi(watched: Watched) -> None:
    await Traffic(watched.observer).pay("/1")
    transport = httpx.ASGITransport(watched.metrics.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        by_asgi = (await client.get("/metrics")).text
    with httpx.Client(
        transport=httpx.WSGITransport(watched.metrics.wsgi), base_url="http://test"
    ) as blocking:
        by_wsgi = blocking.get("/metrics").text
    assert 'powfast_redeemed_total{outcome="ok"} 1.0' in by_asgi
    assert 'powfast_redeemed_total{outcome="ok"} 1.0' in by_wsgi


CHILD = """
from powfast.observers.metrics import Metrics
metrics = Metrics(1000)
metrics.event("challenged", work=500)
metrics.event("held", answers=2, bytes=10)
metrics.event("held", answers=3, bytes=20, shared=True)
print(metrics.text().decode())
"""


def test_the_metrics_of_several_processes_add_up(tmp_path: Path) -> None:
    def child() -> str:
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        command = [sys.executable, "-c", CHILD]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    child()
    text = child()
    assert "powfast_challenges_issued_total 2.0" in text
    assert "powfast_work_issued_total 1000.0" in text
    assert "powfast_held_answers 4.0" in text
    assert "powfast_shared_answers 3.0" in text
