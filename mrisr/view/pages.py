"""HTML pages that hold everything they show: one environment of templates, one base page."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(package: str) -> Environment:
    """The templates in a package's folder ``templates``, and those of this room (``page.html``).

    What they are given is escaped; a name that nobody gave is an error. Filters and globals may be added.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("mrisr.view")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(package: str, template: str, **content: Any) -> str:
    """A page from one of a package's templates."""
    return environment(package).get_template(template).render(**content)


def embedded(png: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
