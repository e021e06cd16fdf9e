"""Measuring a browser of this device: it opens a local page, which sends its profile back."""

from __future__ import annotations

import os
import queue
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from powfast.errors import BrowserFailed, InvalidInput
from powfast.profile.document import ClientProfile
from powfast.profile.machine import Usage, this_device

_PROGRAMS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "brave-browser", "brave"),
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
_FLAGS = (
    *("--headless=new", "--disable-gpu", "--no-first-run", "--no-default-browser-check"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_TYPES = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm"}
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
)
_MOST_BYTES = 1 << 20  # of a profile
_SILENCE = 300.0  # seconds without a word from the page

Message = tuple[str, bytes]


def measure_browser(
    program: str | None = None,
    *,
    name: str | None = None,
    quick: bool = False,
    status: Callable[[str], object] = lambda line: None,
) -> ClientProfile:
    """Measure what a browser of this device solves: some minutes, or some seconds where `quick`.

    Parameters
    ----------
    program : str, optional
        A Chromium, or a browser made of it; one that is installed under a usual name by default.
    name : str, optional
        What to call it; the processor's model and the browser by default.
    quick : bool
        Measure less.
    status : callable
        Told what is being measured.

    Raises
    ------
    BrowserFailed
        No browser is found, or it ends, fails or falls silent before it has measured.
    """
    found, before = _found(program), Usage.now()
    status("starting the browser")
    with _page() as (url, messages), _browser(found, url + ("?quick" if quick else "")) as running:
        profile = _profile(running, messages, status)
    device = replace(this_device(), agent=profile.device.agent, features=profile.device.features)
    return replace(
        profile,
        device=device,
        name=name or f"{device.cpu}, {device.agent}",
        warnings=(*before.disturbances(before), *profile.warnings),
    )


def _found(program: str | None) -> str:
    names = _PROGRAMS if program is None else (program,)
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        looked = "no Chromium, Chrome, Edge or Brave is" if program is None else f"{program} is not"
        raise BrowserFailed(f"{looked} installed here: name the program after --browser")
    return found


def _profile(
    running: subprocess.Popen[bytes],
    messages: queue.Queue[Message],
    status: Callable[[str], object],
) -> ClientProfile:
    """Wait for the page's profile."""
    silent = 0.0
    while silent < _SILENCE:
        try:
            kind, body = messages.get(timeout=1.0)
        except queue.Empty:
            if running.poll() is not None:
                ended = f"the browser ended with status {running.returncode}"
                raise BrowserFailed(f"{ended} before it had measured") from None
            silent += 1.0
            continue
        silent = 0.0
        if kind == "profile":
            try:
                return ClientProfile.from_json(body)
            except InvalidInput as error:
                raise BrowserFailed(f"what the browser measured is no profile: {error}") from error
        text = body.decode("utf-8", "replace")[:200].strip('"')
        if kind == "failed":
            raise BrowserFailed(f"the browser could not measure: {text}")
        status(text)
    raise BrowserFailed(f"the browser said nothing for {_SILENCE:.0f} seconds")


@contextmanager
def _page() -> Iterator[tuple[str, queue.Queue[Message]]]:
    """Serve the page under a path that nobody can guess; give its address, and what it posts."""
    secret, messages = secrets.token_urlsafe(16), queue.Queue[Message]()
    package = files("powfast")
    served = {
        f"/{secret}/{folder}/{file.name}": file.read_bytes()
        for folder, source in (("web", package / "web"), ("profile", package / "profile" / "page"))
        for file in source.iterdir()
        if file.is_file()
    }
    handler = partial(_Handler, served, f"/{secret}/profile/", messages)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{secret}/profile/bench.html", messages
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    def __init__(
        self, served: dict[str, bytes], inbox: str, messages: queue.Queue[Message], *rest: Any
    ) -> None:
        self._served, self._inbox, self._messages = served, inbox, messages
        super().__init__(*rest)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body = self._served.get(path)
        self._answer(404 if body is None else 200, _TYPES.get(Path(path).suffix), body or b"")

    def do_POST(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        kind = self.path.removeprefix(self._inbox)
        known = kind in ("profile", "status", "failed") and 0 <= size <= _MOST_BYTES
        if known:
            self._messages.put((kind, self.rfile.read(size)))
        self._answer(204 if known else 404, None, b"")

    def _answer(self, status: int, kind: str | None, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind or "application/octet-stream")
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", _POLICY)
        self.send_header("x-content-type-options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def _browser(program: str, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a browser with a profile folder of its own, which is gone afterwards."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [program, *_FLAGS, *root, f"--user-data-dir={folder}", url]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(timeout=10.0)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
