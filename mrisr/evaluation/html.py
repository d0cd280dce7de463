"""An evaluation as one HTML page that needs nothing else: tables, pictures, error against steps."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from mrisr.evaluation import figures
from mrisr.evaluation.outcome import Evaluation
from mrisr.evaluation.report import described, remarks
from mrisr.evaluation.results import Result
from mrisr.evaluation.tabulate import tables

#: Stacks of each factor that are shown as pictures.
STACKS = 2


def as_html(evaluation: Evaluation) -> str:
    """The page. It holds slices of the patients that were scored."""
    return render(
        "report.html",
        evaluation=evaluation,
        remarks=remarks(evaluation),
        tables=tables(evaluation),
        methods=[described(m) for m in evaluation.methods],
        steps=[
            (factor, embedded(figures.png(figures.against_steps(evaluation, factor))))
            for factor in evaluation.factors
        ],
        pictures=_pictures(evaluation),
        difference=figures.DIFFERENCE,
    )


def _pictures(evaluation: Evaluation) -> list[tuple[str, str]]:
    found = []
    for factor in evaluation.factors:
        stacks: dict[tuple[str, str], list[Result]] = {}
        for result in evaluation.results:
            if result.factor == factor:
                stacks.setdefault((result.case, result.series), []).append(result)
        for (case, series), results in list(stacks.items())[:STACKS]:
            picture = figures.png(figures.comparison(evaluation, _alike(results)))
            found.append((f"{case}, {series}, x{factor:g}", embedded(picture)))
    return found


def _alike(results: Sequence[Result]) -> list[Result]:
    """Those whose picture has the size of the first one's."""
    shape = results[0].scored.reference.shape
    return [r for r in results if r.scored.result.shape == shape]


def render(template: str, **content: Any) -> str:
    """A page from one of the templates beside this module."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mrisr.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def embedded(png: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
