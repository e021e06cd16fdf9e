"""The site: `make docs` builds it, and fails for a link that leads nowhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCE = METADATA["urls"]["Source"]

project = METADATA["name"]
author = copyright = "the powfast authors"
version = release = METADATA["version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"github_url": SOURCE, "show_toc_level": 2, "navbar_align": "left"}
html_title = "powfast"

myst_heading_anchors = 3
suppress_warnings = ["ref.python"]  # a word of a docstring that names several things
nb_execution_mode = "force"
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
napoleon_use_ivar = True  # attributes of a named tuple are members as well
autodoc_typehints = "none"  # the signature and the docstring both have them


def link_to_source(app: Sphinx, page: str, content: list[str]) -> None:
    """Let links that leave docs/ lead to the repository."""
    up = re.escape("../" * (page.count("/") + 1))
    content[0] = re.sub(rf"\]\({up}([^)]+)\)", rf"]({SOURCE}/blob/main/\1)", content[0])


def setup(app: Sphinx) -> None:
    """Connect."""
    app.connect("source-read", link_to_source)
