"""Lines of prose in the documentation are at most 100 characters long."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "docs", "docs/guides", "examples/*", "powfast/web", "benchmarks/extraction")
PAGES = [page for folder in FOLDERS for page in sorted(ROOT.glob(f"{folder}/*.md".lstrip("/")))]
CODE = re.compile(r"^```.*?^```|^(?:    |\t).*?$", re.MULTILINE | re.DOTALL)
UNBROKEN = ("|", "!", "<")  # tables, pictures, HTML


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_wraps_at_100(page: Path) -> None:
    lines = CODE.sub("", page.read_text()).splitlines()
    assert [
        line
        for line in lines
        if len(line) > 100 and not line.lstrip().startswith(UNBROKEN) and "](" not in line
    ] == []
