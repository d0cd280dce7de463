"""The page of a batch: how many studies are done, what they are worth, what failed and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mrisr.batch.names import SOURCE, STAGES, read_json
from mrisr.batch.outcome import StudyOutcome
from mrisr.batch.parts import State
from mrisr.batch.report import words
from mrisr.batch.report.charts import Chart
from mrisr.batch.report.page import PAGE, Tile, write_page
from mrisr.batch.report.study import Figures, read_study
from mrisr.batch.status import StageStatus
from mrisr.zones.labels import TITLES, ZONES

if TYPE_CHECKING:
    from mrisr.evaluation.statistics import Mean

#: Studies of one kind of failure that are named at once.
NAMED = 12
#: The thumbnails stand this near to the beginning of a study's page.
_HEAD = 1 << 16
_SUMMARY = re.compile(rb'<script type="application/json" id="summary">(.*?)</script>', re.DOTALL)
_THUMBNAIL = re.compile(rb'"(data:image/jpeg;base64,[A-Za-z0-9+/=]*)"')
_DOTS = "Each dot is a study, the line is the median, the box holds the middle half."


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
    failures: Sequence[StageStatus] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    dice: Figures = field(default_factory=dict)
    volumes_ml: Figures = field(default_factory=dict)
    residual: Mapping[str, float | None] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory_gib: float | None = None
    thumbnails: tuple[str, ...] = ()

    @property
    def total_seconds(self) -> float | None:
        """Wall clock of all stages; `None` where none ran."""
        return sum(self.seconds.values()) or None


class Fault(NamedTuple):
    """Studies that failed alike: at which stage, their reasons, and which they are."""

    stage: str
    reasons: list[str]
    rows: list[StudyRow]


class Worth(NamedTuple):
    """A zone of a volume over all studies: mean Dice, the gain over the measured volume, and the number of
    studies whose Dice is not defined."""

    zone: str
    volume: str
    measured: bool
    dice: Mean
    gain: Mean | None
    undefined: int


def write_overview(out: Path, outcome: Sequence[StudyOutcome]) -> Path:
    """Write ``report.html`` into the folder of a batch, from the outcome and what lies in the folder.

    The page needs no other file and no network; it links to the pages of the studies.

    Args:
        out: the batch's folder.
        outcome: of its studies.

    Returns:
        The page.

    Raises:
        OutputError: it cannot be written.
    """
    rows = read_rows(out, outcome)
    titles = titles_of(rows)
    return write_page(
        out / PAGE,
        "overview.html",
        rows=rows,
        titles=titles,
        measured=SOURCE,
        zones=[z for z in ZONES if any(scored(rows, v, z) for v in (SOURCE, *titles))],
        sized=any(row.volumes_ml for row in rows),
        tiles=tiles(rows, titles),
        faults=faults(rows),
        named=NAMED,
        worth=worth(rows, titles),
        charts=charts(rows, titles),
        settings=words.flattened(read_json(out / "batch.json")),
        made=read_json(out / "outcome.json"),
    )


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
        failures=[stage for stage in outcome.stages if stage.state == "failed"],
        titles={name: study.title(name) for name in study.records},
        dice={
            v: {z: f.get("dice") for z, f in zones.items()} for v, zones in outcome.scores.items()
        },
        volumes_ml=study.volumes_ml,
        residual=study.residuals,
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
    values = (words.look(row.dice, volume, zone) for row in rows)
    return [v for v in values if v is not None]


def tiles(rows: Sequence[StudyRow], titles: Mapping[str, str]) -> list[Tile]:
    """The figures at the head of the page."""
    done, failed = (sum(r.state == state for r in rows) for state in ("done", "failed"))
    found = [
        Tile("Studies", str(len(rows))),
        Tile("Done", str(done), grade="good" if done else ""),
        Tile("Failed", str(failed), grade="poor" if failed else ""),
    ]
    if done + failed < len(rows):
        found.append(Tile("Not finished", str(len(rows) - done - failed), grade="fair"))
    first = next(iter(titles), SOURCE)
    for zone in ZONES:
        after, before = scored(rows, first, zone), scored(rows, SOURCE, zone)
        if after:
            more = f"mean, {titles.get(first, 'measured')}"
            if before and first != SOURCE:
                more += f"; measured {words.fixed(sum(before) / len(before), 3)}"
            mean = words.fixed(sum(after) / len(after), 3)
            found.append(Tile(f"Dice, {TITLES[zone]}", mean, more))
    seconds = [s for r in rows if (s := r.total_seconds) is not None]
    if seconds:
        mean = words.duration(sum(seconds) / len(seconds))
        found.append(Tile("Time", words.duration(sum(seconds)), f"in sum; {mean} a study"))
    memory = [r.memory_gib for r in rows if r.memory_gib is not None]
    if memory:
        found.append(Tile("Peak memory", words.memory(max(memory)), "of a stage"))
    return found


def faults(rows: Sequence[StudyRow]) -> list[Fault]:
    """The failures, those alike together, the most frequent first."""
    kinds: dict[tuple[str, str], Fault] = {}
    for row in rows:
        for failure in row.failures:
            key = failure.name, re.sub(r"\d+(\.\d+)?", "#", failure.reason)
            kind = kinds.setdefault(key, Fault(failure.name, [], []))
            kind.reasons.append(failure.reason)
            kind.rows.append(row)
    return sorted(kinds.values(), key=lambda kind: -len(kind.rows))


def worth(rows: Sequence[StudyRow], titles: Mapping[str, str]) -> list[Worth]:
    """Means over the studies that were scored, zone by zone; gains are paired, study by study."""
    found = []
    for zone in ZONES:
        for volume, title in {SOURCE: "measured", **titles}.items():
            values = scored(rows, volume, zone)
            if not values:
                continue
            from mrisr.evaluation.statistics import mean_of

            pairs = [
                (r.dice.get(volume, {}).get(zone), words.look(r.dice, SOURCE, zone)) for r in rows
            ]
            gained = [a - b for a, b in pairs if a is not None and b is not None]
            gain = mean_of(gained) if gained and volume != SOURCE else None
            missing = sum(zone in row.dice.get(volume, {}) for row in rows) - len(values)
            found.append(Worth(zone, title, volume == SOURCE, mean_of(values), gain, missing))
    return found


def charts(rows: Sequence[StudyRow], titles: Mapping[str, str]) -> list[Chart]:
    """How Dice, residuals and times spread over the studies."""
    found = []
    for zone in ZONES:
        volumes = {SOURCE: "measured", **titles}
        groups = {title: scored(rows, volume, zone) for volume, title in volumes.items()}
        lowest = min((min(values) for values in groups.values() if values), default=0.0)
        colours = dict.fromkeys(titles.values(), f"var(--{zone})")
        caption = f"Dice: overlap with the reference labels, 1 is the same, 0 is none. {_DOTS}"
        limits = (max(0.0, lowest - 0.05), 1.0)
        title = f"{TITLES[zone]} ({zone})"
        found.append(Chart(title, "Dice", caption, groups, colours, limits))
    residuals = {
        title: [100 * v for row in rows if (v := row.residual.get(volume)) is not None]
        for volume, title in titles.items()
    }
    caption = (
        "Residual: how far a volume, made coarse again, is from what was measured (root mean square, "
        "percent of the intensity range). A few hundredths are usual; look at studies that lie apart. "
        f"{_DOTS}"
    )
    axis, limits_of_residuals = "residual, % of range", (0, None)
    found.append(
        Chart("agreement with the scan", axis, caption, residuals, {}, limits_of_residuals)
    )
    times = {stage: [s for r in rows if (s := r.seconds.get(stage, 0.0)) > 0] for stage in STAGES}
    caption = f"Time on the clock by stage; each step of the axis is ten times the last. {_DOTS}"
    found.append(Chart("time of a study", "seconds", caption, times, logarithmic=True))
    return [chart for chart in found if any(chart.groups.values())]
