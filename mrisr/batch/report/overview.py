"""The page of a batch: how many studies are done, what they are worth, what failed and why."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mrisr.batch.names import PAGE, SOURCE, STAGES, read_json
from mrisr.batch.report.page import StudyResults, duration, look, memory, read_study, write_page
from mrisr.batch.status import Outcome
from mrisr.evaluation.statistics import Mean, mean_of
from mrisr.zones.labels import TITLES, ZONES

#: Studies of one kind of failure that are named at once.
NAMED = 12
#: Where a study's page holds its thumbnails, within so many bytes of its beginning.
_SUMMARY = re.compile(rb'<script type="application/json" id="summary">(.*?)</script>', re.DOTALL)
_THUMBNAIL = re.compile(rb'"(data:image/jpeg;base64,[A-Za-z0-9+/=]*)"')
_HEAD = 1 << 16
#: Colour of what is not the result of anything.
GREY = "var(--soft)"
#: Sizes in pixels: a column, the axis beside the columns, the plot, the room above it, and a line of text.
COLUMN, AXIS, HEIGHT, HEAD, LINE = 89, 62, 180, 26, 14
_DOTS = "Each dot is a study, the line is the median, the box holds the middle half."


class Worth(NamedTuple):
    """A zone of a volume over all studies: mean Dice, and the gain over the measured volume."""

    zone: str
    volume: str
    dice: Mean
    gain: Mean | None


def write_overview(out: Path, outcome: Outcome) -> Path:
    """Write ``report.html`` into the folder of a batch, from the outcome and what lies there; its path.

    The page needs no other file and no network; it links to the pages of the studies. Raises OutputError.
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
        tiles=tiles(rows),
        faults=faults(rows),
        look_at=[row for row in rows if row.status.check],
        named=NAMED,
        worth=worth(rows, titles),
        charts=charts(rows, titles),
        settings=read_json(out / "batch.json"),
        made=read_json(out / "outcome.json"),
    )


def read_rows(out: Path, outcome: Outcome) -> list[StudyResults]:
    """The studies of the outcome, by name, with their pages and the thumbnails that those hold."""
    rows = []
    for folder, status in outcome.items():
        page = f"{folder}/{PAGE}" if (out / folder / PAGE).exists() else ""
        images = _thumbnails(out / page) if page else ()
        study = read_study(out / folder)
        rows.append(replace(study, status=status, page=page, thumbnails=images))
    return sorted(rows, key=lambda row: row.name)


def _thumbnails(page: Path) -> tuple[str, ...]:
    with suppress(OSError), page.open("rb") as file:
        if summary := _SUMMARY.search(file.read(_HEAD)):
            return tuple(uri.decode() for uri in _THUMBNAIL.findall(summary[1])[:2])
    return ()


def titles_of(rows: Sequence[StudyResults]) -> dict[str, str]:
    """Volume -> what the page calls it: its title, or its name where studies differ or two share a title."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for volume in row.records:
            found.setdefault(volume, set()).add(row.title(volume))
    taken = Counter(title for titles in found.values() for title in titles)
    return {v: next(iter(t)) if len(t) == 1 and taken[min(t)] == 1 else v for v, t in found.items()}


def scored(rows: Sequence[StudyResults], volume: str, zone: str) -> list[float]:
    """The Dice that is defined, of all studies."""
    values = (look(row.status.scores, volume, zone, "dice") for row in rows)
    return [v for v in values if v is not None]


def tiles(rows: Sequence[StudyResults]) -> list[tuple[str, str, str]]:
    """The figures at the head of the page: what each is, its value, and what to read it by."""
    states = Counter(row.status.state for row in rows)
    done, failed, look = (states[s] for s in ("done", "failed", "check"))
    found = [("Studies", str(len(rows)), ""), ("Done", str(done + look), "")]
    found += [("Check", str(look), "of these, look at the zones")] if look else []
    found.append(("Failed", str(failed), ""))
    if done + look + failed < len(rows):
        found.append(("Not finished", str(len(rows) - done - look - failed), ""))
    seconds = [s for row in rows if (s := row.status.seconds)]
    if seconds:
        mean = duration(sum(seconds) / len(seconds))
        found.append(("Time", duration(sum(seconds)), f"all studies together; {mean} each"))
    peaks = (row.status.peak_memory_gib for row in rows)
    most = max((peak.get("process", 0.0) for peak in peaks), default=0.0)
    return [*found, *([("Peak memory", memory(most), "of a stage")] if most else [])]


def faults(rows: Sequence[StudyResults]) -> list[tuple[str, list[str], list[StudyResults]]]:
    """The failures, those alike together, the most frequent first: stages, reasons and studies."""
    kinds: dict[tuple[str, str], tuple[str, list[str], list[StudyResults]]] = {}
    for row in rows:
        for name, failure in row.status.failures.items():
            key = name, re.sub(r"\d+(\.\d+)?", "#", failure.reason)
            _, reasons, alike = kinds.setdefault(key, (name, [], []))
            reasons.append(failure.reason)
            alike.append(row)
    return sorted(kinds.values(), key=lambda kind: -len(kind[2]))


def worth(rows: Sequence[StudyResults], titles: Mapping[str, str]) -> list[Worth]:
    """Means over the studies that were scored, zone by zone; gains are paired, study by study."""
    found = []
    for zone in ZONES:
        for volume, title in {SOURCE: "measured", **titles}.items():
            gained = [g for row in rows if (g := row.gain(volume, zone)) is not None]
            gain = mean_of(gained) if gained else None
            if values := scored(rows, volume, zone):
                found.append(Worth(zone, title, mean_of(values), gain))
    return found


def charts(rows: Sequence[StudyResults], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Charts of how Dice, residuals and times spread over the studies."""
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
        title: [100 * v for row in rows if (v := row.residuals.get(volume)) is not None]
        for volume, title in titles.items()
    }
    caption = (
        "Residual: how far a volume, made coarse again, is from what was measured (root mean square, "
        "percent of the intensity range). A few hundredths are usual; look at studies that lie apart. "
        f"{_DOTS}"
    )
    title, axis = "agreement with the scan", "residual, % of range"
    found.append(chart(title, axis, caption, residuals, limits=(0, None)))
    stages = [item for row in rows for item in row.status.stages.items()]
    times = {str(k): [s.seconds for n, s in stages if n == k and s.seconds] for k in STAGES}
    caption = f"Time on the clock by stage; each step of the axis is ten times the last. {_DOTS}"
    found.append(chart("time of a study", "seconds", caption, times, logarithmic=True))
    return [drawn for drawn in found if drawn]


def chart(
    title: str,
    axis: str,
    caption: str,
    groups: Mapping[str, Sequence[float]],
    colours: Mapping[str, str] | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    logarithmic: bool = False,
) -> dict[str, Any]:
    """Content of ``chart.svg``: groups of values over one axis; empty where there are none.

    Groups without values are left out; they are grey where ``colours`` has none, and ``limits`` fix the axis.
    """
    groups = {name: values for name, values in groups.items() if values}
    if not groups:
        return {}
    everything = [value for values in groups.values() for value in values]
    low, high, ticks = _logarithmic(everything) if logarithmic else _linear(everything, limits)

    def row(value: float) -> float:
        scaled = math.log10(value) if logarithmic else value
        return round(HEAD + HEIGHT * (high - scaled) / (high - low), 1)

    columns = []
    for number, (name, values) in enumerate(groups.items()):
        middle, rows = AXIS + COLUMN * (number + 0.5), [row(value) for value in values]
        shifts = np.random.default_rng(0).uniform(-0.16, 0.16, len(rows)) * COLUMN
        places = zip(shifts * (len(rows) > 1), rows, strict=True)
        quartiles = np.percentile(rows, (25, 75)).tolist()
        columns.append(
            {
                "colour": (colours or {}).get(name, GREY),
                "middle": middle,
                "dots": "".join(f"M{middle + x:.1f} {y}h.01" for x, y in places),
                "width": 5.2 if len(rows) <= 100 else 2.9,
                "median": float(np.median(rows)),
                "box": quartiles if len(rows) >= 5 else None,
                "lines": [*name.split(" "), f"n = {len(rows)}"],
            }
        )
    return {
        "title": title,
        "axis": axis,
        "caption": caption,
        "columns": columns,
        "ticks": [(f"{tick:g}", row(tick)) for tick in ticks],
        "left": AXIS,
        "right": AXIS + COLUMN * max(2, len(columns)),
        "top": HEAD,
        "bottom": HEAD + HEIGHT,
        "height": HEAD + HEIGHT + LINE * (2 + max(name.count(" ") + 1 for name in groups)),
        "line": LINE,
        "half": COLUMN * 0.31,
    }


def _logarithmic(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Lower and upper end of an axis, as logarithms, and the values of its ticks."""
    start, end = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    end = max(end, start + 1)
    return start, end, [10.0**power for power in range(start, end + 1)]


def _linear(
    values: Sequence[float], limits: tuple[float | None, float | None]
) -> tuple[float, float, list[float]]:
    bottom, top = limits
    low, high = min(values) if bottom is None else bottom, max(values) if top is None else top
    room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - room * (bottom is None), high + room * (top is None)
    about = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(about))
    step = next(size * nice for nice in (1, 2, 5, 10) if size * nice >= about)
    first, last = math.ceil(low / step), math.floor(high / step + 1e-9)
    return low, high, [step * n for n in range(first, last + 1)]
