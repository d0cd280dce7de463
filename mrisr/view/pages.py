"""HTML pages that hold everything they show, from one base page; and figures of matplotlib as PNG."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure


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


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, apart from matplotlib's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as the bytes of a PNG, the same for the same figure."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, metadata={"Software": "mrisr"})
    return picture.getvalue()
