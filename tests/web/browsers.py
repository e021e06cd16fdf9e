"""One site with a guarded API, and the two places where the client runs: Chromium and Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chromium import patient
from conftest import ROOT, missing
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from till import Till

from powfast import Gate, Issuer, MemoryLedger
from powfast.http import challenge_in, payment_required, text_of
from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.tariff import EvidenceTariff

WEB = ROOT / "powfast" / "web"
STRICT = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "worker-src 'self'; connect-src 'self'"
)
POLICIES = {
    "open": "",
    "strict": STRICT,
    "no-wasm": STRICT.replace(" 'wasm-unsafe-eval'", ""),
    "no-worker": STRICT.replace("worker-src 'self'", "worker-src 'none'"),
}
BASE = 20_000

# What scripts have at hand besides `powfast` and `arg`.
PRELUDE = """
const caught = async (promise) => {
  try { return { value: await promise }; } catch (error) {
    return { name: error.name, code: error.code, message: error.message };
  }
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
"""


class Site:
    """The package's files under each policy, and an API behind a gate. Remembers every request."""

    def __init__(self) -> None:
        self.issuer = Issuer({"2026a": bytes(32)})
        self.seen: list[tuple[str, str | None, bytes]] = []  # path, solution, body
        self.till = Till()  # asks for prepaid work
        self.elsewhere = ""  # where /away and /paid-away lead
        gate = Gate(self.issuer, MemoryLedger(EvidenceTariff(base_work=BASE)))
        app = self.app = FastAPI()
        app.add_middleware(PowMiddleware, gate=gate, paths=("/v1/",))
        opening = EvidenceTariff(base_work=BASE, opening_work=BASE, probation=False)
        gate = Gate(self.issuer, MemoryLedger(opening))
        app.add_middleware(PowMiddleware, gate=gate, paths=("/dear/",))
        # a page of another origin may ask, but not read WWW-Authenticate
        app.add_middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["GET", "POST"],
            allow_headers=["pow-solution"],
            expose_headers=["pow-receipt", "pow-challenge"],
        )

        @app.middleware("http")
        async def record(request: Request, call_next: Any) -> Response:
            body = await request.body() if request.method == "POST" else b""
            self.seen.append((request.url.path, request.headers.get("pow-solution"), body))
            response: Response = await call_next(request)
            if policy := POLICIES.get(request.url.path.split("/")[1]):
                response.headers["content-security-policy"] = policy
            return response

        @app.post("/dear/echo")
        async def dear(request: Request, pow: Charge) -> Response:
            body = await request.body()
            await pow.charge([1.0, 1.0])  # more than is paid with an opening
            return Response(body)

        @app.api_route("/v1/echo", methods=["GET", "POST"])
        async def echo(request: Request, pow: Charge) -> Response:
            body = await request.body()
            await pow.charge([1.0])
            return Response(body or b"nothing")

        @app.post("/greedy")
        async def greedy() -> Response:
            return self.challenge(1000)

        @app.get("/malformed")
        async def malformed() -> Response:
            return Response(status_code=402, headers={"www-authenticate": 'PoW challenge="AAAA"'})

        @app.api_route("/away/{status}", methods=["GET", "POST"])
        async def away(status: int) -> Response:
            return RedirectResponse(self.elsewhere + "/v1/echo", status)

        @app.api_route("/paid-{where}/{status}", methods=["GET", "POST"])
        async def paid_away(request: Request, where: str, status: int) -> Response:
            if request.headers.get("pow-solution"):
                to = self.elsewhere if where == "away" else ""
                return RedirectResponse(to + "/v1/echo", status)
            return self.challenge(1000)

        @app.get("/large")
        async def large() -> Response:
            return Response("[" * 70_000, 402, media_type="application/problem+json")

        @app.api_route("/till/{path:path}", methods=["GET", "POST"])
        async def till(request: Request, path: str) -> Response:
            account = request.headers.get("authorization", "anonymous")
            solution = request.headers.get("pow-solution")
            status, headers = self.till.answer(f"/{path}", account, solution)
            if token := challenge_in(status, headers.get("www-authenticate")):
                return self.asking(token)
            return Response(b"{}", status, headers)

        for name in POLICIES:
            app.mount(f"/{name}/web", StaticFiles(directory=WEB))
            app.add_api_route(
                f"/{name}/page", lambda: HTMLResponse("<!doctype html><title>powfast</title>")
            )

    def challenge(self, work: int) -> Response:
        return self.asking(self.issuer.issue(work=work))

    def asking(self, token: bytes) -> Response:
        answer = payment_required(token, "pay")
        return Response(answer.body, answer.status, dict(text_of(answer.headers)))

    def solutions(self) -> list[str]:
        """Return the paths that were sent a solution."""
        return [path for path, solution, _ in self.seen if solution is not None]


class Node:
    """Each script in a process of its own, which has to end by itself."""

    def __init__(self, folder: Path) -> None:
        self.program = shutil.which("node") or missing("no node here")
        self.folder = folder

    def run(self, script: str, arg: object = None) -> Any:
        file = self.folder / "script.mjs"
        file.write_text(
            f'const load = (name) => import("{WEB.as_uri()}/" + name);'
            'const powfast = await load("node.js");'
            f"{PRELUDE}; const arg = {json.dumps(arg)};"
            f"console.log(JSON.stringify((await ({script})()) ?? null));"
        )
        done = subprocess.run(
            [self.program, file], capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


class Chromium:
    """Pages of one browser: the usual one under the strict policy, and any other."""

    def __init__(self, browser: Any, origin: str) -> None:
        self.browser, self.origin = browser, origin
        self.usual: Any = None

    @contextmanager
    def page(
        self, policy: str = "strict", origin: str | None = None, init: str = ""
    ) -> Iterator[Any]:
        context = patient(self.browser.new_context())
        try:
            page = context.new_page()
            if init:
                page.add_init_script(init)
            page.goto(f"{origin or self.origin}/{policy}/page")
            yield page
        finally:
            context.close()

    def run(self, script: str, arg: object = None, *, page: Any = None, **options: Any) -> Any:
        if page is None and not options:
            page = self.usual
        if page is None:
            with self.page(**options) as page:
                return self.run(script, arg, page=page)
        return page.evaluate(
            "async (arg) => {"
            'const load = (name) => import(new URL("./web/" + name, location.href));'
            'const powfast = await load("powfast.js");'
            f"{PRELUDE}; return (await ({script})()) ?? null; }}",
            arg,
        )
