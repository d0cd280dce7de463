"""The figures at the head of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mrisr.batch.report import words
from mrisr.batch.report.facts import Made, costs
from mrisr.batch.report.tree import MEASURED, Study
from mrisr.zones.labels import TITLES


class Tile(NamedTuple):
    """A figure, what it is, what it is to be seen beside, and how good it is (a class of the style)."""

    label: str
    value: str
    more: str = ""
    grade: str = ""


def study_tiles(
    study: Study, made: list[Made], volumes_ml: Mapping[str, Mapping[str, float]]
) -> list[Tile]:
    """Of one study: zones, agreement, time and memory, where there are any."""
    tiles = _dice(study) or _sizes(study, volumes_ml)
    residuals = [(m.residual, m.grade) for m in made if m.residual is not None]
    if residuals:
        worst, grade = max(residuals)
        more = "residual" if len(residuals) == 1 else "largest residual"
        tiles.append(
            Tile("Agreement with the scan", words.percent(worst), f"{more}, of the range", grade)
        )
    stages = costs(study)
    seconds = [s.seconds for s in stages if s.seconds is not None]
    if seconds:
        tiles.append(Tile("Time", words.duration(sum(seconds)), "all stages"))
    memory = [s.memory_gib for s in stages if s.memory_gib is not None]
    if memory:
        tiles.append(Tile("Peak memory", words.memory(max(memory)), "of a stage"))
    return tiles


def _dice(study: Study) -> list[Tile]:
    """Dice of the first upsampled volume beside that of the measured one."""
    made = [n for n in study.scores if n != MEASURED]
    shown = (made or list(study.scores))[:1]
    tiles = []
    for name in shown:
        title = words.volume_title(name, study.records.get(name, {}))
        for zone, figures in study.scores[name].items():
            before = study.scores.get(MEASURED, {}).get(zone, {}).get("dice")
            more = f"{title}; measured {words.fixed(before, 3)}" if made else title
            label = f"Dice, {TITLES.get(zone, zone)}"
            tiles.append(Tile(label, words.fixed(figures.get("dice"), 3), more))
    return tiles


def _sizes(study: Study, volumes_ml: Mapping[str, Mapping[str, float]]) -> list[Tile]:
    for name, zones in list(volumes_ml.items())[:1]:
        title = f"in the {words.volume_title(name, study.records.get(name, {}))} volume"
        return [
            Tile(TITLES.get(z, z).capitalize(), f"{words.fixed(ml, 1)} ml", title)
            for z, ml in zones.items()
        ]
    return []
