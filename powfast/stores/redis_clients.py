"""redis-py's clients by URL: one server, a cluster or sentinels; short waits, and no second ones.

A second wait would come on top of the time that a request has, and the caller asks again anyway.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import SplitResult

from powfast.errors import InvalidInput, MissingExtra, StoreUnavailable

_KINDS = {"redis": 6379, "redis+cluster": 6379, "redis+sentinel": 26379}  # and the usual ports


def check(place: SplitResult) -> None:
    """Raise ValueError for a URL that names no Redis."""
    if _kind(place) not in _KINDS:
        raise ValueError(f"no store is called {place.scheme}://" if place.scheme else "no scheme")
    nodes = _nodes(place)
    if _kind(place) == "redis" and len(nodes) > 1:
        raise ValueError(f"{place.scheme}:// takes one host")
    if place.fragment:
        raise ValueError("a fragment has no meaning here")
    service, database = _service_and_database(place)
    if _kind(place) == "redis+sentinel" and not service:
        raise ValueError("sentinels have to be told the name of a service")
    if database and not database.isdecimal():
        raise ValueError(f"a database is a number, not {database!r}")
    if database and _kind(place) == "redis+cluster":
        raise ValueError("a cluster has no databases")


def connect(place: SplitResult, timeout: float, asynchronous: bool) -> Any:
    """Return a client, blocking or asynchronous, of a URL that `check` has passed.

    Raises
    ------
    InvalidInput
        redis-py does not know an option of the URL.
    MissingExtra
        redis-py is not installed.
    StoreUnavailable
        No node of the cluster answers; a blocking client looks for its nodes at once.
    """
    try:
        from redis.exceptions import RedisClusterException, RedisError
    except ImportError:
        raise MissingExtra("Redis stores need redis-py: pip install 'powfast[redis]'") from None
    try:
        return _connected(place, timeout, "redis.asyncio" if asynchronous else "redis")
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"an option of the {place.scheme}:// URL: {error}") from None
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable(f"the Redis store: {error}") from error


def _connected(place: SplitResult, timeout: float, library: str) -> Any:
    """Make the client of one of redis-py's two halves, which mirror each other."""
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError

    client, cluster, retry, sentinel = (
        import_module(library + part) for part in ("", ".cluster", ".retry", ".sentinel")
    )
    awaiting = library == "redis.asyncio"
    nodes, options = _nodes(place), _options(place, timeout)
    if awaiting:  # its pool hands out connections that the server has closed since
        options["retry"] = retry.Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
    else:  # a timeout has to be among the errors that close a connection: its reply is to come yet
        options["retry"] = retry.Retry(NoBackoff(), 0)
    if _kind(place) == "redis+cluster":
        options["startup_nodes"] = [cluster.ClusterNode(*node) for node in nodes]
        of_nodes = _awaiting_cluster if awaiting else _blocking_cluster
        return of_nodes(cluster.RedisCluster, options)
    if _kind(place) == "redis+sentinel":
        of_server = {"username", "password", "db"}
        for_sentinels = {name: options[name] for name in options.keys() - of_server}
        sentinels = sentinel.Sentinel(nodes, sentinel_kwargs=for_sentinels)
        return sentinels.master_for(_service_and_database(place)[0], **options)
    return client.Redis(host=nodes[0][0], port=nodes[0][1], **options)


def _blocking_cluster(client_of: Any, options: dict[str, Any]) -> Any:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # it begins by asking the cluster's first node for its commands; where that is away, another
    client = client_of(**options | {"retry": Retry(NoBackoff(), 1)})
    client.set_retry(options["retry"])
    return client


def _awaiting_cluster(client_of: Any, options: dict[str, Any]) -> Any:
    # it looks for a node's successor once it has seen for itself that the node is silent: so its
    # patience ends before that of `Calls.wait`
    for wait in ("socket_timeout", "socket_connect_timeout"):
        options[wait] *= 0.8
    client = client_of(**options)
    client.commands_parser = _KeyComesFirst()
    return client


class _KeyComesFirst:
    """Says where a command has its key: all that are sent here, but scripts, have it first.

    redis-py's own asks the first node for hundreds of commands each time it looks for the nodes:
    40 ms on the loop, and an end to everything where that node is away.
    """

    async def initialize(self, node: Any) -> None:
        pass

    async def get_keys(self, command: str, *arguments: Any) -> tuple[Any, ...]:
        return arguments[:1]


def _options(place: SplitResult, timeout: float) -> dict[str, Any]:
    """Return what any client is given: who asks, TLS, the URL's own options, the timeouts."""
    from redis.connection import parse_url

    user = place.netloc.rpartition("@")[0]
    options: dict[str, Any] = parse_url(  # type: ignore[no-untyped-call]
        f"redis://{user}@localhost?{place.query}"
    )
    del options["host"]
    database = _service_and_database(place)[1]
    if database:
        options["db"] = int(database)
    if place.scheme.startswith("rediss"):
        options["ssl"] = True
    return options | {"socket_timeout": timeout, "socket_connect_timeout": timeout}


def _kind(place: SplitResult) -> str:
    return place.scheme.replace("rediss", "redis", 1)


def _nodes(place: SplitResult) -> list[tuple[str, int]]:
    nodes = []
    for host in place.netloc.rpartition("@")[2].split(","):
        node = SplitResult("", host, "", "", "")
        if not node.hostname:
            raise ValueError(f"{place.scheme}:// needs a host")
        nodes.append((node.hostname, node.port or _KINDS[_kind(place)]))
    return nodes


def _service_and_database(place: SplitResult) -> tuple[str, str]:
    path = place.path.strip("/")
    service, _, database = path.partition("/")
    return (service, database) if _kind(place) == "redis+sentinel" else ("", path)
