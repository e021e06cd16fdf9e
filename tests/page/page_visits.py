"""One visitor's look at the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chromium import patient


@contextmanager
def visit(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """Open the page for a new visitor; no error and no violation of the policy may come up."""
    context = patient(browser.new_context(**options))
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if _is_wrong(message) else None)
    page.on("request", lambda asked: wrong.append(asked.url) if _is_foreign(asked, url) else None)
    try:
        page.goto(url, wait_until="domcontentloaded")
        page.wait_for_selector("#samples button")
        yield page
        assert wrong == []
    finally:
        context.close()


def _is_wrong(message: Any) -> bool:
    # Chromium reports every 402, and what cannot be loaded offline, as an error of its own
    return message.type in ("error", "warning") and "Failed to load resource" not in message.text


def _is_foreign(request: Any, url: str) -> bool:
    return not request.url.startswith((url, "data:", "blob:"))
