"""The studies of a batch as rows: what the page of all says of each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mrisr.batch.report import facts, words
from mrisr.batch.report.tree import (
    MEASURED,
    PAGE,
    Json,
    Study,
    find_studies,
    mapping,
    number,
    read_json,
    read_study,
)

#: The summary stands this near to the beginning of a study's page.
_HEAD = 1 << 16
_SUMMARY = re.compile(rb'<script type="application/json" id="summary">(.*?)</script>', re.DOTALL)

Figures = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class StudyRow:
    """A study.

    Attributes:
        name: subject and session.
        page: its page, relative to that of all; ``""`` where it has none.
        state: see :class:`mrisr.batch.report.tree.Study`.
        failures: the stages that failed.
        titles: upsampled volume -> what it is called.
        dice, volumes_ml: volume -> zone -> figure.
        residual: upsampled volume -> residual as a share of the intensity range.
        seconds: stage -> wall clock.
        memory_gib: the most of any stage.
        thumbnails: measured and upsampled volume as data URIs, or nothing.
    """

    name: str
    page: str
    state: str
    failures: tuple[facts.Failure, ...]
    titles: Mapping[str, str]
    dice: Figures
    volumes_ml: Figures
    residual: Mapping[str, float | None]
    seconds: Mapping[str, float]
    memory_gib: float | None
    thumbnails: tuple[str, ...]

    @property
    def total_seconds(self) -> float | None:
        return sum(self.seconds.values()) if self.seconds else None


def read_rows(out: Path) -> list[StudyRow]:
    """A row for every study of the outcome, or without one of every folder, by name."""
    folders = find_studies(out)
    listed = _listed(out)
    if not listed:
        return [_row(folder, out) for folder in folders]
    known = {folder.relative_to(out).as_posix(): folder for folder in folders}
    rows = []
    for study in listed:
        folder = known.get(str(study.get("folder")))
        row = _row(folder, out) if folder else _without_folder(_name(study))
        rows.append(_as_listed(row, study))
    return sorted(rows, key=lambda row: row.name)


def summary(study: Study, thumbnails: tuple[str, ...], volumes_ml: Figures) -> dict[str, Any]:
    """What the page of a study keeps near its beginning for the page of all."""
    return {"study": study.name, "thumbnails": thumbnails, "volumes_ml": volumes_ml}


def _row(folder: Path, out: Path) -> StudyRow:
    study = read_study(folder)
    seen = _summary(folder / PAGE)
    memory = [s.memory_gib for s in study.stages if s.memory_gib is not None]
    thumbnails = seen.get("thumbnails") or ()
    return StudyRow(
        name=study.name,
        page=(folder / PAGE).relative_to(out).as_posix() if seen else "",
        state=study.state,
        failures=tuple(facts.failures(study)),
        titles={name: words.volume_title(name, r) for name, r in study.records.items()},
        dice={v: {z: f.get("dice") for z, f in zones.items()} for v, zones in study.scores.items()},
        volumes_ml={v: mapping(z) for v, z in mapping(seen.get("volumes_ml")).items()},
        residual={
            name: number(mapping(record.get("residual")).get("rms_of_range"))
            for name, record in study.records.items()
        },
        seconds={s.name: s.seconds for s in study.stages if s.seconds is not None},
        memory_gib=max(memory, default=None),
        thumbnails=tuple(map(str, thumbnails)) if len(thumbnails) == 2 else (),
    )


def _without_folder(name: str) -> StudyRow:
    return StudyRow(name, "", "unfinished", (), {}, {}, {}, {}, {}, None, ())


def _as_listed(row: StudyRow, study: Json) -> StudyRow:
    """A row in the state that the outcome states; what its folder does not say of failures, it does."""
    state = str(study.get("state") or row.state)
    reasons = study.get("reasons")
    failures = row.failures
    if state == "failed" and not failures and isinstance(reasons, list):
        failures = tuple(facts.failure("", str(reason)) for reason in reasons)
    return replace(row, state=state, failures=failures)


def _summary(page: Path) -> Json:
    """The summary of a study's page; an empty one where there is no page that holds one."""
    try:
        with page.open("rb") as file:
            found = _SUMMARY.search(file.read(_HEAD))
        content = json.loads(found[1]) if found else None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _listed(out: Path) -> list[Json]:
    """The studies of ``outcome.json``."""
    studies = (read_json(out / "outcome.json") or {}).get("studies")
    return [s for s in studies if isinstance(s, dict)] if isinstance(studies, list) else []


def _name(listed: Json) -> str:
    session = listed.get("session")
    return f"sub-{listed.get('subject')}" + (f" ses-{session}" if session else "")


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
        (row.dice.get(volume, {}).get(zone), row.dice.get(MEASURED, {}).get(zone)) for row in rows
    )
    return [after - before for after, before in pairs if after is not None and before is not None]
