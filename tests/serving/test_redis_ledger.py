"""What the ledger in Redis keeps, what it forgets, and how an operator looks after it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from ledger_oracle import bits
from ledgers import (
    NOW,
    TARIFF,
    Caller,
    Clock,
    one_server,  # noqa: F401
    recipe,
)
from stores import RedisServer

from powfast.errors import StoreUnavailable
from powfast.stores import RedisLedger
from powfast.stores.base import CLOCK_SKEW, Outcome


@pytest.mark.parametrize(("seconds", "dropped"), [(0, True), (31_536_000, False)])
def test_an_operator_drops_idle_accounts_of_redis(
    server: RedisServer, seconds: int, dropped: bool
) -> None:
    _, script = recipe("redis-cli").split("\n\n")
    script = script.replace("redis-cli", f"redis-cli -p {server.port}")
    with server.client() as client:
        ledger = RedisLedger(client, TARIFF)
        callers = [Caller(ledger, f"idle for {seconds} s", group).opened() for group in ("g", "")]
        for caller in callers:
            caller.charge([9.0])
        kept = client.keys("powfast:*:request:*"), ledger.account("", "g")
        subprocess.run(["sh", "-c", script.replace("31536000", str(seconds))], check=True)
        assert [caller.is_known for caller in callers] == [not dropped] * 2
        assert client.keys("powfast:*:request:*") == kept[0]  # and nothing else
        assert bits(ledger.account("", "g")) == bits(kept[1])


def test_scripts_survive_a_flush_and_keep_to_one_slot(server: RedisServer) -> None:
    with server.client() as client:
        ledger = RedisLedger(client, TARIFF, prefix="flushed:")
        for group in ("g", ""):
            caller = Caller(ledger, "a", group).opened()
            caller.enter()
            client.script_flush()
            caller.charge([9.0])
            caller.redeem(1, expires=4e9)
        tags = {key.split(b"}")[0] for key in client.keys("flushed:*")}
        assert len(tags) == 2  # one for the group and its accounts, one for the account alone


def test_every_operation_on_redis_is_one_round_trip(server: RedisServer) -> None:
    by_scripts = ("get", "set", "del", "exists", "config|resetstat")
    with server.client() as client:
        caller = Caller(RedisLedger(client, TARIFF, prefix="trips:", clock=Clock()), "a", "g")
        steps = [
            caller.enter,
            lambda: caller.charge([9.0]),
            lambda: caller.redeem(1),
            lambda: caller.leave(Outcome.FREE),
            lambda: caller.report([9.0]),
            lambda: caller.record,
        ]
        for step in steps:  # the first time, scripts are loaded
            step()
        for step in steps:
            client.execute_command("CONFIG", "RESETSTAT")
            step()
            commands = client.info("commandstats")
            assert commands["cmdstat_evalsha"]["calls"] == 1
            # scripts themselves are counted as well
            assert commands.keys() <= {f"cmdstat_{name}" for name in ("evalsha", *by_scripts)}


def test_redis_forgets_requests_and_challenges_by_itself(server: RedisServer) -> None:
    with server.client() as client:
        ledger = RedisLedger(client, TARIFF, prefix="forgotten:", clock=Clock(), remember=30.0)
        caller = Caller(ledger).opened()
        caller.enter()
        caller.charge([9.0])
        caller.report([9.0])
        caller.redeem(1, expires=NOW + 120.0)
        for key in client.keys("forgotten:*:request:*"):
            assert 0 < client.pttl(key) <= 30_000
        (key,) = client.keys("forgotten:*:spent:*")
        assert 0 < client.pttl(key) <= 1000 * (120 + CLOCK_SKEW)
        assert client.ttl(*client.keys("forgotten:*:account:*")) == -1


NAN, MINUS_ONE = bytes.fromhex("000000000000f87f"), bytes.fromhex("000000000000f0bf")


def with_double(at: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda record: record[:at] + value + record[at + 8 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "one byte": lambda _: b"x",
    "short": lambda record: record[:-1],
    "long": lambda record: record + b"x",
    "ones": lambda record: b"\xff" * len(record),
}
OF_AN_ACCOUNT = DAMAGES | {
    "negative queries": with_double(0, MINUS_ONE),
    "half a query": with_double(0, bytes.fromhex("000000000000f83f")),
    "no wealth": with_double(8, NAN),
    "negative wealth": with_double(24, MINUS_ONE),
    "no balance": with_double(64, NAN),
    "negative runs": with_double(72, MINUS_ONE),
    "negative clearings": with_double(80, MINUS_ONE),
    "half opened": with_double(88, MINUS_ONE),
    "negative surcharge": with_double(96, MINUS_ONE),
    "no charge": with_double(104, NAN),
    "no beginning": with_double(112, NAN),
}
OF_A_REQUEST = DAMAGES | {
    "another phase": lambda record: b"x" + record[1:],
    "no price": with_double(49, NAN),
    "without its tag": lambda record: record[:-7],
}
OF_A_SPENT_CHALLENGE = DAMAGES | {"no price": with_double(1, NAN)}
del OF_A_SPENT_CHALLENGE["empty"]  # what paid for no request


ALL_DAMAGES = {
    "account": OF_AN_ACCOUNT,
    "group": OF_AN_ACCOUNT,
    "request": OF_A_REQUEST,
    "spent": OF_A_SPENT_CHALLENGE,
}


@pytest.mark.parametrize(
    ("kind", "damage"), [(kind, damage) for kind in ALL_DAMAGES for damage in ALL_DAMAGES[kind]]
)
def test_a_damaged_record_is_an_unavailable_store(
    server: RedisServer, kind: str, damage: str
) -> None:
    prefix = f"damaged {kind} {damage}:"
    with server.client() as client:
        caller = Caller(RedisLedger(client, TARIFF, prefix=prefix, clock=Clock()), "a", "g")
        caller.opened()
        caller.enter()
        caller.redeem(caller.charge([9.0]).due)
        caller.enter()
        caller.charge([9.0])
        (key,) = client.keys(f"{prefix}*:{kind}{'' if kind == 'group' else ':*'}")
        client.set(key, ALL_DAMAGES[kind][damage](client.get(key)))
        before = {key: client.get(key) for key in client.keys(f"{prefix}*")}
        steps: list[Callable[[], Any]] = [caller.enter, lambda: caller.charge([9.0])]
        if kind != "group":
            steps += [lambda: caller.redeem(1, b"another")]
        for step in [lambda: caller.redeem(1)] if kind == "spent" else steps:
            with pytest.raises(StoreUnavailable) as raised:
                step()
            assert "damaged" in str(raised.value)
            assert not re.search(rf"127\.0\.0\.1|localhost|{server.port}", str(raised.value))
        assert {key: client.get(key) for key in client.keys(f"{prefix}*")} == before
