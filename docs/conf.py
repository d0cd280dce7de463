"""Sphinx configuration: MyST pages, the API from docstrings, the command line from its own help."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version as installed_version
from typing import Any

project = "mrisr"
author = "The mrisr authors"
project_copyright = "2026, The mrisr authors"
version = release = installed_version("mrisr")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "amsmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"mrisr {release}"
html_static_path = ["_static"]
html_show_sphinx = False

COMMANDS_MARKER = "<!-- commands -->"


def write_commands(_app: Any, _page: str, source: list[str]) -> None:
    """Put the commands, as the program itself declares them, in place of the marker."""
    if COMMANDS_MARKER not in source[0]:
        return
    command = [sys.executable, "-m", "typer", "mrisr.cli", "utils", "docs", "--name", "mrisr"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    source[0] = source[0].replace(COMMANDS_MARKER, text[text.index("\n## ") :])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", write_commands)
