"""Every Python snippet in the documentation runs, in order; commands and links are right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, modules_of

from powfast.cli import main, parser
from powfast.servers.settings import Settings

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *GUIDES]
LINKED = [*ROOT.glob("*.md"), *PAGES[1:], *ROOT.glob("examples/*/*.md")]
BLOCK = re.compile(r"^```(python|toml|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:py|toml))\n")
COMMAND = re.compile(r"^powfast ([^#\n]*)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)")
PREPARES = ("calibrate", "keys make")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_snippets_run(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A guide's files are there as well, its settings load, and what prepares them runs."""
    monkeypatch.chdir(tmp_path)
    with modules_of(tmp_path):
        run(page, tmp_path)


def run(page: Path, folder: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text()
    for match in BLOCK.finditer(text):
        language, block = match.groups()
        if page in GUIDES and (named := FILE.match(block)):
            (folder / named[1]).write_text(block)
        if language == "console" and (folder / "prepare.py").exists():
            for line in COMMAND.findall(block):
                assert not line.startswith(PREPARES) or main(shlex.split(line)) == 0
        if language == "python":
            line = text.count("\n", 0, match.start()) + 1
            exec(compile("\n" * line + block, str(page), "exec"), namespace)
    if (folder / "powfast.toml").exists():
        Settings.load(folder / "powfast.toml")


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            assert anchor in map(slug, HEADING.findall(linked.read_text())), f"{target}#{anchor}"


def slug(heading: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for language, block in BLOCK.findall(page.read_text()):
        for line in COMMAND.findall(block) if language == "console" else ():
            words = shlex.split(line.replace("[", "").replace("]", ""))  # optional: taken
            parser().parse_args(words)  # else it exits
