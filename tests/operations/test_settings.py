"""One TOML file or POWFAST_*: what is read, and every error at once without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from powfast import keyring
from powfast.accounts import Caller, bearer
from powfast.challenge import decode
from powfast.errors import InvalidInput
from powfast.gate import Asked, run
from powfast.observers.base import Unobserved
from powfast.servers.settings import Settings, store_of
from powfast.stores import MemoryLedger, SQLiteLedger
from powfast.tariff import EvidenceTariff

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
    work = run(gate.charge(Asked("alice", "", b"digest"), [1.0]))
    assert work == 1005 // 125 * 125
    assert decode(gate.challenge(Asked("alice", "", b"digest"), work)).key_id == "a"


ALL = """
tariff = "{tariff}"
keys_file = "{ring}"
ttl = 60
store = "sqlite:///{folder}/ledger.sqlite"
store_timeout = 0.25
on_store_error = "local"
refuse_above = 1_000_000_000_000
held_lifetime = 30.5
held_per_account = 2
held_in_all = 20
held_account_bytes = 1000
held_all_bytes = 2000
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
    assert gate.held.max_answer == 1000
    assert gate.refuse_above == 10**12
    gate.ledger.close()


def test_the_environment_says_the_same(given: dict[str, str]) -> None:
    more = {
        "POWFAST_PATHS": "/v1/,/v2/",
        "POWFAST_REFUSE_ABOVE": "1_000",
        "POWFAST_LOGS": "TRUE",
        "POWFAST_METRICS": "0",
        "POWFAST_KERNEL": "scalar",
        "OTHER": "x",
    }
    settings = Settings.load(environ=given | more)
    assert settings.paths == ("/v1/", "/v2/")
    assert (settings.refuse_above, settings.logs, settings.metrics) == (1000, True, False)


def test_every_error_is_listed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "powfast.toml"
    file.write_text(
        'ttl = "soon"\nstroe = "memory://"\npaths = [1]\nlogs = "maybe"\nstatus = 200\n'
    )
    environ = {
        "POWFAST_HELD_PER_ACOUNT": "3",
        "POWFAST_REFUSE_ABOVE": "1.5",
        "POWFAST_ON_STORE_ERROR": "ajar",
        "POWFAST_EVIDENCE": "no_such_module:f",
        "POWFAST_ACCOUNT": "nobody in particular",
        "POWFAST_KEYS_FILE": str(tmp_path / "no-ring"),
    }
    lines = wrong(environ, file)
    expected = [
        ("stroe", "is store meant?"),
        ("POWFAST_HELD_PER_ACOUNT", "is held_per_account meant?"),
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
