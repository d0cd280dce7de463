"""What the small files of a study say, as the tables of its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mrisr.batch.report import words
from mrisr.batch.report.tree import (
    MEASURED,
    VOLUME,
    Json,
    Stage,
    Study,
    mapping,
    memory_gib,
    number,
)
from mrisr.zones.labels import ZONES

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

    stage: str
    title: str
    reason: str
    advice: str


def made(study: Study) -> list[Made]:
    """The upsampled volumes."""
    return [_made(name, record) for name, record in study.records.items()]


def scores(study: Study) -> list[Score]:
    """The scores, zone by zone, the measured volume first."""
    measured = study.scores.get(MEASURED, {})
    return [
        Score(
            words.volume_title(name, study.records.get(name, {})),
            name == MEASURED,
            zone,
            zones[zone],
            None if name == MEASURED else _difference(zones, measured, zone),
        )
        for zone in ZONES
        for name, zones in study.scores.items()
        if zone in zones
    ]


def sizes(
    study: Study, volumes_ml: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, Mapping[str, float]]]:
    """Volumes of the zones in ml, of each volume that was segmented."""
    return [
        (words.volume_title(name, study.records.get(name, {})), zones)
        for name, zones in volumes_ml.items()
    ]


def failures(study: Study) -> list[Failure]:
    """The stages that failed."""
    return [failure(s.name, s.reason) for s in study.failures]


def failure(stage: str, reason: str) -> Failure:
    """A failure in words."""
    return Failure(stage, words.STAGE_TITLES.get(stage, ""), reason, words.advice(reason))


def costs(study: Study) -> list[Stage]:
    """The stages but the last, which is not over when the page is written."""
    return [s for s in study.stages if s.name != "report"]


def notes(study: Study, problems: list[str]) -> list[tuple[str, str]]:
    """What was found and handled on the way: which volume it is about, and the text."""
    found = [("this page", text) for text in problems]
    found += [("this page", f"{path} holds no record.") for path in study.unreadable]
    for stage in study.stages:
        for part, record in mapping(stage.status.get("parts")).items():
            told = _list(mapping(mapping(record).get("facts")).get("notes"))
            found += [(str(part), str(text)) for text in told]
    for name, record in study.records.items():
        title = words.volume_title(name, record)
        found += [(title, str(text)) for text in _list(record.get("notes"))]
    for name, record in study.zones.items():
        title = f"zones, {words.volume_title(name, study.records.get(name, {}))}"
        found += [(title, str(text)) for text in _list(record.get("notes"))]
    return list(dict.fromkeys(found))


def uncertainty(study: Study) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the records say of uncertainty, for the volumes that have any."""
    return [
        (words.volume_title(name, record), words.flattened(mapping(record["uncertainty"])))
        for name, record in study.records.items()
        if mapping(record.get("uncertainty"))
    ]


def provenance(study: Study) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that the volumes depend on: records of volumes and zones, digests of each stage."""
    parts = []
    for name, record in study.records.items():
        title = words.volume_title(name, record)
        told = {k: v for k, v in record.items() if k not in ("notes", "use", "uncertainty")}
        parts.append((f"Volume {title} (upsampled/{name}{VOLUME})", words.flattened(told)))
    for name, record in study.zones.items():
        title = words.volume_title(name, study.records.get(name, {}))
        told = {k: v for k, v in record.items() if k not in ("notes", "use")}
        parts.append((f"Zones of {title} (zones/{name}{VOLUME})", words.flattened(told)))
    keys = ("key", "parameters", "model", "inputs", "outputs")
    for stage in costs(study):
        told = {k: stage.status[k] for k in keys if stage.status.get(k)}
        parts.append((f"Stage {stage.name}", words.flattened(told)))
    return [part for part in parts if part[1]]


def headline(study: Study) -> str:
    """The study in a sentence or two."""
    titles = [m.title for m in made(study)]
    if not titles:
        return "No super-resolved volume was made."
    count = _COUNTS.get(len(titles), str(len(titles)))
    what = "volume was" if len(titles) == 1 else "volumes were"
    text = f"{count} super-resolved {what} made: {', '.join(titles)}."
    if study.failures:
        return f"{text} Then a stage failed."
    return text


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
        memory_gib(record.get("peak_memory_gib")),
    )


def _difference(
    zones: Mapping[str, Mapping[str, float | None]],
    measured: Mapping[str, Mapping[str, float | None]],
    zone: str,
) -> float | None:
    here, there = zones[zone].get("dice"), measured.get(zone, {}).get("dice")
    return None if here is None or there is None else here - there


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
