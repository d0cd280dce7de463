"""Quality against the number of steps (PartDiff Fig. 13): fidelity, spectrum, and an automated preference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrisr.analysis.output import number, patients
from mrisr.analysis.preference import distance, preferred, win_rates
from mrisr.analysis.scoring import Scores, restore, score
from mrisr.analysis.slices import Interval, Slices, over_patients, per_patient
from mrisr.config import Job
from mrisr.core.errors import UsageError
from mrisr.restore.engine import Engine

Array = NDArray[np.float64]


class Setting(NamedTuple):
    """One way to restore: its name and the engine that does it; 0 steps are interpolation."""

    name: str
    steps: int
    engine: Engine


class RestoredSlices(NamedTuple):
    """A series with its restorations: images ``(n, 1, h, w)`` in -1..1 and figures, one for each setting."""

    slices: Slices
    images: list[Tensor]
    scores: list[Scores]


class Quality(NamedTuple):
    """All settings over patients: intervals of ``(settings,)``, preference ``(settings, settings)``, and each
    patient's own means ``(4, settings)`` in the order of the intervals."""

    psnr: Interval
    ssim: Interval
    spectrum: Interval
    win_rate: Interval
    preference: Array
    patients: dict[str, Array]


def steps_of(text: str) -> tuple[int, ...]:
    """A list such as ``1,2,4``: increasing numbers of steps.

    Raises:
        UsageError: it is no such list.
    """
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        steps = ()
    if not steps or steps[0] < 1 or any(a >= b for a, b in pairwise(steps)):
        raise UsageError(f"steps: expected increasing whole numbers such as 1,2,4, found {text!r}")
    return steps


def restore_all(
    settings: Sequence[Setting],
    slices: Sequence[Slices],
    job: Job,
    factor: float,
    report: Callable[[str], None] = lambda line: None,
) -> list[RestoredSlices]:
    """Restore and score every series by every setting."""
    out = []
    for part in slices:
        images = [restore(s.engine, part.images, job, factor) for s in settings]
        scores = [score(x, part.images, job) for x in images]
        out.append(RestoredSlices(part, images, scores))
        best = max(zip(scores, settings, strict=True), key=lambda pair: pair[0].psnr.mean())
        report(
            f"{part.case} {part.series}: {len(part.images)} slices, best PSNR "
            f"{best[0].psnr.mean():.2f} dB by {best[1].name}"
        )
    return out


def quality(restored: Sequence[RestoredSlices]) -> Quality:
    """Means over patients, each patient's series first, of all figures and of the preferences. The first
    setting is interpolation, by which distances are scaled."""
    rows, matrices = [], []
    for part in restored:
        figures = np.stack([np.stack(s) for s in part.scores])  # settings, figures, slices
        shares = preferred(distance(figures[:, 1], figures[:, 2]))
        matrices.append((part.slices.case, shares))
        means = [*figures.mean(axis=2).T, win_rates(shares)]
        rows.append((part.slices.case, np.stack(means)))
    each = per_patient(rows)
    every = over_patients(each)
    psnr, ssim, spectrum, win_rate = (
        Interval(every.mean[i], every.low[i], every.high[i], every.patients) for i in range(4)
    )
    preference = over_patients(per_patient(matrices)).mean
    return Quality(psnr, ssim, spectrum, win_rate, preference, each)


def as_rows(settings: Sequence[Setting], found: Quality) -> list[dict[str, str | float | None]]:
    """One row per setting: means over patients, with the ends of their 95% intervals."""
    rows = []
    for i, setting in enumerate(settings):
        row: dict[str, str | float | None] = {
            "setting": setting.name,
            "steps": setting.steps,
            "evaluations": setting.engine.evaluations,
        }
        for name in ("psnr", "ssim", "spectrum", "win_rate"):
            interval: Interval = getattr(found, name)
            row[name] = number(interval.mean[i])
            row[f"{name}_low"] = number(interval.low[i])
            row[f"{name}_high"] = number(interval.high[i])
        rows.append(row)
    return rows


def slice_rows(
    settings: Sequence[Setting], restored: Sequence[RestoredSlices]
) -> list[dict[str, str | float | None]]:
    """One row per slice and setting."""
    return [
        {
            "case": part.slices.case,
            "series": part.slices.series,
            "slice": k,
            "setting": setting.name,
            "psnr": number(scores.psnr[k]),
            "ssim": number(scores.ssim[k]),
            "spectrum": number(scores.spectrum[k]),
        }
        for part in restored
        for setting, scores in zip(settings, part.scores, strict=True)
        for k in range(len(scores.psnr))
    ]


def as_markdown(settings: Sequence[Setting], found: Quality) -> str:
    """The table of all settings, and who is preferred to whom."""
    lines = [
        f"Mean over {patients(found.psnr.patients)}.",
        "",
        "| setting | evaluations | PSNR dB | SSIM | spectrum error dB | preferred |",
        "|---|---|---|---|---|---|",
    ]
    for i, s in enumerate(settings):
        lines.append(
            f"| {s.name} | {s.engine.evaluations} | {found.psnr.mean[i]:.2f} | {found.ssim.mean[i]:.4f} "
            f"| {found.spectrum.mean[i]:.2f} | {found.win_rate.mean[i]:.0%} |"
        )
    lines += [
        "",
        "Share of slices on which the row's setting is preferred to the column's:",
        "",
        "| | " + " | ".join(s.name for s in settings) + " |",
        "|---" * (len(settings) + 1) + "|",
    ]
    for i, s in enumerate(settings):
        cells = ["" if i == j else f"{share:.0%}" for j, share in enumerate(found.preference[i])]
        lines.append(f"| {s.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
