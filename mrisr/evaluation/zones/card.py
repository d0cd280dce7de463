"""The figures of a zonal segmenter's card: what it reached on images that were not restored."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrisr.core.errors import UsageError
from mrisr.evaluation.cache import finite
from mrisr.evaluation.experiment import Evaluation
from mrisr.evaluation.tables import Table
from mrisr.evaluation.zones.case import Frozen
from mrisr.evaluation.zones.score import ORIGINAL, ZONE_METRICS
from mrisr.models.card import Card
from mrisr.models.find import card_path, read_zones_card
from mrisr.models.store import write_card
from mrisr.zones.labels import ZONES
from mrisr.zones.model import DEFAULT


def card_figures(evaluation: Evaluation, frozen: Frozen) -> dict[str, Any]:
    """Figures of the patients' original images: JSON-ready, patients that were trained on apart."""
    groups: dict[str, dict[str, Any]] = {"held_out": {}, "trained_on": {}}
    for result in evaluation.results:
        if result.method == ORIGINAL[result.scale.scoring]:
            trained = result.case in (frozen.trained or ())
            scores = evaluation.experiment.figures(result.scored)["labels"]
            groups["trained_on" if trained else "held_out"].setdefault(result.case, finite(scores))
    return {"command": f"{evaluation.command} --card", "reference": "labels", **groups}


def write_zones_figures(evaluation: Evaluation, frozen: Frozen, name: str | None) -> None:
    """Write the figures into the card of the segmenter that made them.

    Args:
        name: of the model, or its path; None for the bundled one.

    Raises:
        UsageError: the segmenter has no card.
        OutputError: the card cannot be written.
    """
    if frozen.trained is None:
        raise UsageError("--card: a bundle or an nnU-Net has no card to write into")
    path = card_path(name or DEFAULT)
    card = read_zones_card(path)
    write_card(card.model_copy(update={"figures": card_figures(evaluation, frozen)}), path)


def dice_of(card: Card) -> dict[str, float]:
    """Zone -> mean Dice over the card's held-out patients; empty where it was not scored."""
    scores = card.figures.get("held_out", {}).values()
    found = {z: [s[z]["dice"] for s in scores if s[z]["dice"] is not None] for z in ZONES}
    return {zone: float(np.mean(values)) for zone, values in found.items() if values}


def zones_tables(figures: dict[str, Any]) -> list[Table]:
    """The figures of a card: a table of the held-out patients, one of those that were trained on."""
    titles = {
        "held_out": "Held-out patients",
        "trained_on": "Patients it was trained on: not what it reaches on others",
    }
    return [_table(t, figures[group]) for group, t in titles.items() if figures.get(group)]


def _table(title: str, patients: dict[str, Any]) -> Table:
    columns = [f"{zone} {m.title}" for zone in ZONES for m in ZONE_METRICS.values()]
    cells = []
    for case, scores in patients.items():
        values = [(scores[zone][name], m) for zone in ZONES for name, m in ZONE_METRICS.items()]
        cells.append([case, *("-" if v is None else f"{v:{m.format}}" for v, m in values)])
    return Table(title, ["patient", *columns], cells)
