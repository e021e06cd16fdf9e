"""`powfast account`: what the store remembers of an account, a group, the newcomers."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powfast.cli import output
from powfast.errors import InvalidInput

if TYPE_CHECKING:
    from powfast.stores import AccountRecord, Ledger
    from powfast.tariff import EvidenceTariff


def add_to(commands: output.Commands) -> None:
    """Add the actions."""
    text = "Show or reset what the store remembers of an account, or of a group charged together."
    actions = output.add_group(commands, "account", text)
    forgiven = "treat it as one that has paid its opening and done nothing unusual"
    show = output.add_command(actions, "show", _show, "Show an account.")
    reset = output.add_command(actions, "reset", _reset, f"Reset an account: {forgiven}.")
    group = output.add_command(actions, "group", _group, "Show a group, or reset it.")
    newcomers = output.add_command(
        actions,
        "newcomers",
        _newcomers,
        "Show the pool of accounts that have not paid their opening, or reset it.",
    )
    newcomers.add_argument(
        "name", nargs="?", default="", help="which of several pools (default: the only one)"
    )
    newcomers.add_argument("--reset", action="store_true", help="clear the pool of suspicion")
    for action in (show, reset):
        action.add_argument(
            "name",
            help="the account; - reads an Authorization header's value from standard input, and "
            "takes the account that it belongs to",
        )
        action.add_argument(
            "--group", default="", help="the group that the account is in (default: none)"
        )
    group.add_argument("name", help="the group")
    group.add_argument("--reset", action="store_true", help=forgiven)
    for action in (show, reset, group, newcomers):
        action.add_argument(
            "--config", type=Path, help="the server's settings (default: POWFAST_CONFIG)"
        )


def _show(arguments: argparse.Namespace, *, reset: bool = False) -> int:
    from powfast.accounts import account_of

    name = account_of(sys.stdin.read().strip()) if arguments.name == "-" else arguments.name
    return _look("account", name, (name, arguments.group), arguments, reset)


def _reset(arguments: argparse.Namespace) -> int:
    return _show(arguments, reset=True)


def _group(arguments: argparse.Namespace) -> int:
    return _look("group", arguments.name, ("", arguments.name), arguments, arguments.reset)


def _look(
    kind: str, name: str, who: tuple[str, str], arguments: argparse.Namespace, reset: bool
) -> int:
    """Print what the ledger knows, after it was reset where that is asked for."""
    if not name:
        raise InvalidInput("an account or group without a name is not charged")
    with _opened(arguments) as ledger:
        if reset:
            ledger.reset(*who)
        return _print({kind: name} | _described(ledger.tariff, ledger.account(*who)), arguments)


def _newcomers(arguments: argparse.Namespace) -> int:
    """Print what newcomers pay, in base prices, after their pool was reset where asked for."""
    with _opened(arguments) as ledger:
        if arguments.reset:
            ledger.reset_newcomers(arguments.name)
        record, tariff = ledger.newcomers(arguments.name), ledger.tariff
        state = None if record is None else record.state
        found = {
            "newcomers": arguments.name,
            "known": record is not None,
            "queries": 0 if state is None else round(state[0]),
            "price": tariff.newcomers_price(state),
            "opening": tariff.opening_work / tariff.base_work,
            "state": None if state is None else state.tolist(),
        }
        return _print(found, arguments)


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Ledger]:
    from powfast.servers.settings import store_of
    from powfast.stores import open_ledger

    store, tariff, timeout = store_of(arguments.config)
    if store.startswith("memory:"):
        raise InvalidInput("a store in memory is seen by its own process only: name another one")
    with closing(open_ledger(store, tariff, timeout=timeout)) as ledger:
        yield ledger


def _print(found: dict[str, Any], arguments: argparse.Namespace) -> int:
    if arguments.json:
        output.print_json(found)
    else:
        for what, value in found.items():
            print(f"{what:16} {value}")
    return 0


def _described(tariff: EvidenceTariff, record: AccountRecord | None) -> dict[str, Any]:
    if record is None:
        return {"known": False}
    described = {
        "known": True,
        "queries": round(record.state[0]),
        "state": record.state.tolist(),
        "price": tariff.price(record.state),
        "balance": record.balance,
        "unpaid_runs": "answers" if math.isinf(record.unpaid_runs) else record.unpaid_runs,
        "opened": record.opened,
    }
    if record.sketch is not None:
        second, sketch = tariff.second_wealth(record.state), record.sketch
        described |= {"account_wealth": second, "sketch_queries": round(sketch.sums[0])}
        described["sketch_version"] = sketch.version.hex()
    return described
