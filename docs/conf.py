"""Sphinx configuration: MyST pages, the API from docstrings, the command line from its own help, and
the models' page from their cards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from latex2mathml.converter import convert

from mrisr import __version__

if TYPE_CHECKING:
    from mrisr.models.card import Card, ModelCard

project = "mrisr"
author = "The mrisr authors"
project_copyright = "2026, The mrisr authors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "scripts"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "amsmath"]
myst_heading_anchors = 3

#: Options of a command keep their two hyphens.
smartquotes = False
autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "signature"
autodoc_use_type_comments = False
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True

#: reStructuredText are the stubs that autosummary writes.
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".ipynb": "markdown"}
html_theme = "furo"
html_title = f"mrisr {release}"
html_static_path = ["_static"]
html_show_sphinx = False
#: Formulas are MathML, which browsers draw by themselves: no script, no network.
html_math_renderer = "mathml"

COMMANDS_MARKER = "<!-- commands -->"


def write_commands(_app: Any, _page: str, source: list[str]) -> None:
    """Put the commands, as the program itself declares them, in place of the marker."""
    if COMMANDS_MARKER not in source[0]:
        return
    command = [sys.executable, "-m", "typer", "mrisr.cli", "utils", "docs", "--name", "mrisr"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    source[0] = source[0].replace(COMMANDS_MARKER, text[text.index("\n## ") :])


def show_notebook(app: Any, page: str, source: list[str]) -> None:
    """Turn a notebook with its outputs into Markdown."""
    if Path(app.env.doc2path(page)).suffix != ".ipynb":
        return
    parts = []
    for cell in json.loads(source[0])["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            said = "".join(output.get("text", data.get("text/plain", "")))
            picture = "".join(data.get("image/png", "")).replace("\n", "")
            shown = f"![](data:image/png;base64,{picture})" if picture else f"```text\n{said}\n```"
            parts.append(shown)
    source[0] = "\n\n".join(parts)


MODELS_HEAD = """<!-- Written by the docs build from the cards in mrisr/models; do not edit. -->

# Models

What is bundled with mrisr, as the JSON card beside each weights file states it;
`mrisr models NAME` prints the same. Every figure comes from the command named above it, on patients
that the model has not seen. *Gain* is PSNR over interpolation, *texture* the power of fine detail
against the reference's (0 dB is as much, blur is negative), *spectrum error* how far the power is off
over all frequencies, too much and too little alike, *residual* the disagreement with the
measurement as a share of the intensity range. What a standard deviation is and covers:
[](../how-to/trust-the-result.md).

Read the gains with two things in mind. The low-resolution images were made by the very operator that
the model is told of, without noise unless a card states some, so they are an easier case than a
scanner's. And they are gains of the whole method: network and projection onto the measurement, against
interpolation alone.
"""


def write_models(_app: Any) -> None:
    """Write reference/models.md, if it has changed."""
    from mrisr.models.card import BUNDLED, COMPARISON, read_any_card, read_card

    released = [read_any_card(path) for path in sorted(BUNDLED.glob("*.json"))]
    compared = [read_card(path) for path in sorted(COMPARISON.glob("*.json"))]
    text = models_page(released) + comparison_section(compared)
    page = Path(__file__).parent / "reference" / "models.md"
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def models_page(cards: list[Card]) -> str:
    """The page of all cards as Markdown."""
    from mrisr.cli.cards import card_sections

    parts = [section for card in cards for section in card_sections(card)]
    return "\n".join([MODELS_HEAD, *(parts or ["No model is bundled yet.\n"])])


COMPARISON_HEAD = """
## Models of the comparison

Trained on the same pairs, each for the same minutes of one core, to be compared with one another: see
[the methods](../explanation/methods.md) and [their results](../results.md). Their configurations are in
`configs/comparison/`; `mrisr models NAME` prints a card, with the command that made the figures. *Gain* is
that of the card's default over interpolation.

| model | method | parameters | steps trained | minutes of one core | hardware | default | gain |
|---|---|---|---|---|---|---|---|
"""


def comparison_section(cards: list[ModelCard]) -> str:
    """A line for each model of the comparison."""
    from mrisr.methods import build_restorer
    from mrisr.models.card import gains

    lines = []
    for card in cards:
        network = build_restorer(card, card.condition).network
        size = sum(p.numel() for p in network.parameters()) / 1e6
        t = card.training
        figures = gains(card.figures) if card.figures else {}
        found = ", ".join(f"x{f:g} {g:+.2f} dB" for f, g in figures.items()) or "not scored"
        lines.append(
            f"| {card.name} | {card.method} | {size:.2f} M | {t.iterations} of {t.batch} crops "
            f"| {t.minutes:g} | {t.hardware} | {card.default_steps} step(s) | {found} |"
        )
    return COMPARISON_HEAD + "\n".join(lines) + "\n"


def write_formula(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula of a page, or of a line, as MathML."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    if block:  # wide ones scroll
        formula = f'<div style="overflow: auto hidden; padding: 0.3em">{formula}</div>'
    translator.body.append(formula)
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    app.connect("builder-inited", write_models)
    app.connect("source-read", write_commands)
    app.connect("source-read", show_notebook)
