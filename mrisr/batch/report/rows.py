"""The studies of a batch as rows of the page of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mrisr.batch.names import SOURCE
from mrisr.batch.outcome import StudyOutcome
from mrisr.batch.parts import State
from mrisr.batch.report import facts
from mrisr.batch.report.tree import PAGE, Figures, mapping, number, read_study

#: The thumbnails stand this near to the beginning of a study's page.
_HEAD = 1 << 16
_SUMMARY = re.compile(rb'<script type="application/json" id="summary">(.*?)</script>', re.DOTALL)
_THUMBNAIL = re.compile(rb'"(data:image/jpeg;base64,[A-Za-z0-9+/=]*)"')


@dataclass(frozen=True)
class StudyRow:
    """A study.

    Attributes:
        name: subject and session.
        page: its page, relative to that of all; ``""`` where it has none.
        state: as the outcome has it.
        failures: the stages that failed.
        titles: upsampled volume -> what it is called.
        dice, volumes_ml: volume -> zone -> figure.
        residual: upsampled volume -> residual as a share of the intensity range.
        seconds: stage -> wall clock.
        memory_gib: the most of any stage.
        thumbnails: measured and upsampled volume as data URIs, or nothing.
    """

    name: str
    page: str = ""
    state: State = "unfinished"
    failures: Sequence[facts.Failure] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    dice: Figures = field(default_factory=dict)
    volumes_ml: Figures = field(default_factory=dict)
    residual: Mapping[str, float | None] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory_gib: float | None = None
    thumbnails: tuple[str, ...] = ()

    @property
    def total_seconds(self) -> float | None:
        return sum(self.seconds.values()) or None


def read_rows(out: Path, outcome: Sequence[StudyOutcome]) -> list[StudyRow]:
    """A row for every study of the outcome, by name."""
    return sorted((_row(out, study) for study in outcome), key=lambda row: row.name)


def _row(out: Path, outcome: StudyOutcome) -> StudyRow:
    study = read_study(out / outcome.folder)
    page = out / outcome.folder / PAGE
    return StudyRow(
        name=study.name,
        page=f"{outcome.folder}/{PAGE}" if page.exists() else "",
        state=outcome.state,
        failures=facts.failures(outcome.stages),
        titles={name: facts.title_of(study, name) for name in study.records},
        dice={
            v: {z: f.get("dice") for z, f in zones.items()} for v, zones in outcome.scores.items()
        },
        volumes_ml=study.volumes_ml,
        residual={
            name: number(mapping(record.get("residual")).get("rms_of_range"))
            for name, record in study.records.items()
        },
        seconds=outcome.seconds,
        memory_gib=outcome.peak_memory_gib.get("process"),
        thumbnails=_thumbnails(page),
    )


def _thumbnails(page: Path) -> tuple[str, ...]:
    """The thumbnails that a study's page holds; empty where there is no page or it holds others."""
    try:
        with page.open("rb") as file:
            summary = _SUMMARY.search(file.read(_HEAD))
    except OSError:
        return ()
    found = _THUMBNAIL.findall(summary[1]) if summary else []
    return tuple(uri.decode() for uri in found) if len(found) == 2 else ()


def titles_of(rows: Sequence[StudyRow]) -> dict[str, str]:
    """Volume -> what the page calls it: its title, without the factor where studies differ in it; its name
    where that would not tell it from others."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for volume, title in row.titles.items():
            found.setdefault(volume, set()).add(title)
    jobs = {v: {t.partition(" ×")[0] for t in titles} for v, titles in found.items()}
    titles = {v: next(iter(t if len(t) == 1 else jobs[v])) for v, t in found.items()}
    taken = list(titles.values())
    return {v: t if len(jobs[v]) == 1 and taken.count(t) == 1 else v for v, t in titles.items()}


def scored(rows: Sequence[StudyRow], volume: str, zone: str) -> list[float]:
    """The Dice that is defined, of all studies."""
    values = (row.dice.get(volume, {}).get(zone) for row in rows)
    return [v for v in values if v is not None]


def undefined(rows: Sequence[StudyRow], volume: str, zone: str) -> int:
    """Studies that were scored but whose Dice is not defined."""
    return sum(zone in row.dice.get(volume, {}) for row in rows) - len(scored(rows, volume, zone))


def gains(rows: Sequence[StudyRow], volume: str, zone: str) -> list[float]:
    """Dice of a volume less that of the measured one, study by study."""
    pairs = (
        (row.dice.get(volume, {}).get(zone), row.dice.get(SOURCE, {}).get(zone)) for row in rows
    )
    return [after - before for after, before in pairs if after is not None and before is not None]
