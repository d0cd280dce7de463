"""The experiment as files: CSV and JSON for programs, Markdown for reading, an HTML page with pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrisr.evaluation.html import embedded, render
from mrisr.evaluation.kept import finite
from mrisr.evaluation.report import described, markdown, shortened
from mrisr.evaluation.zones.figures import pictures_of
from mrisr.evaluation.zones.outcome import ZonesEvaluation, remarks
from mrisr.evaluation.zones.scored import ZONE_METRICS
from mrisr.evaluation.zones.tables import tables
from mrisr.io.atomic import json_bytes, make_folder, write_together
from mrisr.zones.labels import ZONES

FIGURES = [*ZONE_METRICS, "volume_ml", "reference_ml"]


def write_zones_report(evaluation: ZonesEvaluation, output: Path) -> None:
    """Write ``results.csv``, ``.json``, ``.md``, ``.html`` and the pictures as PNG. Raises OutputError."""
    pictures = pictures_of(evaluation)
    files = {
        output / "results.json": json_bytes(as_dictionary(evaluation)),
        output / "results.csv": as_csv(evaluation).encode(),
        output / "results.md": as_markdown(evaluation).encode(),
        output / "results.html": as_html(evaluation, pictures).encode(),
    }
    folder = make_folder(output / "pictures")
    files |= {folder / f"{name}.png": picture.png for name, picture in pictures.items()}
    write_together(files)


def as_dictionary(evaluation: ZonesEvaluation) -> dict[str, Any]:
    """Everything, ready for JSON; numbers with six digits."""
    frozen = evaluation.frozen
    content = {
        "format": 1,
        "command": evaluation.command,
        "protocol": evaluation.protocol,
        "remarks": remarks(evaluation),
        "machine": evaluation.machine,
        "settings": evaluation.settings.model_dump(mode="json"),
        "segmenter": {
            "name": frozen.name,
            "sha256": frozen.segmenter.sha256,
            "trained_on": frozen.trained,
        },
        "methods": [described(m) for m in evaluation.methods],
        "rows": [row.as_json() for row in evaluation.rows],
        "cases": [
            {"case": r.case, "series": r.series, **r.scale._asdict(), "method": r.method}
            | {"seen_by": list(evaluation.seen.get(r.case, ()))}
            | r.scored.figures()
            for r in evaluation.results
        ],
        "failures": [f._asdict() for f in evaluation.failures],
        "notes": list(evaluation.notes),
    }
    return dict(finite(shortened(content)))


def as_csv(evaluation: ZonesEvaluation) -> str:
    """One row for each stack, scale, method and zone; what is not defined is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["case", "series", "scoring", "factor", "method", "trained_on", "zone"]
    agreement = [f"agreement_{name}" for name in ZONE_METRICS]
    writer.writerow([*head, *FIGURES, *agreement, "psnr", "cpu_seconds"])
    for r in evaluation.results:
        means, trained = r.means(), "yes" if r.seen else "no"
        for zone in ZONES:
            line = [r.case, r.series, r.scale.scoring, f"{r.scale.factor:g}", r.method, trained]
            score = r.scored.labels[zone].as_json()
            values = [score[name] for name in FIGURES]
            values += [means.get(f"{zone}.agreement.{name}") for name in ZONE_METRICS]
            values += [means.get(name) for name in ("psnr", "cpu_seconds")]
            writer.writerow([*line, zone, *("" if v is None else f"{v:.6g}" for v in values)])
    return text.getvalue()


def as_markdown(evaluation: ZonesEvaluation) -> str:
    """The report as Markdown, without pictures."""
    return markdown(
        evaluation.command, remarks(evaluation), tables(evaluation), evaluation.failures
    )


def as_html(evaluation: ZonesEvaluation, pictures: Mapping[str, Any]) -> str:
    """The page. It holds slices of the patients that were scored."""
    return render(
        "zones.html",
        evaluation=evaluation,
        remarks=remarks(evaluation),
        tables=tables(evaluation),
        methods=[described(m) for m in evaluation.methods],
        pictures=[(p.title, p.caption, embedded(p.png)) for p in pictures.values()],
    )
