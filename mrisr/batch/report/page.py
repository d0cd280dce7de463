"""Templates of the pages, with everything in them, which escape all that they are given."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mrisr.batch.report import words
from mrisr.io.atomic import write_bytes
from mrisr.view.pages import environment
from mrisr.view.qc import ZONE_COLOURS
from mrisr.zones.labels import TITLES

if TYPE_CHECKING:
    from jinja2 import Environment

#: Name of the page of a study, and of that of all.
PAGE = "report.html"


class Tile(NamedTuple):
    """A figure, what it is, what it is to be seen beside, and how good it is (a class of the style)."""

    label: str
    value: str
    more: str = ""
    grade: str = ""


def fill(template: str, **content: Any) -> str:
    """The text of a template, in which everything given is escaped."""
    return _environment().get_template(template).render(**content)


def write_page(path: Path, template: str, **content: Any) -> Path:
    """Fill a template and write it, whole or not at all. Raises OutputError."""
    return write_bytes(path, fill(template, **content).encode())


@cache
def _environment() -> Environment:
    made = environment("mrisr.batch.report")
    filters = ("advice", "agreement", "duration", "fixed", "memory", "number", "percent", "sides")
    made.filters |= {name: getattr(words, name) for name in filters}
    made.globals |= {
        "colours": {zone: f"rgb({r} {g} {b})" for zone, (r, g, b) in ZONE_COLOURS.items()},
        "look": words.look,
        "stage_titles": words.STAGE_TITLES,
        "zone_titles": TITLES,
    }
    return made
