"""One TOML file or POWFAST_*: what is read, and every error at once without a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from powfast import keyring
from powfast.accounts import Caller, bearer
from powfast.bill import Bill, RequestIdentity
from powfast.challenge import decode, token_from_text
from powfast.errors import InvalidInput
from powfast.gate import run
from powfast.http import Answer
from powfast.observers.base import Unobserved
from powfast.puzzle import Algorithm
from powfast.servers.charge import BlockingBill
from powfast.servers.settings import Settings, store_of
from powfast.stores import MemoryLedger, SQLiteLedger
from powfast.stores.held import LARGEST_SHARE, OVERHEAD
from powfast.tariff import EvidenceTariff
from powfast.walks import Purpose, Walks

SECRET = "5ec7e75ec7e7" * 6
PASSWORD = "pass-w0rd"


def priced(exchange: object) -> list[float]:
    return [1.0]


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    """Give the least that a server needs."""
    tariff = tmp_path / "tariff.json"
    tariff.write_text(EvidenceTariff(base_work=1000, opening_work=5).to_json())
    return {"POWFAST_TARIFF": str(tariff), "POWFAST_KEYS": f"a:{SECRET}"}


def wrong(environ: dict[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        Settings.load(file, environ)
    first, *lines = str(refused.value).splitlines()
    assert first == "the settings are wrong:"
    return [line.removeprefix("- ") for line in lines]


def test_the_least_that_a_server_needs(given: dict[str, str]) -> None:
    settings = Settings.load(environ=given)
    gate = settings.gate()
    assert isinstance(gate.ledger, MemoryLedger)
    assert isinstance(settings.observer(), Unobserved)
    assert settings.middleware["account"] is bearer
    asked = run(gate.serve(RequestIdentity("alice", "", b"digest"), Bill(), None, nothing_runs))
    assert asked is not None
    token = decode(token_from_text(json.loads(asked.body)["challenge"]))
    assert (token.key_id, token.work) == ("a", 1000)  # on probation, no opening


async def nothing_runs() -> None:
    raise AssertionError


ALL = """
tariff = "{tariff}"
keys_file = "{ring}"
ttl = 60
store = "sqlite:///{folder}/ledger.sqlite"
store_timeout = 0.25
on_store_error = "local"
refuse_above = 1_000_000_000_000
held_lifetime = 30.5
held_bytes = 1_000_000
hold_shared = true
max_unpaid_runs = 3
max_queries = 7
walks_from = 1_000_000
walks_for = ["opening", "debt"]
walk_worth = 300
bind = ["X-Model", "X-Version"]
body_timeout = 2.5
paths = ["/v1/", "/v2/"]
status = 403
max_body = 4096
account = "header x-user"
group = "address proxies=1 ipv4=16"
evidence = "test_settings:priced"
metrics = false
logs = true
tracing = true
"""


def test_every_setting_has_its_place_in_a_file(given: dict[str, str], tmp_path: Path) -> None:
    ring = tmp_path / "ring.toml"
    keyring.write(ring, keyring.new_ring(0.0), replace_file=False)
    file = tmp_path / "powfast.toml"
    file.write_text(ALL.format(tariff=given["POWFAST_TARIFF"], ring=ring, folder=tmp_path))
    settings = Settings.load(environ={"POWFAST_CONFIG": str(file), "POWFAST_STATUS": "401"})
    assert settings.status == 401  # the environment wins
    assert (settings.ttl, settings.store_timeout, settings.held_lifetime) == (60, 0.25, 30.5)
    assert settings.paths == ("/v1/", "/v2/")
    assert settings.refuse_above == 10**12
    assert settings.evidence.__name__ == "priced"
    headers = {"x-user": "alice", "x-forwarded-for": "1.2.3.4, 5.6.7.8"}
    caller = Caller(headers.get, "10.0.0.1", {})
    assert settings.middleware["account"](caller) != bearer(caller)
    assert settings.middleware["group"](caller) == "5.6.0.0/16"
    gate = settings.gate()
    assert isinstance(gate.ledger, SQLiteLedger)
    assert isinstance(gate.issuer, keyring.FileIssuer)
    assert gate.held.max_answer == 1_000_000 // LARGEST_SHARE - OVERHEAD
    assert settings.middleware["bind"] == ("X-Model", "X-Version")
    assert settings.middleware["body_timeout"] == 2.5
    assert (settings.max_unpaid_runs, settings.max_queries, settings.hold_shared) == (3, 7, True)
    assert settings.walks() == Walks(10**6, (Purpose.OPENING, Purpose.DEBT), 300)
    assert gate.issuer.algorithms == set(Algorithm)
    gate.ledger.close()  # type: ignore[union-attr]


def test_the_bounds_reach_the_gate(given: dict[str, str]) -> None:
    bounds = {"REFUSE_ABOVE": "5000", "MAX_UNPAID_RUNS": "1", "MAX_QUERIES": "3"}
    tariff = EvidenceTariff(base_work=1000).to_json()
    Path(given["POWFAST_TARIFF"]).write_text(tariff)
    gate = Settings.load(
        environ=given | {f"POWFAST_{name}": value for name, value in bounds.items()}
    ).gate()

    def ask(digest: bytes, account: str, queries: int) -> tuple[int, str]:
        bill = BlockingBill()

        async def endpoint() -> Answer:
            bill.charge([1.0] * queries)
            return Answer(200, (), b"")

        answer = run(gate.serve(RequestIdentity(account, "", digest), bill, None, endpoint))
        assert answer is not None
        said = json.loads(answer.body)
        return answer.status, said.get("work") or said["type"]

    assert ask(b"1", "alice", 4) == (413, "urn:powfast:too-many-queries")
    assert ask(b"2", "bob", 3) == (402, 3000)
    assert ask(b"3", "bob", 1) == (402, 3000 + 1000)  # one run is unpaid: the debt comes first
    Path(given["POWFAST_TARIFF"]).write_text(EvidenceTariff(base_work=6000).to_json())
    gate = Settings.load(environ=given | {"POWFAST_REFUSE_ABOVE": "5000"}).gate()
    assert ask(b"4", "eve", 1) == (403, "urn:powfast:price-too-high")


def test_the_environment_says_the_same(given: dict[str, str]) -> None:
    more = {
        "POWFAST_PATHS": "/v1/,/v2/",
        "POWFAST_REFUSE_ABOVE": "1_000",
        "POWFAST_LOGS": "TRUE",
        "POWFAST_METRICS": "0",
        "POWFAST_BIND": "X-Model, X-Version",
        "POWFAST_HOLD_SHARED": "1",
        "POWFAST_KERNEL": "scalar",
        "OTHER": "x",
    }
    settings = Settings.load(environ=given | more)
    assert settings.paths == ("/v1/", "/v2/")
    assert (settings.refuse_above, settings.logs, settings.metrics) == (1000, True, False)
    assert (settings.bind, settings.hold_shared) == (("X-Model", "X-Version"), True)


def test_every_error_is_listed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "powfast.toml"
    file.write_text(
        'ttl = "soon"\nstroe = "memory://"\npaths = [1]\nlogs = "maybe"\nstatus = 200\n'
    )
    environ = {
        "POWFAST_MAX_UNPAID_RUN": "3",
        "POWFAST_REFUSE_ABOVE": "1.5",
        "POWFAST_ON_STORE_ERROR": "ajar",
        "POWFAST_EVIDENCE": "no_such_module:f",
        "POWFAST_ACCOUNT": "nobody in particular",
        "POWFAST_KEYS_FILE": str(tmp_path / "no-ring"),
    }
    lines = wrong(environ, file)
    expected = [
        ("stroe", "is store meant?"),
        ("POWFAST_MAX_UNPAID_RUN", "is max_unpaid_runs meant?"),
        ("ttl", "'soon'"),
        ("paths", "begin with /"),
        ("logs", "true or false"),
        ("status", "400"),
        ("POWFAST_REFUSE_ABOVE", "whole number"),
        ("POWFAST_ON_STORE_ERROR", "closed, local, open"),
        ("POWFAST_EVIDENCE", "no_such_module"),
        ("POWFAST_ACCOUNT", "bearer"),
        ("POWFAST_KEYS_FILE", "no-ring"),
        ("tariff is missing", "powfast calibrate"),
    ]
    assert len(lines) == len(expected), lines
    for where, what in expected:
        assert any(line.startswith(where) and what in line for line in lines), (where, what, lines)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TTL", "nan", "number"),
        ("TTL", "1e309", "number"),
        ("TTL", "0", "number"),
        ("STATUS", "", "whole"),
        ("MAX_BODY", "-1", "whole"),
        ("MAX_UNPAID_RUNS", "-1", "whole"),
        ("MAX_QUERIES", "many", "whole"),
        ("HELD_BYTES", "1.5", "whole"),
        ("HOLD_SHARED", "perhaps", "true or false"),
        ("BODY_TIMEOUT", "0", "number"),
        ("BIND", "X Model", "names of headers"),
        ("STORE", "postgres://localhost", "memory://"),
        ("STORE", "redis:localhost", "memory://"),
        ("TARIFF", "/no/such/tariff.json", "cannot be read"),
        ("TARIFF", "\x00", "cannot be read"),
        ("TARIFF", __file__, "not a tariff document"),
        ("EVIDENCE", "os.path:sep", "function"),
        ("EVIDENCE", "os.path:no_such", "imported"),
        ("EVIDENCE", "os;path:f", "package.module:function"),
        ("GROUP", "test_settings:missing", "imported"),
        ("PATHS", "v1/", "begin with /"),
        ("KEYS", "a", "id:hex"),
        ("CONFIG", "/no/such/file.toml", "cannot be read"),
        ("CONFIG", __file__, "cannot be read"),
    ],
)
def test_a_wrong_value_says_what_would_be_right(
    given: dict[str, str], name: str, value: str, says: str
) -> None:
    (line,) = wrong(given | {f"POWFAST_{name}": value})
    assert says in line
    assert line.count(", not ") <= 1


def test_keys_come_from_one_place(given: dict[str, str], tmp_path: Path) -> None:
    ring = tmp_path / "ring.toml"
    keyring.write(ring, keyring.new_ring(0.0), replace_file=False)
    assert "either keys_file" in wrong(given | {"POWFAST_KEYS_FILE": str(ring)})[0]
    del given["POWFAST_KEYS"]
    assert "either keys_file" in wrong(given)[0]


def test_secrets_are_in_no_error_and_no_representation(given: dict[str, str]) -> None:
    store = f"redis://user:{PASSWORD}@localhost"
    settings = Settings.load(environ=given | {"POWFAST_STORE": store})
    assert settings.store == store
    for text in (repr(settings), str(settings)):
        assert PASSWORD not in text
        assert repr(bytes.fromhex(SECRET)) not in text
    bad = given | {"POWFAST_STORE": store.replace("redis", "mysql"), "POWFAST_KEYS": SECRET}
    text = "\n".join(wrong(bad))
    assert PASSWORD not in text
    assert SECRET not in text


def test_the_account_command_needs_no_keys(given: dict[str, str]) -> None:
    del given["POWFAST_KEYS"]
    store, tariff, timeout = store_of(environ=given | {"POWFAST_STORE_TIMEOUT": "2"})
    assert (store, tariff.opening_work, timeout) == ("memory://", 5, 2)
    with pytest.raises(InvalidInput, match="tariff is missing"):
        store_of(environ={})
