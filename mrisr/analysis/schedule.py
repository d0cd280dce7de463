"""Grid search of the inference schedule for a given number of steps (after WaveGrad, Chen et al. 2021).

The search scores patients that the model was *trained* on, so that those held out remain a test; they are
scored once, after the choice.

What is best depends on what is wanted. PSNR alone is best served by one step, so it draws all levels to the
start, where they do what one step does; the spectrum alone by texture in the wrong places. The default asks
for the restoration *nearest* to the reference in both (:mod:`mrisr.analysis.scoring`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mrisr.analysis.output import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    command,
    markdown,
    new_figure,
    number,
    png,
    write_analysis,
)
from mrisr.analysis.schedule_grid import (
    Candidate,
    Criterion,
    Search,
    candidates,
    with_schedule,
    write_schedule,
)
from mrisr.analysis.scoring import Scores, distance, interpolation, restored, score
from mrisr.analysis.slices import (
    Array,
    Slices,
    cases_in,
    job_of,
    per_patient,
    read_slices,
)
from mrisr.core.errors import InputError
from mrisr.core.options import Sampling
from mrisr.io.atomic import make_folder
from mrisr.models.store import Model, load_model

#: Figures of a patient, means over its slices, in the order of an array of them.
MEASURES = ("psnr", "ssim", "spectrum", "distance")
#: Criterion to the measure it goes by, the sign that makes more of it better, and its name on an axis.
CRITERIA: dict[Criterion, tuple[int, int, str]] = {
    "nearest": (3, -1, "- distance from the reference"),
    "psnr": (0, 1, "PSNR (dB)"),
    "spectrum": (2, -1, "- spectrum error (dB)"),
}
#: Titles of the two comparisons.
TITLES = (
    "Training patients, on which it was chosen",
    "Validation patients, scored after the choice",
)
#: Patient to its figures ``(4,)``.
Figures: TypeAlias = dict[str, Array]


class Bench:
    """Slices of some patients on which candidates are scored, each once."""

    def __init__(self, model: Model, slices: Sequence[Slices], how: Search) -> None:
        self.model, self.slices, self.how, self.job = model, slices, how, job_of(model)
        self._found: dict[Candidate | None, Figures] = {}

    @cached_property
    def _base(self) -> list[Scores]:
        return self._scores(interpolation(self.job), Sampling(device=self.how.device))

    def _scores(self, model: Model, sampling: Sampling) -> list[Scores]:
        found = []
        for part in self.slices:
            result = restored(part.images, self.job, self.how.factor, model, sampling)
            found.append(score(result, part.images, self.job))
        return found

    def figures(self, candidate: Candidate | None) -> Figures:
        """Each patient's figures by a candidate, or by a single step (`None`)."""
        if candidate not in self._found:
            model, sampling = self.model, Sampling(steps=1, device=self.how.device)
            if candidate is not None:
                model = with_schedule(model, candidate.levels)
                steps = len(candidate.levels) - 1
                sampling = replace(sampling, steps=steps, eta=candidate.eta)
            scores = zip(self.slices, self._scores(model, sampling), self._base, strict=True)
            rows = [(part.case, figures_of(found, base)) for part, found, base in scores]
            self._found[candidate] = per_patient(rows)
        return self._found[candidate]

    def value(self, candidate: Candidate) -> float:
        """The criterion, mean over patients: more is better."""
        index, sign, _ = CRITERIA[self.how.criterion]
        return sign * float(mean_over(self.figures(candidate))[index])


def figures_of(scores: Scores, base: Scores) -> Array:
    """Means over slices ``(4,)``; ``base`` are the scores of interpolation on the same slices."""
    ssim, spectrum = (np.stack(pair) for pair in list(zip(base, scores, strict=True))[1:])
    return np.array([*(s.mean() for s in scores), distance(ssim, spectrum)[1].mean()])


def mean_over(figures: Figures) -> Array:
    """Mean over patients ``(4,)``."""
    return np.asarray(np.mean(list(figures.values()), axis=0))


def _numbers(figures: Array) -> dict[str, float | None]:
    return {name: number(value) for name, value in zip(MEASURES, figures, strict=True)}


def comparison(bench: Bench, chosen: Candidate, evenly: Candidate) -> dict[str, Any]:
    """The chosen schedule, the evenly spaced one and a single step: means over patients, and gains of the
    first over the second for each patient."""
    named = {"one step": None, "evenly spaced": evenly, "chosen": chosen}
    after, before = bench.figures(chosen), bench.figures(evenly)
    return {
        "means": {name: _numbers(mean_over(bench.figures(c))) for name, c in named.items()},
        "gain_by_patient": {case: _numbers(after[case] - before[case]) for case in after},
    }


def as_markdown(title: str, found: dict[str, Any]) -> str:
    """One comparison as a table, and the range of the gains."""
    gains = found["gain_by_patient"].values()
    header = ["levels", "PSNR dB", "SSIM", "spectrum error dB", "distance"]
    rows = [
        [
            name,
            f"{s['psnr']:.3f}",
            f"{s['ssim']:.4f}",
            f"{s['spectrum']:.3f}",
            f"{s['distance']:.4f}",
        ]
        for name, s in found["means"].items()
    ]
    named = {"psnr": "PSNR dB", "spectrum": "spectrum error dB", "distance": "distance"}
    ranges = "; ".join(
        f"{words} {min(g[name] for g in gains):+.3f} to {max(g[name] for g in gains):+.3f}"
        for name, words in named.items()
    )
    less = f"Chosen less evenly spaced, single patients: {ranges}."
    return f"{title} ({len(gains)}):\n\n{markdown(header, rows)}\n{less}\n"


def schedule_figure(grid: Sequence[Candidate], bench: Bench, chosen: Candidate) -> bytes:
    """The criterion on the training patients along both families, and where the chosen levels lie."""
    figure = new_figure(11, 3.8)
    time, snr, levels = figure.subplots(1, 3)
    for eta in sorted({c.eta for c in grid}):
        for axes, families, colour in ((time, ("time", "even"), BLUE), (snr, ("snr",), GREEN)):
            points = sorted(
                (c.parameter, bench.value(c)) for c in grid if c.eta == eta and c.family in families
            )
            x, y = zip(*points, strict=True)
            style = "-" if eta == 0 else "--"
            axes.plot(x, y, style, marker="o", ms=3, color=colour, label=f"eta {eta:g}")
            axes.axhline(bench.value(even(grid, eta)), ls=":", color=GREY, lw=0.8)
            axes.legend(frameon=False)
    time.set(xlabel="power of the spacing in time (1: even)", xscale="log")
    time.set_xticks([0.5, 1, 2, 3], ["0.5", "1", "2", "3"])
    time.minorticks_off()
    time.set_ylabel(CRITERIA[bench.how.criterion][2])
    snr.set(xlabel="last signal level before 1 (dotted: even in time)")
    for c, colour, name in ((even(grid, chosen.eta), GREY, "even"), (chosen, ORANGE, "chosen")):
        levels.plot(c.levels, "o-", color=colour, label=name)
    levels.set(xlabel="level", ylabel="signal level g", ylim=(0, 1.02))
    levels.legend(frameon=False)
    return png(figure)


def even(grid: Sequence[Candidate], eta: float) -> Candidate:
    """The evenly spaced levels at an eta."""
    return next(c for c in grid if c.family == "even" and c.eta == eta)


def analyze_schedule(
    model: str,
    data: Path,
    output: Path,
    how: Search,
    *,
    write: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Search on the model's training patients, check the choice on those held out, and write
    ``schedule.csv``, ``.json``, ``.md`` and ``.png`` into ``output``.

    Args:
        write: where a copy of the model with the schedule goes; see
            :func:`mrisr.analysis.schedule_grid.write_schedule`.

    Returns:
        The Markdown text.

    Raises:
        UsageError: no diffusion model, fewer than two steps, or a factor that does not suit.
        InputError: the cache cannot be read or holds none of the model's training patients.
        OutputError: the results, or the model, cannot be written.
    """
    loaded = load_model(model)
    name, training = loaded.card.name, loaded.card.training
    grid = candidates(loaded, how)
    seen = _bench(data, loaded, training.cases, how)
    if seen is None:
        raise InputError(data, expected=f"series of the training patients of {name}", found="none")
    held = _bench(data, loaded, training.validation_cases, how)
    make_folder(output)
    for candidate in grid:
        report(f"{candidate.title}: {how.criterion} {seen.value(candidate):.4f}")
    chosen = max(grid, key=seen.value)  # the earlier one of equals: even if nothing beats it
    evenly = even(grid, chosen.eta)
    found = {"training": comparison(seen, chosen, evenly), "validation": None}
    if held is not None:
        found["validation"] = comparison(held, chosen, evenly)
    text = f"{name}, x{how.factor:g}, {how.steps} steps, by {how.criterion}: {chosen.title}\n"
    text += f"levels: {', '.join(f'{g:.6g}' for g in chosen.levels)}\n"
    for title, part in zip(TITLES, found.values(), strict=True):
        text += "" if part is None else f"\n{as_markdown(title, part)}"
    if write is not None:
        card = write_schedule(with_schedule(loaded, chosen.levels), write)
        text += (
            f"\n{card}: has the schedule for {how.steps} steps; its figures were measured before.\n"
        )
    content = {"command": command("schedule", how, name), "chosen": chosen._asdict(), **found}
    figure = {"schedule.png": schedule_figure(grid, seen, chosen)}
    write_analysis(output, "schedule", _rows(grid, seen), content, text, figure)
    return text


def _bench(data: Path, model: Model, cases: Sequence[str], how: Search) -> Bench | None:
    """The slices of those of the cases that the cache holds; `None` where it holds none."""
    job = job_of(model)
    there = cases_in(data, job, cases)
    if not there:
        return None
    return Bench(model, read_slices(data, job, there, how), how)


def _rows(grid: Sequence[Candidate], bench: Bench) -> list[dict[str, str | float | None]]:
    """One row per candidate: figures on the training patients."""
    return [
        {
            "family": c.family,
            "parameter": c.parameter,
            "eta": c.eta,
            **_numbers(mean_over(bench.figures(c))),
            "value": number(bench.value(c)),
            "levels": " ".join(f"{g:.8g}" for g in c.levels),
        }
        for c in grid
    ]
