"""Templates of the pages, with everything in them, which escape all that they are given."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrisr.batch.report import words
from mrisr.batch.report.outlines import COLOURS
from mrisr.io.atomic import write_bytes
from mrisr.zones.labels import TITLES

if TYPE_CHECKING:
    from jinja2 import Environment


def fill(template: str, **content: Any) -> str:
    """The text of a template, in which everything given is escaped."""
    return _environment().get_template(template).render(**content)


def write_page(path: Path, template: str, **content: Any) -> Path:
    """Fill a template and write it, whole or not at all. Raises OutputError."""
    return write_bytes(path, fill(template, **content).encode())


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mrisr.batch.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": words.duration,
        "fixed": words.fixed,
        "memory": words.memory,
        "percent": words.percent,
    }
    environment.globals |= {
        "colours": {zone: f"rgb({r} {g} {b})" for zone, (r, g, b) in COLOURS.items()},
        "disclaimer": words.DISCLAIMER,
        "stage_titles": words.STAGE_TITLES,
        "states": words.STATES,
        "zone_titles": TITLES,
    }
    return environment
