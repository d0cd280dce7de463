"""The zones' scores in tables: of an evaluation, and of a segmenter's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrisr.evaluation.case import COST_METRICS, Metric, Scale, ScoredResult
from mrisr.evaluation.statistics import Row
from mrisr.evaluation.tables import Column, Table, metric_column, patients_in, table_of
from mrisr.models.card import Card
from mrisr.zones.labels import ZONES

#: Figures of a zone; for Hausdorff's and the surface distance see :mod:`mrisr.zones.score`.
ZONE_METRICS = {
    "dice": Metric("Dice", ".3f", 1, True),
    "hd95_mm": Metric("HD95 mm", ".1f", -1, True),
    "asd_mm": Metric("ASD mm", ".2f", -1, True),
    "volume_bias_ml": Metric("bias ml", "+.1f", 0, True),
}
#: Further figures of a zone in the files.
VOLUMES = ("volume_ml", "reference_ml")
#: Figures of the stack.
STACK_METRICS = {
    "psnr": Metric("PSNR dB", ".2f", 1, True),
    "cpu_seconds": COST_METRICS["cpu_seconds"],
}
#: Image that was not restored, which the tables have beside the methods, by the kind of scale.
ORIGINAL = {"degraded": "original image", "measured": "measured stack"}
CARD_TITLES = {
    "held_out": "Held-out patients",
    "trained_on": "Patients it was trained on: not what it reaches on others",
}


def scores_table(rows: Sequence[Row], scale: Scale) -> Table:
    """Every method against the labels, and the image that was not restored."""
    columns = _columns(rows)
    empty = []
    for row in rows:
        found = [row.means.get(f"{zone}.hd95_mm") for zone in ZONES]
        missing = (str(row.patients - (mean.n if mean else 0)) for mean in found)
        empty.append(f"{', '.join(missing)} of {row.patients}")
    columns.append(Column(f"empty {', '.join(ZONES)}", empty))
    for name, metric in STACK_METRICS.items():
        if any(name in r.means for r in rows):
            columns.append(metric_column(rows, name, metric, [ORIGINAL[scale.scoring]]))
    return table_of(f"{scale}: against the labels, {_patients(rows)}", columns)


def agreement_table(rows: Sequence[Row], scale: Scale) -> Table:
    """Every method against what the segmenter says of the image that was not restored."""
    title = f"{scale}: against the segmentation of the {ORIGINAL[scale.scoring]}, {_patients(rows)}"
    return table_of(title, _columns(rows, "agreement."))


def _columns(rows: Sequence[Row], kind: str = "") -> list[Column]:
    """The method, and the figures of every zone."""
    columns = [Column("method", [row.method for row in rows])]
    for zone in ZONES:
        for name, m in ZONE_METRICS.items():
            titled = m._replace(title=f"{zone} {m.title}")
            columns.append(
                metric_column(rows, f"{zone}.{kind}{name}", titled, [*ORIGINAL.values()])
            )
    return columns


def _patients(rows: Sequence[Row]) -> str:
    return patients_in(rows) + (" that models were trained on" if rows[0].seen else "")


def figures_table(results: Sequence[ScoredResult]) -> Table:
    """One row for each stack, scale, method and zone; figures that are not defined are left empty."""
    cells = []
    for r in results:
        means, trained = r.scored.means(), "yes" if r.seen else "no"
        head = [r.case, r.series, r.scale.scoring, f"{r.scale.factor:g}", r.method, trained]
        for zone in ZONES:
            names = [f"{zone}.{name}" for name in (*ZONE_METRICS, *VOLUMES)]
            names += [f"{zone}.agreement.{name}" for name in ZONE_METRICS]
            values = (means.get(name) for name in (*names, *STACK_METRICS))
            cells.append([*head, zone, *("" if v is None else f"{v:.6g}" for v in values)])
    columns = ["case", "series", "scoring", "factor", "method", "trained_on", "zone"]
    columns += [*ZONE_METRICS, *VOLUMES, *(f"agreement_{name}" for name in ZONE_METRICS)]
    return Table("", [*columns, *STACK_METRICS], cells)


def dice_of(card: Card) -> dict[str, float]:
    """Zone -> mean Dice over the card's held-out patients; empty where it was not scored."""
    scores = card.figures.get("held_out", {}).values()
    found = {z: [s[z]["dice"] for s in scores if s[z]["dice"] is not None] for z in ZONES}
    return {zone: float(np.mean(values)) for zone, values in found.items() if values}


def zones_tables(figures: Mapping[str, Any]) -> list[Table]:
    """The figures of a card: a table of the held-out patients, one of those that were trained on."""
    metrics = [(z, n, m) for z in ZONES for n, m in ZONE_METRICS.items()]
    columns = ["patient", *(f"{zone} {m.title}" for zone, _, m in metrics)]
    tables = []
    for group, title in CARD_TITLES.items():
        cells = []
        for case, scores in figures.get(group, {}).items():
            values = ((scores[zone][name], m.format) for zone, name, m in metrics)
            cells.append([case, *("-" if v is None else f"{v:{form}}" for v, form in values)])
        tables += [Table(title, columns, cells)] if cells else []
    return tables
