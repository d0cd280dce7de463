"""The figures of the page of a batch, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mrisr.batch.names import SOURCE, STAGES
from mrisr.batch.report.distributions import GREY, Chart, Group, draw
from mrisr.batch.report.outlines import COLOURS
from mrisr.batch.report.rows import StudyRow, scored
from mrisr.zones.labels import TITLES

#: A figure as SVG and its caption.
Drawn = tuple[str, str]
_DOTS = "Each dot is a study, the line is the median, the box holds the middle half."


def dice_chart(rows: Sequence[StudyRow], titles: Mapping[str, str], zone: str) -> Drawn | None:
    """Dice of a zone, in the measured and in the upsampled volumes."""
    colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[zone])
    groups = [
        Group(title, values, GREY if volume == SOURCE else colour)
        for volume, title in {SOURCE: "measured", **titles}.items()
        if (values := scored(rows, volume, zone))
    ]
    if not groups:
        return None
    lowest = min(min(g.values) for g in groups)
    chart = Chart(f"{TITLES[zone]} ({zone})", "Dice", groups, (max(0.0, lowest - 0.05), 1.0))
    caption = f"Dice: overlap with the reference labels, 1 is the same, 0 is none. {_DOTS}"
    return draw(chart), caption


def residual_chart(rows: Sequence[StudyRow], titles: Mapping[str, str]) -> Drawn | None:
    """Residuals of the upsampled volumes."""
    groups = []
    for volume, title in titles.items():
        found = [v for row in rows if (v := row.residual.get(volume)) is not None]
        if found:
            groups.append(Group(title, [100 * v for v in found]))
    if not groups:
        return None
    chart = Chart("agreement with the scan", "residual, % of range", groups, (0, None))
    caption = (
        "Residual: how far a volume, made coarse again, is from what was measured (root mean square, "
        "percent of the intensity range). A few hundredths are usual; look at studies that lie apart. "
        f"{_DOTS}"
    )
    return draw(chart), caption


def seconds_chart(rows: Sequence[StudyRow]) -> Drawn | None:
    """Time of the stages."""
    groups = []
    for stage in STAGES:
        found = [s for row in rows if (s := row.seconds.get(stage, 0.0)) > 0]
        if found:
            groups.append(Group(stage, found))
    if not groups:
        return None
    chart = Chart("time of a study", "seconds", groups, logarithmic=True)
    return (
        draw(chart),
        f"Time on the clock by stage; each step of the axis is ten times the last. {_DOTS}",
    )
