"""Configuration of a server: one TOML file or `POWFAST_*`, checked whole before anything starts.

The names are the same: `store_timeout` in the file is `POWFAST_STORE_TIMEOUT` in the environment,
which wins. docs/operations.md lists them.
"""

from __future__ import annotations

import difflib
import importlib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from powfast import accounts, keyring
from powfast.accounts import Caller
from powfast.challenge import Issuer
from powfast.errors import InvalidInput, PowfastError
from powfast.gate import MAX_QUERIES, MAX_UNPAID_RUNS, Gate
from powfast.http import Exchange
from powfast.observers import together
from powfast.observers.base import Observer
from powfast.puzzle import WALK_EVALUATIONS, Algorithm
from powfast.servers.usage import TOKENS_PER_QUERY
from powfast.stores import MemoryLedger, open_held, open_ledger
from powfast.stores.base import require_evidence_tariff
from powfast.stores.failsafe import OnStoreError
from powfast.tariff import EvidenceTariff, from_json
from powfast.walks import Purpose, Walks

_PREFIX = "POWFAST_"
_ELSEWHERE = {"CONFIG", "KERNEL", "DATA", "LAB"}  # variables that are not settings

_SCHEME = re.compile(r"(memory|sqlite|rediss?(\+cluster|\+sentinel)?)://.*")

Read = Callable[[Any], Any]
"""From what stands in the file, or from the environment's text, to a setting's value."""


# -- readers: each raises InvalidInput with what would be right


def _text(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidInput("has to be text")
    return given


def _number(low: float, high: float) -> Read:
    def read(given: Any) -> float:
        try:
            value = math.nan if isinstance(given, bool) else float(given)
        except (OverflowError, TypeError, ValueError):
            value = math.nan
        if not low <= value <= high:
            raise InvalidInput(f"has to be a number from {low:g} to {high:g}")
        return value

    return read


def _integer(low: int, high: int) -> Read:
    def read(given: Any) -> int:
        text = given.replace("_", "") if isinstance(given, str) else given
        try:
            value = low - 1 if isinstance(text, bool | float) else int(text)
        except (TypeError, ValueError):
            value = low - 1
        if not low <= value <= high:
            raise InvalidInput(f"has to be a whole number from {low} to {high}")
        return value

    return read


def _flag(given: Any) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(given, bool):
        return given
    if not isinstance(given, str) or given.lower() not in words:
        raise InvalidInput("has to be true or false")
    return words[given.lower()]


def _one_of(*words: str) -> Read:
    def read(given: Any) -> str:
        if given not in words:
            raise InvalidInput(f"has to be one of {', '.join(words)}")
        return str(given)

    return read


def _paths(given: Any) -> tuple[str, ...]:
    prefixes = given.split(",") if isinstance(given, str) else given
    if (
        not isinstance(prefixes, list)
        or not prefixes
        or not all(isinstance(prefix, str) and prefix.startswith("/") for prefix in prefixes)
    ):
        raise InvalidInput("has to be prefixes that begin with /, such as /v1/,/v2/")
    return tuple(prefixes)


def _purposes(given: Any) -> tuple[Purpose, ...]:
    names = given.split(",") if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not set(names) <= set(Purpose):
        raise InvalidInput(f"has to be some of {','.join(Purpose)}")
    return tuple(map(Purpose, names))


def _header_names(given: Any) -> tuple[str, ...]:
    names = given.split(",") if isinstance(given, str) else given
    if not isinstance(names, list) or not all(
        isinstance(name, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip())
        for name in names
    ):
        raise InvalidInput("has to be names of headers, such as X-Model,X-Version")
    return tuple(name.strip() for name in names)


def _store(given: Any) -> str:
    if not _SCHEME.fullmatch(_text(given)):
        raise InvalidInput("has to be memory://, sqlite:///path, or a URL of redis")
    return str(given)


def _inline_keys(given: Any) -> dict[str, bytes]:
    return keyring.parse_inline(_text(given))


def _keys_file(given: Any) -> Path:
    path = Path(_text(given))
    keyring.read(path)
    return path


def _tariff(given: Any) -> EvidenceTariff:
    path = Path(_text(given))
    try:
        return require_evidence_tariff(from_json(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot be read: {error}") from None


def _imported(given: Any) -> Callable[..., Any]:
    """Return the function that "package.module:function" names."""
    module, _, name = _text(given).partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*", module) or not name.isidentifier():
        raise InvalidInput("has to be package.module:function")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the operator's module does when it is imported
        raise InvalidInput(f"cannot be imported: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise InvalidInput("has to name a function")
    return found  # type: ignore[no-any-return]


def _resolver(given: Any) -> Callable[[Caller], str]:
    """Return the resolver of that name, or the operator's own function."""
    return _imported(given) if ":" in _text(given) else accounts.resolver(given)


def _upstream(given: Any) -> str:
    try:
        parts = urlsplit(_text(given))
        has_more = parts.username or parts.password or parts.query or parts.fragment
        if (
            parts.scheme in ("http", "https")
            and parts.hostname
            and parts.port != 0
            and not has_more
        ):
            return str(given)
    except ValueError:
        pass
    raise InvalidInput("has to be http://host:port or https://host, with a path or without")


def _secret(given: Any) -> str:
    if len(_text(given)) < 16:
        raise InvalidInput("has to have at least 16 characters")
    return str(given)


_READERS: dict[str, Read] = {
    "tariff": _tariff,
    "keys": _inline_keys,
    "keys_file": _keys_file,
    "ttl": _number(1, 86400),
    "store": _store,
    "store_timeout": _number(0.001, 60),
    "on_store_error": _one_of("closed", "local", "open"),
    "refuse_above": _integer(1, 2**64 - 1),
    "max_unpaid_runs": _integer(0, 10**9),
    "max_queries": _integer(1, 10**9),
    "held_lifetime": _number(1, 86400),
    "held_bytes": _integer(0, 2**40),
    "hold_shared": _flag,
    "walks_from": _integer(1, 2**64 - 1),
    "walks_for": _purposes,
    "walk_worth": _integer(1, 2**32),
    "paths": _paths,
    "status": _integer(400, 499),
    "max_body": _integer(0, 2**40),
    "body_timeout": _number(0.1, 86400),
    "bind": _header_names,
    "account": _resolver,
    "group": _resolver,
    "newcomers": _resolver,
    "evidence": _imported,
    "queries": _imported,
    "check_status": _integer(400, 499),
    "queries_header": _text,
    "report_secret": _secret,
    "upstream": _upstream,
    "upstream_timeout": _number(0.1, 86400),
    "upstream_connections": _integer(1, 65536),
    "tokens_per_query": _integer(1, 10**9),
    "metrics": _flag,
    "logs": _flag,
    "tracing": _flag,
}
_SECRET = {"keys", "store", "report_secret", "upstream"}  # a URL may hold a password


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a server is told.

    Made by `load`; see docs/operations.md for each of them.
    """

    tariff: EvidenceTariff
    keys: Mapping[str, bytes] | None = field(default=None, repr=False)
    keys_file: Path | None = None
    ttl: float = 120.0
    store: str = field(default="memory://", repr=False)
    store_timeout: float = 1.0
    on_store_error: OnStoreError = "closed"
    refuse_above: int | None = None
    max_unpaid_runs: int = MAX_UNPAID_RUNS
    max_queries: int = MAX_QUERIES
    held_lifetime: float | None = None
    held_bytes: int = 256 << 20
    hold_shared: bool = False
    walks_from: int | None = None
    walks_for: tuple[Purpose, ...] = tuple(Purpose)
    walk_worth: int = WALK_EVALUATIONS
    paths: tuple[str, ...] | None = None
    status: int = 402
    max_body: int = 16 << 20
    body_timeout: float = 30.0
    bind: tuple[str, ...] = ()
    account: Callable[[Caller], str] = accounts.bearer
    group: Callable[[Caller], str] = accounts.nobody
    newcomers: Callable[[Caller], str] = accounts.nobody
    evidence: Callable[..., Any] | None = None
    queries: Callable[[Exchange], int] | None = None
    check_status: int = 401
    queries_header: str | None = None
    report_secret: str | None = field(default=None, repr=False)
    upstream: str | None = None
    upstream_timeout: float = 600.0
    upstream_connections: int = 256
    tokens_per_query: int = TOKENS_PER_QUERY
    metrics: bool = False
    logs: bool = False
    tracing: bool = False

    @classmethod
    def load(cls, file: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Self:
        """Read a TOML file, by default the one `POWFAST_CONFIG` names, and the environment.

        Raises
        ------
        InvalidInput
            Names every setting that is wrong, missing or unknown, all at once, and no secret.
        """
        return cls(**_read(_READERS, file, environ))

    def gate(self, *, asynchronous: bool = False, observer: Observer | None = None) -> Gate:
        """Build the gate, with a store for an event loop where it is `asynchronous`.

        Raises
        ------
        InvalidInput
            The store cannot carry the tariff.
        MissingExtra
            The store's or an observer's package is not installed.
        """
        timeout = self.store_timeout / 2  # a request may wait twice: to enter, and for its charge
        ledger = open_ledger(
            self.store,
            self.tariff,
            asynchronous=asynchronous,
            timeout=timeout,
            remember=max(3600.0, self.ttl),
        )
        observer = self.observer() if observer is None else observer
        held = open_held(
            self.store,
            asynchronous=asynchronous,
            timeout=timeout,
            lifetime=self.ttl if self.held_lifetime is None else self.held_lifetime,
            max_bytes=self.held_bytes,
            observer=observer,
        )
        return Gate(
            self.issuer(),
            ledger,
            held,
            refuse_above=self.refuse_above,
            max_unpaid_runs=self.max_unpaid_runs,
            max_queries=self.max_queries,
            hold_shared=self.hold_shared,
            on_store_error=self.on_store_error,
            fallback=MemoryLedger(self.tariff) if self.on_store_error == "local" else None,
            observer=observer,
            walks=self.walks(),
        )

    def walks(self) -> Walks | None:
        """Return what is asked for in walks; nothing without `walks_from`."""
        if self.walks_from is None:
            return None
        return Walks(self.walks_from, self.walks_for, self.walk_worth)

    def issuer(self) -> Issuer:
        """Make the issuer, which follows the ring's file where there is one."""
        algorithms = (Algorithm.SHA256,) if self.walks_from is None else tuple(Algorithm)
        if self.keys_file is not None:
            return keyring.FileIssuer(self.keys_file, ttl=self.ttl, algorithms=algorithms)
        return Issuer(self.keys or {}, ttl=self.ttl, algorithms=algorithms)

    def observer(self) -> Observer:
        """Make the observers that are switched on.

        Raises
        ------
        MissingExtra
            The package of one is not installed.
        """
        listening: list[Observer] = []
        if self.metrics:
            from powfast.observers.metrics import Metrics

            listening.append(Metrics(self.tariff.base_work))
        if self.logs:
            from powfast.observers.logs import Logs

            listening.append(Logs())
        if self.tracing:
            from powfast.observers.tracing import Tracing

            listening.append(Tracing())
        return together(*listening)

    @property
    def middleware(self) -> dict[str, Any]:
        """Keyword arguments of `asgi.PowMiddleware`, the gate aside."""
        return {**self.wsgi_middleware, "body_timeout": self.body_timeout}

    @property
    def wsgi_middleware(self) -> dict[str, Any]:
        """Those of `wsgi.PowMiddleware`, which cannot time what its server reads."""
        named = ("account", "group", "newcomers", "evidence", "queries", "bind", "paths")
        said = {name: getattr(self, name) for name in (*named, "max_body", "status")}
        return {name: value for name, value in said.items() if value is not None}


def store_of(
    file: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[str, EvidenceTariff, float]:
    """Read only where the ledger is: the store's URL, the tariff, the timeout in seconds.

    Raises
    ------
    InvalidInput
        As `Settings.load`; the other settings may be wrong or missing.
    """
    readers = {name: _READERS[name] for name in ("store", "tariff", "store_timeout")}
    values = _read(readers, file, environ)
    store: str = values.get("store", Settings.store)
    return store, values["tariff"], values.get("store_timeout", Settings.store_timeout)


def keys_of(
    file: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> Mapping[str, bytes]:
    """Read only the keys, in a file of their own or inline; the one that signs is the last.

    Raises
    ------
    InvalidInput
        As `Settings.load`; the other settings may be wrong or missing.
    """
    values = _read({name: _READERS[name] for name in ("keys", "keys_file")}, file, environ)
    ring: Mapping[str, bytes] | None = values.get("keys")
    return keyring.secrets_by_id(keyring.read(values["keys_file"])) if ring is None else ring


def _read(
    readers: Mapping[str, Read], file: str | Path | None, environ: Mapping[str, str] | None
) -> dict[str, Any]:
    """Return the value of each of these settings that is given, or raise with all that is wrong."""
    environ = os.environ if environ is None else environ
    wrong: list[str] = []
    given = _from_file(file or environ.get(_PREFIX + "CONFIG"), wrong) | _from_environment(environ)
    wrong += [
        f"{where}: there is no such setting{_nearest(name)}"
        for name, (where, _) in given.items()
        if name not in _READERS
    ]
    values = {}
    for name in [name for name in readers if name in given]:
        where, raw = given[name]
        try:
            values[name] = readers[name](raw)
        except PowfastError as error:
            unfit = str(error).startswith("has to be") and name not in _SECRET
            wrong.append(f"{where}: {error}" + (f", not {str(raw)[:80]!r}" if unfit else ""))
    wrong += _missing(readers, given)
    if wrong:
        raise InvalidInput("\n".join(["the settings are wrong:", *(f"- {one}" for one in wrong)]))
    return values


def _from_file(file: str | Path | None, wrong: list[str]) -> dict[str, tuple[str, Any]]:
    """Return each name with where it stands and what is there."""
    if not file:
        return {}
    try:
        content = tomllib.loads(Path(file).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        wrong.append(f"{file} cannot be read: {error}")
        return {}
    return {name: (f"{name} in {file}", raw) for name, raw in content.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    names = {name: name.removeprefix(_PREFIX) for name in environ if name.startswith(_PREFIX)}
    return {
        short.lower(): (name, environ[name])
        for name, short in names.items()
        if short not in _ELSEWHERE
    }


def _missing(wanted: Mapping[str, Read], given: Mapping[str, object]) -> list[str]:
    lacking = []
    if "tariff" in wanted and "tariff" not in given:
        lacking.append("tariff is missing: the file that `powfast calibrate` wrote")
    if "keys" in wanted and len(given.keys() & {"keys", "keys_file"}) != 1:
        lacking.append("either keys_file (what `powfast keys` made) or keys has to be given")
    return lacking


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, _READERS, n=1)
    return f"; is {near[0]} meant?" if near else f"; there are {', '.join(_READERS)}"
