"""`PowMiddleware` from `POWFAST_*` alone, for servers that take the dotted path of a middleware.

vLLM, for one: `vllm serve MODEL --middleware powfast.servers.environment.PowMiddleware`.
"""

from __future__ import annotations

from powfast.http import Exchange
from powfast.servers import asgi
from powfast.servers.settings import Settings


def ordinary(exchange: Exchange) -> list[float]:
    """Price an answer as that of one ordinary query, and a failure as that of none."""
    return [1.0] if exchange.status < 400 else []


class PowMiddleware(asgi.PowMiddleware):
    """Guards an application as the environment, or the file that `POWFAST_CONFIG` names, says.

    `POWFAST_EVIDENCE` names the function that prices the answers of endpoints that do not charge,
    `ordinary` by default.

    Raises
    ------
    InvalidInput
        Names every setting that is wrong.
    """

    def __init__(self, app: asgi.App) -> None:
        settings = Settings.load()
        options = settings.middleware
        options["evidence"] = settings.evidence or ordinary
        super().__init__(app, settings.gate(asynchronous=True), **options)
