"""The page of a batch: how many studies are done, what they are worth, what failed and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mrisr.batch.names import SOURCE, STAGES, read_json
from mrisr.batch.outcome import Outcome
from mrisr.batch.report.charts import chart
from mrisr.batch.report.page import PAGE, duration, look, memory, write_page
from mrisr.batch.report.subject import Study, read_study
from mrisr.zones.labels import TITLES, ZONES

if TYPE_CHECKING:
    from mrisr.evaluation.statistics import Mean

#: Studies of one kind of failure that are named at once.
NAMED = 12
#: Where a study's page holds its thumbnails, within so many bytes of its beginning.
_SUMMARY = re.compile(rb'<script type="application/json" id="summary">(.*?)</script>', re.DOTALL)
_THUMBNAIL = re.compile(rb'"(data:image/jpeg;base64,[A-Za-z0-9+/=]*)"')
_HEAD = 1 << 16
_DOTS = "Each dot is a study, the line is the median, the box holds the middle half."


class Row(NamedTuple):
    """A study in the table of all, its page, relative to that of all, and the thumbnails that the page holds.

    ``page`` is ``""`` where there is none.
    """

    study: Study
    page: str = ""
    thumbnails: tuple[str, ...] = ()


class Worth(NamedTuple):
    """A zone of a volume over all studies: mean Dice, and the gain over the measured volume."""

    zone: str
    volume: str
    dice: Mean
    gain: Mean | None


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
        tiles=tiles(rows),
        faults=faults(rows),
        named=NAMED,
        worth=worth(rows, titles),
        charts=charts(rows, titles),
        settings=read_json(out / "batch.json"),
        made=read_json(out / "outcome.json"),
    )


def read_rows(out: Path, outcome: Outcome) -> list[Row]:
    """A row for every study of the outcome, by name."""
    rows = []
    for folder, status in outcome.items():
        page = f"{folder}/{PAGE}" if (out / folder / PAGE).exists() else ""
        study = replace(read_study(out / folder), status=status)
        rows.append(Row(study, page, _thumbnails(out / page) if page else ()))
    return sorted(rows, key=lambda row: row.study.name)


def _thumbnails(page: Path) -> tuple[str, ...]:
    with suppress(OSError), page.open("rb") as file:
        if summary := _SUMMARY.search(file.read(_HEAD)):
            return tuple(uri.decode() for uri in _THUMBNAIL.findall(summary[1])[:2])
    return ()


def titles_of(rows: Sequence[Row]) -> dict[str, str]:
    """Volume -> what the page calls it: its title, or its name where studies differ or two share a title."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for volume in row.study.records:
            found.setdefault(volume, set()).add(row.study.title(volume))
    taken = Counter(title for titles in found.values() for title in titles)
    return {v: next(iter(t)) if len(t) == 1 and taken[min(t)] == 1 else v for v, t in found.items()}


def scored(rows: Sequence[Row], volume: str, zone: str) -> list[float]:
    """The Dice that is defined, of all studies."""
    values = (look(row.study.status.scores, volume, zone, "dice") for row in rows)
    return [v for v in values if v is not None]


def tiles(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """The figures at the head of the page: what each is, its value, and what to read it by."""
    done, failed = (sum(r.study.status.state == s for r in rows) for s in ("done", "failed"))
    found = [("Studies", str(len(rows)), ""), ("Done", str(done), ""), ("Failed", str(failed), "")]
    if done + failed < len(rows):
        found.append(("Not finished", str(len(rows) - done - failed), ""))
    seconds = [s for row in rows if (s := row.study.status.seconds)]
    if seconds:
        mean = duration(sum(seconds) / len(seconds))
        found.append(("Time", duration(sum(seconds)), f"in sum; {mean} a study"))
    peaks = (row.study.status.peak_memory_gib for row in rows)
    most = max((peak.get("process", 0.0) for peak in peaks), default=0.0)
    return [*found, *([("Peak memory", memory(most), "of a stage")] if most else [])]


def faults(rows: Sequence[Row]) -> list[tuple[str, list[str], list[Row]]]:
    """The failures, those alike together, the most frequent first: stages, reasons and studies."""
    kinds: dict[tuple[str, str], tuple[str, list[str], list[Row]]] = {}
    for row in rows:
        for name, failure in row.study.status.failures.items():
            key = name, re.sub(r"\d+(\.\d+)?", "#", failure.reason)
            _, reasons, alike = kinds.setdefault(key, (name, [], []))
            reasons.append(failure.reason)
            alike.append(row)
    return sorted(kinds.values(), key=lambda kind: -len(kind[2]))


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
            found.append(Worth(zone, title, mean_of(values), gain))
    return found


def charts(rows: Sequence[Row], titles: Mapping[str, str]) -> list[dict[str, Any]]:
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
        found.append(chart(title, "Dice", caption, groups, colours, limits))
    residuals = {
        title: [100 * v for row in rows if (v := row.study.residuals.get(volume)) is not None]
        for volume, title in titles.items()
    }
    caption = (
        "Residual: how far a volume, made coarse again, is from what was measured (root mean square, "
        "percent of the intensity range). A few hundredths are usual; look at studies that lie apart. "
        f"{_DOTS}"
    )
    title, axis = "agreement with the scan", "residual, % of range"
    found.append(chart(title, axis, caption, residuals, limits=(0, None)))
    stages = [item for row in rows for item in row.study.status.stages.items()]
    times = {str(k): [s.seconds for n, s in stages if n == k and s.seconds] for k in STAGES}
    caption = f"Time on the clock by stage; each step of the axis is ten times the last. {_DOTS}"
    found.append(chart("time of a study", "seconds", caption, times, logarithmic=True))
    return [drawn for drawn in found if drawn]
