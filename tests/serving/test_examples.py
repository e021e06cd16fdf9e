"""What the examples' endpoints answer to bodies that nobody meant."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from conftest import ROOT, modules_of, needs
from processes import settings
from service import served

from powfast.clients.httpx import PowAuth

EXAMPLES = ROOT / "examples"
Imported = Callable[[str, str], ModuleType]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Imported]:
    """Import a module of an example's folder, with settings of the test."""
    for name, value in settings(tmp_path, f"sqlite:///{tmp_path}/ledger.db").items():
        monkeypatch.setenv(name, value)
    with ExitStack() as folders:

        def load(folder: str, name: str) -> ModuleType:
            folders.enter_context(modules_of(EXAMPLES / folder))
            return importlib.import_module(name)

        yield load


@pytest.fixture(params=["gunicorn wsgi", "gunicorn asgi", "ray"])
def predictor(request: Any, imported: Imported) -> Iterator[httpx.Client]:
    options: dict[str, Any] = {"auth": PowAuth(), "headers": {"authorization": "Bearer alice"}}
    if request.param == "gunicorn wsgi":
        app = imported("gunicorn_nginx", "app").app
        transport = httpx.WSGITransport(app=app)
        with httpx.Client(base_url="http://example", transport=transport, **options) as client:
            yield client
        return
    if request.param == "ray":
        needs("ray.serve")
        app = imported("ray_serve", "app").guarded()
    else:
        app = imported("gunicorn_nginx", "asgi_app").app
    with served(app) as url, httpx.Client(base_url=url, **options) as client:
        yield client


BAD = [
    b"",
    b"inputs",
    b"[]",
    b"{}",
    b'{"inputs": 1}',
    b'{"inputs": null}',
    b'{"inputs": [1]}',
    b'{"inputs": [["a"]]}',
    b'{"inputs": [[null]]}',
    b'{"inputs": [[NaN]]}',
    b'{"inputs": [[1e400]]}',
    b'{"inputs": [[1e308, 1e308]]}',
]


def test_predictions_refuse_what_is_no_batch(predictor: httpx.Client) -> None:
    said = {"content-type": "application/json"}
    for body in BAD:
        answer = predictor.post("/v1/predict", content=body, headers=said)
        assert answer.status_code == 422, (body, answer.text)
    for asked, answers in ([], []), ([[]], [0]), ([[1, 2.5], [3]], [3.5, 3]):
        answer = predictor.post("/v1/predict", json={"inputs": asked})
        assert (answer.status_code, answer.json()["answers"]) == (200, answers)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"model": "m"},
        {"model": "m", "messages": []},
        {"model": "m", "messages": [1]},
        {"model": "m", "messages": [{"role": "user"}]},
        {"model": 1, "messages": [{"content": "a"}]},
        {"model": "m", "messages": [{"content": "a"}], "stream": "perhaps"},
    ],
)
def test_completions_refuse_what_is_no_chat(imported: Imported, body: Any) -> None:
    with served(imported("dotted_path", "server").app) as url:
        assert httpx.post(url + "/v1/chat/completions", json=body).status_code == 422
