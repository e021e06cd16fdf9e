"""Prometheus metrics of a gate, and applications that serve them at /metrics."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

from powfast.errors import MissingExtra

try:
    import prometheus_client as prometheus
    from prometheus_client import multiprocess
except ImportError as _missing:
    raise MissingExtra(
        "metrics need prometheus-client: pip install 'powfast[metrics]'"
    ) from _missing

_LATENCIES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_MOST_POOLS = 32
# An honest account pays two base prices a query at most, on average: up to 2 is its range.
_PRICES = (1.0, 2.0, 5.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5)


class Metrics:
    """Counts a gate's events and times its steps; one per registry.

    With `PROMETHEUS_MULTIPROC_DIR` set, before prometheus_client is imported, what is served is
    the sum over the processes that share that folder.

    Parameters
    ----------
    base_work : float
        The tariff's price of an ordinary query: what prices are counted in.
    registry
        Where the metrics are registered. By default one of their own, beside the process's CPU,
        memory and file descriptors; `prometheus_client.REGISTRY` is what an application uses.
    """

    def __init__(
        self, base_work: float, registry: prometheus.CollectorRegistry | None = None
    ) -> None:
        self._base_work = base_work
        self._registry = _registry_of_its_own() if registry is None else registry
        self._requests = self._counter("requests_charged", "Requests that were priced.")
        self._queries = self._counter("queries_charged", "Queries that were priced.")
        self._price = self._histogram(
            "price", "Price per query of a request, in base prices.", _PRICES
        )
        self._newcomers = self._counter(
            "newcomers_queries", "Queries of accounts that have not paid their opening.", "pool"
        )
        self._newcomers_price = prometheus.Gauge(
            "powfast_newcomers_price",
            "What such an account pays for an ordinary query, in base prices.",
            ("pool",),
            registry=self._registry,
            multiprocess_mode="livemostrecent",
        )
        self._heated = self._counter(
            "newcomers_heated", "How often a pool's price has passed a level.", "level"
        )
        self._pools = {""}
        self._issued = self._counter("challenges_issued", "Challenges that were sent.")
        self._work_issued = self._counter("work_issued", "SHA-256 evaluations asked for.")
        self._offered = self._counter("challenges_offered", "Challenges to be solved ahead.")
        self._redeemed = self._counter("redeemed", "Solutions that came, by outcome.", "outcome")
        self._work_redeemed = self._counter("work_redeemed", "SHA-256 evaluations paid.")
        self._refused = self._counter("refused", "Requests refused without a challenge.", "code")
        self._uncounted = self._counter(
            "uncounted", "Batches that were read and nobody had counted."
        )
        self._abandoned = self._counter("abandoned", "Held answers that nobody paid in time.")
        self._evicted = self._counter("evicted", "Held answers that made room for others.")
        # what a process holds adds up; of what all hold together, each says the same
        self._held = self._gauges("held", "livesum")
        self._shared = self._gauges("shared", "livemostrecent")
        self._failures = self._counter(
            "store_errors", "Operations that a store failed.", "operation", "mode"
        )
        self._seconds = {
            name: self._histogram(f"{name}_seconds", says, _LATENCIES)
            for name, says in {
                "gate": "One request, its endpoint included.",
                "verify": "The check of one solution, without the ledger.",
                "ledger": "One operation of the ledger.",
            }.items()
        }
        self._takers: dict[str, Callable[[dict[str, Any]], None]] = {
            "charged": self._on_charged,
            "challenged": self._on_challenged,
            "newcomers": lambda said: self._heated.labels(said["level"]).inc(),
            "uncounted": lambda said: self._uncounted.inc(),
            "offered": lambda said: self._offered.inc(),
            "redeemed": self._on_redeemed,
            "refused": lambda said: self._refused.labels(said["code"]).inc(),
            "held": self._on_held,
            "abandoned": lambda said: self._abandoned.inc(said["count"]),
            "evicted": lambda said: self._evicted.inc(said["count"]),
            "store-error": lambda said: self._failures.labels(
                said["operation"], said["mode"]
            ).inc(),
        }

    def event(self, name: str, **fields: str | float) -> None:
        """Count one event."""
        take = self._takers.get(name)
        if take is not None:
            take(fields)

    def span(self, name: str) -> AbstractContextManager[object]:
        """Time one step."""
        return self._seconds[name].time()

    @property
    def asgi(self) -> Any:
        """An ASGI application that serves the metrics: mount it at /metrics."""
        return prometheus.make_asgi_app(self._collected())

    @property
    def wsgi(self) -> Any:
        """A WSGI application that serves the metrics."""
        return prometheus.make_wsgi_app(self._collected())

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return prometheus.generate_latest(self._collected())

    def _collected(self) -> prometheus.CollectorRegistry:
        if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            return self._registry
        registry = prometheus.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def _on_charged(self, said: dict[str, Any]) -> None:
        self._requests.inc()
        if said["queries"]:
            self._queries.inc(said["queries"])
            self._price.observe(said["work"] / said["queries"] / self._base_work)
        if "pool" in said:
            pool = self._label(said["pool"])
            self._newcomers.labels(pool).inc(said["queries"])
            self._newcomers_price.labels(pool).set(said["newcomers"])

    def _label(self, pool: str) -> str:
        """Name a pool; those that come after many others share a name."""
        if len(self._pools) < _MOST_POOLS:
            self._pools.add(pool)
        return pool if pool in self._pools else "other"

    def _on_challenged(self, said: dict[str, Any]) -> None:
        self._issued.inc()
        self._work_issued.inc(said["work"])

    def _on_redeemed(self, said: dict[str, Any]) -> None:
        self._redeemed.labels(said["outcome"]).inc()
        if said["outcome"] == "ok":
            self._work_redeemed.inc(said["work"])

    def _on_held(self, said: dict[str, Any]) -> None:
        answers, size = self._shared if said.get("shared") else self._held
        answers.set(said["answers"])
        size.set(said["bytes"])

    def _counter(self, name: str, says: str, *labels: str) -> prometheus.Counter:
        return prometheus.Counter(f"powfast_{name}", says, labels, registry=self._registry)

    def _gauges(
        self, kind: str, mode: Literal["livesum", "livemostrecent"]
    ) -> tuple[prometheus.Gauge, prometheus.Gauge]:
        answers, size = (
            prometheus.Gauge(
                f"powfast_{kind}_{what}", says, registry=self._registry, multiprocess_mode=mode
            )
            for what, says in (
                ("answers", "Answers that wait for their payment, or were paid lately."),
                ("bytes", "Bytes of the answers that are held."),
            )
        )
        return answers, size

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> prometheus.Histogram:
        return prometheus.Histogram(
            f"powfast_{name}", says, registry=self._registry, buckets=buckets
        )


def _registry_of_its_own() -> prometheus.CollectorRegistry:
    registry = prometheus.CollectorRegistry()
    prometheus.ProcessCollector(registry=registry)
    return registry
