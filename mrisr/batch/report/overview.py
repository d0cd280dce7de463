"""The page of a batch: how many studies are done, what they are worth, what failed and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mrisr.batch.names import SOURCE, STAGES, read_json
from mrisr.batch.outcome import Outcome
from mrisr.batch.report import words
from mrisr.batch.report.charts import Chart
from mrisr.batch.report.page import PAGE, Tile, write_page
from mrisr.batch.report.study import Study, read_study
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


class Row(NamedTuple):
    """A study in the table of all: its page, relative to that of all, ``""`` where it has none, and small
    pictures of the measured and an upsampled volume, where there are any."""

    study: Study
    page: str = ""
    thumbnails: tuple[str, ...] = ()


class Fault(NamedTuple):
    """Studies that failed alike: at which stage, their reasons, and which they are."""

    stage: str
    reasons: list[str]
    rows: list[Row]


class Worth(NamedTuple):
    """A zone of a volume over all studies: mean Dice, the gain over the measured volume, and the number of
    studies whose Dice is not defined."""

    zone: str
    volume: str
    measured: bool
    dice: Mean
    gain: Mean | None
    undefined: int


def write_overview(out: Path, outcome: Outcome) -> Path:
    """Write ``report.html`` into the folder of a batch, from the outcome and what lies in the folder.

    The page needs no other file and no network; it links to the pages of the studies.

    Args:
        out: the batch's folder.
        outcome: status of its studies.

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
        sized=any(row.study.volumes_ml for row in rows),
        tiles=tiles(rows, titles),
        faults=faults(rows),
        named=NAMED,
        worth=worth(rows, titles),
        charts=charts(rows, titles),
        settings=words.flattened(read_json(out / "batch.json")),
        made=read_json(out / "outcome.json"),
    )


def read_rows(out: Path, outcome: Outcome) -> list[Row]:
    """A row for every study of the outcome, by name."""
    rows = []
    for folder, status in outcome.items():
        page = out / folder / PAGE
        link = f"{folder}/{PAGE}" if page.exists() else ""
        rows.append(Row(replace(read_study(out / folder), status=status), link, _thumbnails(page)))
    return sorted(rows, key=lambda row: row.study.name)


def _thumbnails(page: Path) -> tuple[str, ...]:
    """The thumbnails that a study's page holds; empty where there is no page or it holds others."""
    try:
        with page.open("rb") as file:
            summary = _SUMMARY.search(file.read(_HEAD))
    except OSError:
        return ()
    found = _THUMBNAIL.findall(summary[1]) if summary else []
    return tuple(uri.decode() for uri in found) if len(found) == 2 else ()


def titles_of(rows: Sequence[Row]) -> dict[str, str]:
    """Volume -> what the page calls it: its title, without the factor where studies differ in it; its name
    where that would not tell it from others."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for volume in row.study.records:
            found.setdefault(volume, set()).add(row.study.title(volume))
    jobs = {v: {t.partition(" ×")[0] for t in titles} for v, titles in found.items()}
    titles = {v: next(iter(t if len(t) == 1 else jobs[v])) for v, t in found.items()}
    taken = list(titles.values())
    return {v: t if len(jobs[v]) == 1 and taken.count(t) == 1 else v for v, t in titles.items()}


def scored(rows: Sequence[Row], volume: str, zone: str) -> list[float]:
    """The Dice that is defined, of all studies."""
    values = (words.look(row.study.scores, volume, zone, "dice") for row in rows)
    return [v for v in values if v is not None]


def tiles(rows: Sequence[Row], titles: Mapping[str, str]) -> list[Tile]:
    """The figures at the head of the page."""
    done, failed = (
        sum(r.study.status.state == state for r in rows) for state in ("done", "failed")
    )
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
    seconds = [s for row in rows if (s := row.study.status.whole.seconds)]
    if seconds:
        mean = words.duration(sum(seconds) / len(seconds))
        found.append(Tile("Time", words.duration(sum(seconds)), f"in sum; {mean} a study"))
    peaks = (row.study.status.whole.peak_memory_gib for row in rows)
    memory = max((peak.get("process", 0.0) for peak in peaks), default=0.0)
    if memory:
        found.append(Tile("Peak memory", words.memory(memory), "of a stage"))
    return found


def faults(rows: Sequence[Row]) -> list[Fault]:
    """The failures, those alike together, the most frequent first."""
    kinds: dict[tuple[str, str], Fault] = {}
    for row in rows:
        for failure in row.study.status.failures:
            key = str(failure.name), re.sub(r"\d+(\.\d+)?", "#", failure.reason)
            kind = kinds.setdefault(key, Fault(key[0], [], []))
            kind.reasons.append(failure.reason)
            kind.rows.append(row)
    return sorted(kinds.values(), key=lambda kind: -len(kind.rows))


def worth(rows: Sequence[Row], titles: Mapping[str, str]) -> list[Worth]:
    """Means over the studies that were scored, zone by zone; gains are paired, study by study."""
    found = []
    for zone in ZONES:
        for volume, title in {SOURCE: "measured", **titles}.items():
            values = scored(rows, volume, zone)
            if not values:
                continue
            from mrisr.evaluation.statistics import mean_of

            gained = [g for row in rows if (g := row.study.gain(volume, zone)) is not None]
            gain = mean_of(gained) if gained else None
            missing = sum(zone in row.study.scores.get(volume, {}) for row in rows) - len(values)
            found.append(Worth(zone, title, volume == SOURCE, mean_of(values), gain, missing))
    return found


def charts(rows: Sequence[Row], titles: Mapping[str, str]) -> list[Chart]:
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
        title: [100 * v for row in rows if (v := row.study.residuals.get(volume)) is not None]
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
    stages = [stage for row in rows for stage in row.study.status.stages if stage.seconds > 0]
    times = {name: [s.seconds for s in stages if s.name == name] for name in STAGES}
    caption = f"Time on the clock by stage; each step of the axis is ten times the last. {_DOTS}"
    found.append(Chart("time of a study", "seconds", caption, times, logarithmic=True))
    return [chart for chart in found if any(chart.groups.values())]
