"""The page of a batch: how many studies are done, what they are worth, what failed and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mrisr.batch.names import SOURCE, read_json
from mrisr.batch.outcome import StudyOutcome
from mrisr.batch.report import words
from mrisr.batch.report.charts import dice_chart, residual_chart, seconds_chart
from mrisr.batch.report.facts import Tile
from mrisr.batch.report.page import write_page
from mrisr.batch.report.rows import StudyRow, gains, read_rows, scored, titles_of, undefined
from mrisr.batch.report.tree import PAGE
from mrisr.zones.labels import TITLES, ZONES

if TYPE_CHECKING:
    from mrisr.evaluation.statistics import Mean

#: Studies of one kind of failure that are named at once.
NAMED = 12


class Fault(NamedTuple):
    """Studies that failed alike: at which stage, for example with which reason, and what to do."""

    title: str
    reason: str
    advice: str
    alike: bool
    rows: list[StudyRow]


class Worth(NamedTuple):
    """A zone of a volume over all studies: mean Dice, and the gain over the measured volume."""

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
    out = Path(out)
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
        tiles=overview_tiles(rows, titles),
        faults=faults(rows),
        named=NAMED,
        worth=worth(rows, titles),
        charts=charts(rows, titles),
        settings=words.flattened(read_json(out / "batch.json")),
        finished=ended(out),
    )


def ended(out: Path) -> str:
    """When the batch ended, and what made it; ``""`` where that is not known."""
    outcome = read_json(out / "outcome.json")
    finished = str(outcome.get("finished") or "").replace("T", " ").replace("+00:00", " UTC")
    version = outcome.get("mrisr")
    told = [f"Ended {finished}" if finished else "", f"mrisr {version}" if version else ""]
    return ", ".join(filter(None, told))


def charts(rows: Sequence[StudyRow], titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """The figures with their captions, those that have anything to show."""
    drawn = (
        *(dice_chart(rows, titles, zone) for zone in ZONES),
        residual_chart(rows, titles),
        seconds_chart(rows),
    )
    return [chart for chart in drawn if chart is not None]


def overview_tiles(rows: Sequence[StudyRow], titles: Mapping[str, str]) -> list[Tile]:
    """The figures at the head of the page."""
    counts = {state: sum(r.state == state for r in rows) for state in ("done", "failed")}
    rest = len(rows) - sum(counts.values())
    tiles = [
        Tile("Studies", str(len(rows))),
        Tile("Done", str(counts["done"]), grade="good" if counts["done"] else ""),
        Tile("Failed", str(counts["failed"]), grade="poor" if counts["failed"] else ""),
    ]
    if rest:
        tiles.append(Tile("Not finished", str(rest), grade="fair"))
    first = next(iter(titles), SOURCE)
    for zone in ZONES:
        found = scored(rows, first, zone)
        if found:
            before = scored(rows, SOURCE, zone)
            more = f"mean, {titles.get(first, 'measured')}"
            if before and first != SOURCE:
                more += f"; measured {words.fixed(sum(before) / len(before), 3)}"
            tiles.append(
                Tile(f"Dice, {TITLES[zone]}", words.fixed(sum(found) / len(found), 3), more)
            )
    seconds = [s for r in rows if (s := r.total_seconds) is not None]
    if seconds:
        mean = words.duration(sum(seconds) / len(seconds))
        tiles.append(Tile("Time", words.duration(sum(seconds)), f"in sum; {mean} a study"))
    memory = [r.memory_gib for r in rows if r.memory_gib is not None]
    if memory:
        tiles.append(Tile("Peak memory", words.memory(max(memory)), "of a stage"))
    return tiles


def faults(rows: Sequence[StudyRow]) -> list[Fault]:
    """The failures, those alike together, the most frequent first."""
    kinds: dict[tuple[str, str], Fault] = {}
    for row in rows:
        for f in row.failures:
            key = f.title, re.sub(r"\d+(\.\d+)?", "#", f.reason)
            if key not in kinds:
                kinds[key] = Fault(f.title, f.reason, f.advice, True, [])
            kind = kinds[key]
            kinds[key] = kind._replace(alike=kind.alike and f.reason == kind.reason)
            kind.rows.append(row)
    return sorted(kinds.values(), key=lambda kind: -len(kind.rows))


def worth(rows: Sequence[StudyRow], titles: Mapping[str, str]) -> list[Worth]:
    """Means over the studies that were scored, zone by zone."""
    volumes = {SOURCE: "measured", **titles}
    if not any(scored(rows, v, z) for v in volumes for z in ZONES):
        return []
    from mrisr.evaluation.statistics import mean_of

    found = []
    for zone in ZONES:
        for volume, title in volumes.items():
            values, gained = scored(rows, volume, zone), gains(rows, volume, zone)
            if values:
                gain = mean_of(gained) if gained and volume != SOURCE else None
                missing = undefined(rows, volume, zone)
                found.append(Worth(zone, title, volume == SOURCE, mean_of(values), gain, missing))
    return found
