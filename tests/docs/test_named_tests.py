"""Every test that a page names is there; the threat model has one in every row that promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md", ROOT / "SECURITY.md"]
KNOWN = [path.name for path in ROOT.glob("tests/**/test_*.py")]
FUNCTIONS = {
    name
    for path in ROOT.glob("tests/**/test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.M)
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`((?:tests/|test_)[\w./]*\w)(?:::\w+)?`", page.read_text()))
    missing = [
        name
        for name in named
        if not (ROOT / name).exists() and name not in KNOWN and name not in FUNCTIONS
    ]
    assert not missing


def test_every_row_of_the_threat_model_that_promises_names_its_test() -> None:
    rows = re.findall(r"^\| (.*) \|$", (ROOT / "docs/threats.md").read_text(), re.M)
    cells = [row.split(" | ") for row in rows if not row.startswith("threat ")]
    assert len(cells) > 30
    for threat, holds, test, *_ in cells:
        assert holds.startswith("nothing") or "`test" in test, threat
