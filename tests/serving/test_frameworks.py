"""One exchange, whatever the framework: real servers, streams and websockets, dotted paths."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import django
import flask
import httpx
import litestar
import openai
import pytest
import websockets
from conftest import PATIENCE, ROOT, modules_of
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from flask_service import serving
from litestar.response import Stream
from processes import settings, started
from service import BASE, KEYS, UNPAID, served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from stores import free_port
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server

from powfast.challenge import Issuer, decode
from powfast.clients.httpx import PowAuth
from powfast.errors import PaymentRequired
from powfast.gate import Gate
from powfast.http import Exchange, challenge_in
from powfast.servers import asgi, wsgi
from powfast.servers.charge import BILL_KEY
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff

ALICE = {"authorization": "Bearer alice"}
ASK = {"x": 1, "evidence": [1.0, 1.0]}
GUARD = {"paths": ("/v1/",)}


def new_gate() -> Gate:
    return Gate(Issuer(KEYS), MemoryLedger(EvidenceTariff(base_work=BASE)), **UNPAID)


class Model:
    """Counts its runs; a stream goes on when the first of its pieces has been seen."""

    def __init__(self) -> None:
        self.runs = 0
        self.seen = threading.Event()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.runs += 1
        return {"answer": body["x"]}

    def pieces(self) -> Iterator[bytes]:
        yield b"first "
        yield b"second" if self.seen.wait(PATIENCE) else b"late"

    async def pieces_async(self) -> AsyncIterator[bytes]:
        yield b"first "
        yield b"second" if await asyncio.to_thread(self.seen.wait, PATIENCE) else b"late"


# -- the same service in each framework: /v1/charge, /v1/require, /v1/stream, /free


def starlette_app(model: Model) -> Any:
    async def charge(request: Request) -> JSONResponse:
        body = await request.json()
        answer = model.answer(body)
        await asgi.bill_of(request.scope).charge(body["evidence"])
        return JSONResponse(answer)

    async def require(request: Request) -> JSONResponse:
        body = await request.json()
        await asgi.bill_of(request.scope).require(body["evidence"])
        return JSONResponse(model.answer(body))

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(model.pieces_async())

    async def free(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    return asgi.PowMiddleware(
        Starlette(
            routes=[
                Route("/v1/charge", charge, methods=["POST"]),
                Route("/v1/require", require, methods=["POST"]),
                Route("/v1/stream", stream),
                Route("/free", free, methods=["POST"]),
            ]
        ),
        new_gate(),
        **GUARD,
    )


def litestar_app(model: Model) -> Any:
    @litestar.post("/v1/charge", status_code=200)
    async def charge(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        body = await request.json()
        answer = model.answer(body)
        await asgi.bill_of(request.scope).charge(body["evidence"])
        return answer

    @litestar.post("/v1/require", status_code=200)
    async def require(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        body = await request.json()
        await asgi.bill_of(request.scope).require(body["evidence"])
        return model.answer(body)

    @litestar.get("/v1/stream")
    async def stream() -> Stream:
        return Stream(model.pieces_async())

    @litestar.post("/free", status_code=200)
    async def free(request: litestar.Request[Any, Any, Any]) -> bytes:
        return await request.body()

    app = litestar.Litestar([charge, require, stream, free], logging_config=None)
    return asgi.PowMiddleware(app, new_gate(), **GUARD)  # type: ignore[arg-type]


def flask_app(model: Model) -> Any:
    app = flask.Flask(__name__)

    @app.post("/v1/charge")
    def charge() -> Any:
        body = flask.request.get_json()
        answer = model.answer(body)
        wsgi.bill_of(flask.request.environ).charge(body["evidence"])
        return answer

    @app.post("/v1/require")
    def require() -> Any:
        body = flask.request.get_json()
        wsgi.bill_of(flask.request.environ).require(body["evidence"])
        return model.answer(body)

    @app.get("/v1/stream")
    def stream() -> Any:
        return flask.Response(model.pieces())

    @app.post("/free")
    def free() -> Any:
        return flask.request.get_data()

    app.register_error_handler(PaymentRequired, lambda error: ("", 402))
    return wsgi.PowMiddleware(app.wsgi_app, new_gate(), **GUARD)


class DjangoUrls:
    """Django knows one configuration in a process: the model is set by each test."""

    model: Model

    @staticmethod
    def charge(request: HttpRequest) -> HttpResponse:
        body = json.loads(request.body)
        answer = DjangoUrls.model.answer(body)
        wsgi.bill_of(request.META).charge(body["evidence"])
        return JsonResponse(answer)

    @staticmethod
    def require(request: HttpRequest) -> HttpResponse:
        body = json.loads(request.body)
        wsgi.bill_of(request.META).require(body["evidence"])
        return JsonResponse(DjangoUrls.model.answer(body))

    @staticmethod
    async def charge_async(request: HttpRequest) -> HttpResponse:
        body = json.loads(request.body)
        answer = DjangoUrls.model.answer(body)
        await asgi.bill_of(request.scope).charge(body["evidence"])
        return JsonResponse(answer)

    @staticmethod
    async def require_async(request: HttpRequest) -> HttpResponse:
        body = json.loads(request.body)
        await asgi.bill_of(request.scope).require(body["evidence"])
        return JsonResponse(DjangoUrls.model.answer(body))

    @staticmethod
    def stream(request: HttpRequest) -> Any:
        return django.http.StreamingHttpResponse(DjangoUrls.model.pieces())

    @staticmethod
    async def stream_async(request: HttpRequest) -> Any:
        return django.http.StreamingHttpResponse(DjangoUrls.model.pieces_async())

    @staticmethod
    def free(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.body)


class DjangoWsgi(DjangoUrls):
    urlpatterns = (
        path("v1/charge", DjangoUrls.charge),
        path("v1/require", DjangoUrls.require),
        path("v1/stream", DjangoUrls.stream),
        path("free", DjangoUrls.free),
    )


class DjangoAsgi(DjangoUrls):
    urlpatterns = (
        path("v1/charge", DjangoUrls.charge_async),
        path("v1/require", DjangoUrls.require_async),
        path("v1/stream", DjangoUrls.stream_async),
        path("free", DjangoUrls.free),
    )


def use_django(urls: type[DjangoUrls], model: Model) -> None:
    DjangoUrls.model = model
    if not django_settings.configured:
        django_settings.configure(
            SECRET_KEY="tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, LOGGING_CONFIG=None
        )
    django_settings.ROOT_URLCONF = urls
    django.urls.set_urlconf(None)
    django.urls.clear_url_caches()


def django_wsgi_app(model: Model) -> Any:
    use_django(DjangoWsgi, model)
    return wsgi.PowMiddleware(get_wsgi_application(), new_gate(), **GUARD)


def django_asgi_app(model: Model) -> Any:
    use_django(DjangoAsgi, model)
    return asgi.PowMiddleware(get_asgi_application(), new_gate(), **GUARD)


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


def served_by_werkzeug(app: Any) -> AbstractContextManager[str]:
    return serving(make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet))


FRAMEWORKS = {
    "starlette": (starlette_app, served),
    "litestar": (litestar_app, served),
    "django-asgi": (django_asgi_app, served),
    "django-wsgi": (django_wsgi_app, served_by_werkzeug),
    "flask": (flask_app, served_by_werkzeug),
}


@pytest.mark.parametrize(("make", "serve"), FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_a_framework_carries_the_exchange(
    make: Callable[[Model], Any], serve: Callable[[Any], AbstractContextManager[str]]
) -> None:
    model = Model()
    with (
        serve(make(model)) as url,
        httpx.Client(base_url=url, headers=ALICE) as plain,
        httpx.Client(base_url=url, headers=ALICE, auth=PowAuth()) as paying,
    ):
        asked = plain.post("/v1/charge", json=ASK)
        token = challenge_in(asked.status_code, asked.headers.get("www-authenticate"))
        assert token is not None, asked.text
        assert decode(token).work == 2 * BASE
        assert "answer" not in asked.json()
        paid = paying.post("/v1/charge", json=ASK)
        assert (paid.status_code, paid.json()) == (200, {"answer": 1})
        assert paid.headers["pow-receipt"] == f"work={2 * BASE}, balance=0"
        assert model.runs == 1

        assert plain.post("/v1/require", json=ASK).status_code == 402
        assert model.runs == 1
        assert paying.post("/v1/require", json=ASK).json() == {"answer": 1}
        assert model.runs == 2

        with plain.stream("GET", "/v1/stream") as response:
            pieces = response.iter_bytes()
            first = next(pieces)
            model.seen.set()  # the second piece waits for the first to have arrived
            assert first + b"".join(pieces) == b"first second"
        assert plain.post("/free", content=b"as it is").content == b"as it is"


def mounted_starlette(model: Model) -> Any:
    return Starlette(routes=[Mount("/api", app=starlette_app(model))])


def mounted_flask(model: Model) -> Any:
    return DispatcherMiddleware(NotFound(), {"/api": flask_app(model)})


@pytest.mark.parametrize(
    ("make", "serve", "path"),
    [
        (litestar_app, served, "//v1/charge"),
        (litestar_app, served, "/v1//charge"),
        (mounted_starlette, served, "/api/v1/charge"),
        (mounted_flask, served_by_werkzeug, "/api/v1/charge"),
    ],
)
def test_what_a_framework_routes_is_guarded(
    make: Callable[[Model], Any],
    serve: Callable[[Any], AbstractContextManager[str]],
    path: str,
) -> None:
    """Litestar sees one slash in two; a mounted application routes without its root."""
    with serve(make(Model())) as url:
        assert httpx.post(url + path, json=ASK, headers=ALICE).status_code == 402


async def test_websockets_are_refused_where_requests_are_guarded() -> None:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        assert BILL_KEY not in websocket.scope
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    app = Starlette(routes=[WebSocketRoute(f"/{path}/talk", echo) for path in ("v1", "v2")])
    with served(asgi.PowMiddleware(app, new_gate(), **GUARD)) as url:
        site = f"ws{url.removeprefix('http')}"
        for path in ("/v1/talk", "//v1/talk"):
            with pytest.raises(websockets.InvalidStatus, match="403"):
                await websockets.connect(site + path, open_timeout=PATIENCE)
        async with websockets.connect(f"{site}/v2/talk", open_timeout=PATIENCE) as talk:
            await talk.send("one")
            assert await talk.recv() == "one"


# -- a server that takes a dotted path


@contextmanager
def dotted(folder: Path, **given: str) -> Iterator[str]:
    port, example = free_port(), ROOT / "examples/dotted_path"
    command = [sys.executable, "server.py", "--port", str(port)]
    command += ["--middleware", "powfast.servers.environment.PowMiddleware"]
    environ = settings(folder, "memory://", BASE, paths="/v1/chat/", **given)
    environ["PYTHONPATH"] = str(example)
    with started(command, port, environ=environ, folder=example) as url:
        yield url


def work_asked(url: str, **more: Any) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}
    response = httpx.post(f"{url}/v1/chat/completions", json=body)
    token = challenge_in(response.status_code, response.headers.get("www-authenticate"))
    assert token is not None, response.text
    return decode(token).work


def test_a_dotted_path_is_all_that_a_server_needs(tmp_path: Path) -> None:
    with dotted(tmp_path) as url, httpx.Client(auth=PowAuth()) as http:
        assert work_asked(url, n=3) == BASE
        assert httpx.get(f"{url}/health").json() == "healthy"
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk", http_client=http, max_retries=0)
        answer = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}]
        )
        assert answer.choices[0].message.content == "You said: hello"
        ask = {"model": "m", "messages": [{"content": "hello"}], "stream": True}
        streamed = http.post(f"{url}/v1/chat/completions", json=ask)
        assert streamed.text.endswith("data: hello\n\ndata: [DONE]\n\n")
        assert streamed.headers["pow-receipt"].startswith(f"work={BASE}")
        malformed = http.post(f"{url}/v1/chat/completions", content=b"{")
        assert malformed.status_code == 422


def test_a_dotted_path_with_wrong_settings_does_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(pytest.fail.Exception, match=r"(?s)wrong:.*- POWFAST_.*- POWFAST_"),
        dotted(tmp_path, ttl="soon", held_bytes="many"),
    ):
        pass


@pytest.mark.parametrize(
    ("request_", "queries"),
    [
        ({"messages": [{"content": "hello"}]}, 1),
        ({"messages": [{"content": "hello"}], "n": None}, 1),
        ({"messages": [{"content": "hello"}], "n": "2"}, 2),
        ({"messages": [[{"content": "hello"}], [{"content": "you"}]], "n": 3}, 6),
        ({"messages": [["hello"], ["you"]], "prompt": ["a"]}, 2),
        ({"prompt": "hello", "n": "64.0"}, 64),
        ({"prompt": "hello", "n": -1}, 1),
        ({"prompt": "hello"}, 1),
        ({"prompt": [17, 4]}, 1),
        ({"prompt": [[17, 4], [17]]}, 2),
        ({"prompt": ["a", "b", "c"], "n": 2.0}, 6),
        ({"input": ["a", "b"]}, 2),
        ([], 1),
        (b"not JSON", 1),
    ],
)
def test_the_example_prices_every_answer_that_a_request_asks_for(
    request_: Any, queries: int
) -> None:
    with modules_of(ROOT / "examples/dotted_path"):
        from pricing import evidence

    body = request_ if isinstance(request_, bytes) else json.dumps(request_).encode()
    asked = Exchange("POST", b"/v1/completions?", body, 200, b"")
    assert evidence(asked) == [1.0] * queries
    assert evidence(asked._replace(status=404)) == []
    assert evidence(asked._replace(method="GET", request=b"")) == []


def test_a_dotted_path_names_what_prices_the_answers(tmp_path: Path) -> None:
    with dotted(tmp_path, evidence="pricing:evidence", max_unpaid_runs="256") as url:
        assert work_asked(url, n=3) == 3 * BASE
        assert work_asked(url) == BASE
