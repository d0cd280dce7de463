"""Quality against the number of steps (PartDiff Fig. 13): fidelity, spectrum, and an automated preference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mrisr.analysis.output import (
    BLUE,
    GREY,
    command,
    csv_bytes,
    markdown,
    new_figure,
    number,
    patients,
    png,
    write_analysis,
)
from mrisr.analysis.readers import check_enough, draw_trials, key_rows, reader_page
from mrisr.analysis.scoring import (
    RestoredSlices,
    Setting,
    distance,
    interpolation,
    preferred,
    restore_all,
    win_rates,
)
from mrisr.analysis.slices import (
    Array,
    Selection,
    Slices,
    cases_in,
    job_of,
    per_patient,
    read_slices,
)
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Sampling
from mrisr.core.statistics import Interval, mean_interval
from mrisr.io.atomic import make_folder
from mrisr.models.store import Model, load_model
from mrisr.restore.restore import resolved

#: Figures over patients, in the order of an array of them, and their titles.
TITLES = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "spectrum": "spectrum error (dB)",
    "win_rate": "preferred (share)",
}


@dataclass(frozen=True, kw_only=True)
class Steps(Selection):
    """Numbers of steps to compare.

    Attributes:
        steps: increasing.
        eta: DDIM's eta; `None` is the model's default.
        cases: patients; the model's validation patients if empty.
        seed: of the noise, and of the readers' page.
    """

    steps: tuple[int, ...]
    eta: float | None = None
    cases: tuple[str, ...] = ()
    seed: int = 0

    def sampling(self, model: Model, steps: int) -> Sampling:
        """Options of sampling in a number of steps. Raises UsageError where the model cannot do them."""
        seeded = "seed" in model.restorer.options
        several = self.steps[-1] > 1  # a single step has no eta, which the others may have
        sampling = Sampling(
            steps=steps,
            eta=None if several and steps == 1 else self.eta,
            seed=self.seed if seeded else None,
            device=self.device,
        )
        return resolved(sampling, model)


class Quality(NamedTuple):
    """All settings over patients: figures ``(4, settings)`` with their intervals, preference
    ``(settings, settings)``, and each patient's own figures."""

    figures: Interval
    preference: Array
    patients: dict[str, Array]


def steps_of(text: str) -> tuple[int, ...]:
    """Read a list such as ``1,2,4``: increasing numbers of steps.

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


def quality(parts: Sequence[RestoredSlices]) -> Quality:
    """Means over patients, each patient's series first, of all figures and of the preferences. The first
    setting is interpolation, by which distances are scaled."""
    rows, matrices = [], []
    for part in parts:
        figures = np.stack([np.stack(s) for s in part.scores])  # settings, figures, slices
        shares = preferred(distance(figures[:, 1], figures[:, 2]))
        matrices.append((part.slices.case, shares))
        rows.append((part.slices.case, np.stack([*figures.mean(axis=2).T, win_rates(shares)])))
    each = per_patient(rows)
    preference = mean_interval(list(per_patient(matrices).values())).mean
    return Quality(mean_interval(list(each.values())), preference, each)


def as_rows(settings: Sequence[Setting], found: Quality) -> list[dict[str, str | float | None]]:
    """One row per setting: means over patients, with the ends of their 95% intervals."""
    rows = []
    for i, setting in enumerate(settings):
        row: dict[str, str | float | None] = {
            "setting": setting.name,
            "steps": setting.steps,
            "evaluations": setting.evaluations,
        }
        for k, name in enumerate(TITLES):
            row[name] = number(found.figures.mean[k, i])
            row[f"{name}_low"] = number(found.figures.low[k, i])
            row[f"{name}_high"] = number(found.figures.high[k, i])
        rows.append(row)
    return rows


def slice_rows(
    settings: Sequence[Setting], parts: Sequence[RestoredSlices]
) -> list[dict[str, str | float | None]]:
    """One row per slice and setting."""
    return [
        {
            "case": part.slices.case,
            "series": part.slices.series,
            "slice": k,
            "setting": setting.name,
            **{name: number(figure[k]) for name, figure in scores._asdict().items()},
        }
        for part in parts
        for setting, scores in zip(settings, part.scores, strict=True)
        for k in range(len(scores.psnr))
    ]


def as_markdown(settings: Sequence[Setting], found: Quality) -> str:
    """The table of all settings, and who is preferred to whom."""
    header = ["setting", "evaluations", "PSNR dB", "SSIM", "spectrum error dB", "preferred"]
    formats = (".2f", ".4f", ".2f", ".0%")
    table = [
        [s.name, str(s.evaluations), *map(format, found.figures.mean[:, i], formats)]
        for i, s in enumerate(settings)
    ]
    shares = [
        [s.name, *("" if i == j else f"{share:.0%}" for j, share in enumerate(row))]
        for i, (s, row) in enumerate(zip(settings, found.preference, strict=True))
    ]
    return (
        f"Mean over {patients(found.figures.n)}.\n\n{markdown(header, table)}\n"
        "Share of slices on which the row's setting is preferred to the column's:\n\n"
        f"{markdown(['', *(s.name for s in settings)], shares)}"
    )


def steps_figure(settings: Sequence[Setting], found: Quality) -> bytes:
    """Each figure against the steps: mean over patients, thin lines for each, interpolation as a line."""
    figure = new_figure(12, 3.4)
    steps = [s.steps for s in settings[1:]]
    for axes, k, (name, title) in zip(
        figure.subplots(1, len(TITLES)), range(len(TITLES)), TITLES.items(), strict=True
    ):
        mean = found.figures.mean[k]
        for figures in found.patients.values():
            axes.plot(steps, figures[k][1:], color=BLUE, lw=0.7, alpha=0.5)
        axes.plot(steps, mean[1:], "o-", color=BLUE, lw=2, ms=4)
        axes.axhline(mean[0], ls="--", color=GREY, lw=1)
        place = (steps[0], mean[0])
        axes.annotate(settings[0].name, place, va="bottom", color=GREY, fontsize=8)
        axes.set(xscale="log", xlabel="steps", title=title)
        axes.set_xticks(steps, [str(s) for s in steps])
        axes.minorticks_off()
        if name == "win_rate":
            axes.set_ylim(0, 1)
        axes.margins(y=0.15)
    figure.suptitle(f"mean over {patients(found.figures.n)}; thin: each patient", fontsize=10)
    return png(figure)


def analyze_steps(
    model: str,
    data: Path,
    output: Path,
    how: Steps,
    *,
    readers: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Write ``steps.csv``, ``steps_slices.csv``, ``steps.json``, ``steps.md`` and ``steps.png`` into
    ``output``, and with ``readers`` the page ``readers.html`` and its key ``readers_key.csv`` as well.

    Returns:
        The Markdown text.

    Raises:
        UsageError: steps that the model cannot do, a patient that it was trained on, or fewer slices than
            settings for the readers.
        InputError: the cache cannot be read or lacks a patient.
        OutputError: the folder cannot be written.
    """
    loaded = load_model(model)
    base = interpolation(job_of(loaded))
    settings = [Setting("interpolation", 0, base, resolved(Sampling(device=how.device), base))]
    for n in how.steps:
        name = f"{n} step{'s' * (n > 1)}"
        settings.append(Setting(name, n, loaded, how.sampling(loaded, n)))
    slices = _held_out(data, loaded, how)
    if readers:
        check_enough(len(how.steps), sum(len(part.images) for part in slices))
    make_folder(output)
    parts = restore_all(settings, slices, how.factor, report)
    found = quality(parts)
    text, rows = as_markdown(settings, found), as_rows(settings, found)
    content = {
        "command": command("steps", how, loaded.card.name),
        "patients": sorted(found.patients),
        "settings": rows,
        "preference": [[round(float(v), 6) for v in row] for row in found.preference],
    }
    others = {
        "steps_slices.csv": csv_bytes(slice_rows(settings, parts)),
        "steps.png": steps_figure(settings, found),
    }
    if readers:
        trials = draw_trials(settings, parts, how.seed)
        others["readers.html"] = reader_page(settings, trials).encode()
        others["readers_key.csv"] = csv_bytes(key_rows(settings, trials))
    write_analysis(output, "steps", rows, content, text, others)
    return text


def _held_out(data: Path, model: Model, how: Steps) -> list[Slices]:
    """The slices to restore, none of a patient that the model was trained on."""
    card, job = model.card, job_of(model)
    trained = sorted(set(how.cases) & set(card.training.cases))
    if trained:
        raise UsageError(f"{card.name} was trained on {', '.join(trained)}; choose other patients")
    cases = how.cases or cases_in(data, job, card.training.validation_cases)
    if not cases:
        wanted = f"series of the validation patients of {card.name}"
        raise InputError(data, expected=wanted, found="none")
    return read_slices(data, job, cases, how)
