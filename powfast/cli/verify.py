"""`powfast verify`."""

from __future__ import annotations

import argparse

from powfast.cli import output
from powfast.cli.files import argument_or_stdin
from powfast.errors import InvalidInput


def add_to(commands: output.Commands) -> None:
    """Add the command."""
    verify = output.add_command(
        commands,
        "verify",
        _verify,
        "Check a PoW-Solution header's value with the server's keys, which POWFAST_KEYS_FILE or "
        "POWFAST_KEYS=id:hex,id:hex names. Only the server's store knows whether it was used "
        "before.",
    )
    verify.add_argument("solution", help="<token>.<nonces>, or - to read it from standard input")
    verify.add_argument(
        "--account", default="", help="the account that the challenge is for (default: none)"
    )
    verify.add_argument(
        "--request",
        default="",
        metavar="DIGEST",
        help="digest of the request that the challenge is for, in hexadecimal (default: none)",
    )


def _verify(arguments: argparse.Namespace) -> int:
    from powfast.challenge import Issuer
    from powfast.http import parse_solution
    from powfast.servers.settings import keys_of

    issuer = Issuer(keys_of())
    token, solution = parse_solution(argument_or_stdin(arguments.solution))
    try:
        request = bytes.fromhex(arguments.request)
    except ValueError:
        raise InvalidInput("--request has to be hexadecimal") from None
    receipt = issuer.check(token, solution, account=arguments.account, request=request)
    if arguments.json:
        fields = {"work": receipt.work, "parts": receipt.parts, "account": receipt.account}
        signed = {"key": receipt.key_id, "expires": receipt.expires}
        output.print_json({"admitted": True, **signed, **fields})
    else:
        print(f"right: {receipt.work} evaluations for account {receipt.account!r}")
    return 0
