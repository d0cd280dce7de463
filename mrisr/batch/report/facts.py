"""Tables and tiles of the page of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from mrisr.batch.names import SOURCE, VOLUME
from mrisr.batch.report import words
from mrisr.batch.report.tree import Figures, Json, Study, mapping, number
from mrisr.batch.status import StageStatus
from mrisr.zones.labels import TITLES, ZONES

_COUNTS = {1: "One", 2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}


class Made(NamedTuple):
    """An upsampled volume: what it is called and where it lies, its grids, how it was made, what it cost."""

    title: str
    path: str
    voxel_before: str
    voxel_after: str
    matrix: str
    model: str
    steps: str
    residual: float | None
    grade: str
    agreement: str
    seconds: float | None
    memory_gib: float | None


class Score(NamedTuple):
    """One zone of one volume; ``gain`` is its Dice less that of the measured volume."""

    volume: str
    measured: bool
    zone: str
    figures: Mapping[str, float | None]
    gain: float | None


class Failure(NamedTuple):
    """A stage that failed, why, and what to do."""

    title: str
    reason: str
    advice: str


class Tile(NamedTuple):
    """A figure, what it is, what it is to be seen beside, and how good it is (a class of the style)."""

    label: str
    value: str
    more: str = ""
    grade: str = ""


def title_of(study: Study, name: str) -> str:
    """The name of a volume on the pages."""
    return words.volume_title(name, study.records.get(name, {}))


def made(study: Study) -> list[Made]:
    """The upsampled volumes."""
    return [_made(name, record) for name, record in study.records.items()]


def scores(study: Study) -> list[Score]:
    """The scores, zone by zone, the measured volume first."""
    measured = study.scores.get(SOURCE, {})
    return [
        Score(
            title_of(study, name),
            name == SOURCE,
            zone,
            zones[zone],
            None if name == SOURCE else _difference(zones, measured, zone),
        )
        for zone in ZONES
        for name, zones in study.scores.items()
        if zone in zones
    ]


def failures(stages: Sequence[StageStatus]) -> list[Failure]:
    """The stages that failed."""
    return [
        Failure(words.STAGE_TITLES[s.name], s.reason, words.advice(s.reason))
        for s in stages
        if s.state == "failed"
    ]


def notes(study: Study, problems: list[str]) -> list[tuple[str, str]]:
    """Notes of readers, models and writers: the volume that each is about, and the text."""
    found = [("this page", text) for text in problems]
    found += [("this page", f"{path} holds no record.") for path in study.unreadable]
    found += [(part.name, text) for part in study.parts for text in part.notes]
    for of, records in (("", study.records), ("zones, ", study.zones)):
        for name, record in records.items():
            told = record.get("notes")
            told = told if isinstance(told, list) else []
            found += [(f"{of}{title_of(study, name)}", str(text)) for text in told]
    return list(dict.fromkeys(found))


def provenance(study: Study) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that the volumes depend on: records of volumes and zones, digests of each part."""
    parts = []
    for what, of, room, records in (
        ("Volume", "", "upsampled", study.records),
        ("Zones", "of ", "zones", study.zones),
    ):
        for name, record in records.items():
            told = {k: v for k, v in record.items() if k not in ("notes", "use")}
            title = f"{what} {of}{title_of(study, name)} ({room}/{name}{VOLUME})"
            parts.append((title, words.flattened(told)))
    keys = ("key", "parameters", "model", "inputs", "outputs", "sha256")
    for part in study.parts:
        told = {key: value for key, value in asdict(part).items() if key in keys and value}
        parts.append((f"Stage {part.stage}, {part.name}", words.flattened(told)))
    return [part for part in parts if part[1]]


def headline(study: Study) -> str:
    """The study in a sentence or two."""
    titles = [m.title for m in made(study)]
    if not titles:
        return "No super-resolved volume was made."
    count = _COUNTS.get(len(titles), str(len(titles)))
    what = "volume was" if len(titles) == 1 else "volumes were"
    text = f"{count} super-resolved {what} made: {', '.join(titles)}."
    return f"{text} Then a stage failed." if study.state == "failed" else text


def tiles(study: Study) -> list[Tile]:
    """The figures at the head of the page: zones, agreement, time and memory, where there are any."""
    found = _dice(study) or _sizes(study)
    residuals = [(m.residual, m.grade) for m in made(study) if m.residual is not None]
    if residuals:
        worst, grade = max(residuals)
        more = "residual" if len(residuals) == 1 else "largest residual"
        found.append(
            Tile("Agreement with the scan", words.percent(worst), f"{more}, of the range", grade)
        )
    seconds = sum(stage.seconds for stage in study.stages)
    if seconds:
        found.append(Tile("Time", words.duration(seconds), "all stages"))
    memory = [gib for s in study.stages if (gib := s.peak_memory_gib.get("process"))]
    if memory:
        found.append(Tile("Peak memory", words.memory(max(memory)), "of a stage"))
    return found


def _dice(study: Study) -> list[Tile]:
    """Dice of the first upsampled volume beside that of the measured one."""
    upsampled = [n for n in study.scores if n != SOURCE]
    found = []
    for name in (upsampled or list(study.scores))[:1]:
        for zone, figures in study.scores[name].items():
            before = study.scores.get(SOURCE, {}).get(zone, {}).get("dice")
            more = f"; measured {words.fixed(before, 3)}" if upsampled else ""
            label = f"Dice, {TITLES.get(zone, zone)}"
            value = words.fixed(figures.get("dice"), 3)
            found.append(Tile(label, value, f"{title_of(study, name)}{more}"))
    return found


def _sizes(study: Study) -> list[Tile]:
    for name, zones in list(study.volumes_ml.items())[:1]:
        title = f"in the {title_of(study, name)} volume"
        return [
            Tile(TITLES.get(z, z).capitalize(), f"{words.fixed(ml, 1)} ml", title)
            for z, ml in zones.items()
        ]
    return []


def _made(name: str, record: Json) -> Made:
    before, after = mapping(record.get("input")), mapping(record.get("output"))
    parameters, model = mapping(record.get("parameters")), mapping(record.get("model"))
    steps = number(parameters.get("steps"))
    grade, told = words.agreement(record)
    return Made(
        words.volume_title(name, record),
        f"upsampled/{name}{VOLUME}",
        words.millimetres(before.get("spacing_mm")),
        words.millimetres(after.get("spacing_mm")),
        words.voxels(after.get("shape")),
        str(model.get("name") or words.NONE),
        words.NONE if steps is None else f"{steps:g}",
        number(mapping(record.get("residual")).get("rms_of_range")),
        grade,
        told,
        number(record.get("seconds")),
        number(mapping(record.get("peak_memory_gib")).get("process")),
    )


def _difference(zones: Figures, measured: Figures, zone: str) -> float | None:
    here, there = zones[zone].get("dice"), measured.get(zone, {}).get("dice")
    return None if here is None or there is None else here - there
