"""Debian's Chromium through Playwright, which brings its own driver."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from conftest import PATIENCE, missing

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def launcher() -> Iterator[Callable[..., Any]]:
    """Give what starts a browser without a window, with more flags."""
    program = shutil.which("chromium") or missing("no chromium here")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright here")
    with sync_playwright() as playwright:
        yield lambda *more: playwright.chromium.launch(
            executable_path=program, args=[*FLAGS, *more], timeout=1000 * PATIENCE
        )


def patient(context: Any) -> Any:
    """A context of a browser whose pages are waited for as long as all else here."""
    context.set_default_timeout(1000 * PATIENCE)
    return context


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """Give one browser."""
    with launcher() as launch:
        browser = launch(*flags)
        yield browser
        browser.close()
