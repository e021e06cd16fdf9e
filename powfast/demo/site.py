"""The demo as a page: anybody draws digits and asks, or plays the extractor, and sees both sides.

`page/` is what the browser runs, without a build step; `powfast/web` solves for it.
"""

from __future__ import annotations

import hashlib
import socket
from importlib.resources import files
from typing import Any

import uvicorn
from fastapi import Request
from fastapi.responses import FileResponse
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from threadpoolctl import threadpool_limits

from powfast.accounts import Caller
from powfast.demo.service import guarded, new_issuer
from powfast.demo.shop import Shop
from powfast.demo.watched import WatchedLedger, view
from powfast.gate import Gate
from powfast.servers.asgi import App, Message, Receive, Scope, Send

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "worker-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def site(shop: Shop) -> App:
    """Make the application: the guarded model, the page, and the operator's view."""
    ledger = WatchedLedger(shop.tariff)
    app = guarded(shop.victim, Gate(new_issuer(), ledger), account_of)
    page = files("powfast.demo").joinpath("page")
    app.mount("/page", StaticFiles(packages=[("powfast.demo", "page")]))
    app.mount("/profile", StaticFiles(packages=[("powfast.profile", "page")]))
    app.mount("/web", StaticFiles(packages=[("powfast", "web")]))

    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(str(page.joinpath("index.html")))

    @app.get("/demo/shop")
    async def goods() -> dict[str, Any]:
        prices = {
            name: getattr(shop.tariff, name) for name in ("base_work", "opening_work", "max_work")
        }
        samples, photographs = shop.samples.images.tolist(), shop.photographs.tolist()
        return {**prices, "samples": samples, "photographs": photographs}

    @app.get("/demo/operator")
    async def operator(request: Request) -> dict[str, Any]:
        caller = Caller(request.headers.get, None, request.scope)
        seen = view(ledger.entries(), account_of(caller).split()[1])
        mine = ledger.account(account_of(caller))
        return {**seen, "credit": 0.0 if mine is None else max(0.0, mine.balance)}

    return with_headers(app)


def account_of(caller: Caller) -> str:
    """Name the account after role and key of "Bearer <role>.<key>", the key as its hash.

    The page makes up a key per visitor, and uses it in two roles: a visitor's and an extractor's.
    """
    role, _, key = (caller.header("authorization") or "").removeprefix("Bearer ").partition(".")
    role = role if role == "extractor" else "visitor"
    return f"{role} {hashlib.sha256(key.encode()).hexdigest()[:6]}"


def with_headers(app: App) -> App:
    """Add the page's policy to every response."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await app(scope, receive, send_more)

    return served


@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def serve(app: App, listening: socket.socket) -> None:
    """Serve until Ctrl-C."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])
