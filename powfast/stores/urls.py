"""Stores by URL: one line of configuration says where everything is remembered."""

from __future__ import annotations

from typing import Any, Literal, overload
from urllib.parse import SplitResult, unquote, urlsplit

from powfast.errors import InvalidInput
from powfast.observers.base import Observer
from powfast.stores import redis_clients
from powfast.stores.base import AsyncLedger, Ledger, require_evidence_tariff
from powfast.stores.held import Held, HeldAnswers
from powfast.stores.memory import MemoryLedger
from powfast.stores.redis import AsyncRedisLedger, RedisLedger
from powfast.stores.redis_held import AsyncRedisHeldAnswers, RedisHeldAnswers
from powfast.stores.sqlite import SQLiteLedger
from powfast.stores.sqlite_async import AsyncSQLiteLedger
from powfast.tariff import EvidenceTariff

_FORMS = """\
    memory://                                       this process alone
    sqlite:///path/to/file                          the processes of this host
    redis://[user:password@]host[:port][/database]  Redis or Valkey
    redis+cluster://host[:port][,host[:port]...]    a cluster, by some of its nodes
    redis+sentinel://host[:port][,host[:port]...]/service[/database]
    rediss:// for any redis://                      the same over TLS"""


@overload
def open_ledger(
    url: str,
    tariff: EvidenceTariff,
    *,
    asynchronous: Literal[False] = False,
    timeout: float = 0.5,
    remember: float = 3600.0,
) -> Ledger: ...


@overload
def open_ledger(
    url: str,
    tariff: EvidenceTariff,
    *,
    asynchronous: bool,
    timeout: float = 0.5,
    remember: float = 3600.0,
) -> Ledger | AsyncLedger: ...


def open_ledger(
    url: str,
    tariff: EvidenceTariff,
    *,
    asynchronous: bool = False,
    timeout: float = 0.5,
    remember: float = 3600.0,
) -> Ledger | AsyncLedger:
    """Return the ledger that a URL names.

    Parameters
    ----------
    url : str
        ``memory://``, ``sqlite:///path``, or ``redis://``, ``redis+cluster://`` and
        ``redis+sentinel://``, each also as ``rediss``; redis-py's options may follow, as in
        ``rediss://host?ssl_ca_certs=/path``.
    tariff : EvidenceTariff
        Prices the queries.
    asynchronous : bool
        For an event loop. A memory ledger never waits, and is the same for both.
    timeout : float
        Seconds to wait for the store before `StoreUnavailable`; nothing is tried twice.
    remember : float
        Seconds for which a request is remembered; at least a challenge's lifetime.

    Raises
    ------
    InvalidInput
        The URL is none of these, or the tariff is of another kind.
    MissingExtra
        redis-py is not installed.
    StoreUnavailable
        The SQLite file cannot be opened, or no node of the cluster answers.
    """
    place = _parse(url)
    require_evidence_tariff(tariff)
    if place.scheme == "memory":
        return MemoryLedger(tariff, remember=remember)
    if place.scheme == "sqlite":
        in_file = AsyncSQLiteLedger if asynchronous else SQLiteLedger
        return in_file(_file(place), tariff, remember=remember, timeout=timeout)
    client = redis_clients.connect(place, timeout, asynchronous)
    in_redis = AsyncRedisLedger if asynchronous else RedisLedger
    return in_redis(client, tariff, remember=remember, timeout=timeout)


def open_held(
    url: str,
    *,
    asynchronous: bool = False,
    timeout: float = 0.5,
    lifetime: float = 120.0,
    max_bytes: int = 256 << 20,
    observer: Observer | None = None,
) -> Held:
    """Return the store of held answers that goes with a ledger's URL.

    With ``redis`` URLs the gateways share it; with ``memory://`` and ``sqlite://`` each process
    holds its own answers, and an endpoint runs again where the payment reaches another process.

    Parameters
    ----------
    url, asynchronous, timeout
        As in `open_ledger`.
    lifetime, max_bytes, observer
        As in `powfast.stores.held.HeldAnswers`.

    Raises
    ------
    InvalidInput, MissingExtra, StoreUnavailable
        As `open_ledger`.
    """
    place = _parse(url)
    bounds: dict[str, Any] = {
        "lifetime": lifetime,
        "max_bytes": max_bytes,
        "observer": observer,
    }
    if place.scheme in ("memory", "sqlite"):
        return HeldAnswers(**bounds)
    client = redis_clients.connect(place, timeout, asynchronous)
    in_redis = AsyncRedisHeldAnswers if asynchronous else RedisHeldAnswers
    return in_redis(client, timeout=timeout, **bounds)


def _parse(url: str) -> SplitResult:
    """Split the URL of a store whose kind is known."""
    try:
        place = urlsplit(url)
        if place.scheme == "memory":
            _nothing_but_a_path(place)
            if place.path:
                raise ValueError("memory:// has no path")
        elif place.scheme == "sqlite":
            _nothing_but_a_path(place)
            if not place.path.strip("/"):
                raise ValueError("sqlite:/// needs a path; an absolute one begins a fourth slash")
        else:
            redis_clients.check(place)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"not the URL of a store: {error}; there are\n{_FORMS}") from None
    return place


def _nothing_but_a_path(place: SplitResult) -> None:
    if place.netloc or place.query or place.fragment:
        raise ValueError(f"{place.scheme}:// takes neither host nor options")


def _file(place: SplitResult) -> str:
    return unquote(place.path[1:])
