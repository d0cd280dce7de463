"""Grid search of the inference schedule for a given number of steps (after WaveGrad, Chen et al. 2021).

A network that is told the continuous noise scale can be sampled along any levels. Evenly in the schedule's
time is one choice; here others are tried, from two families of one parameter each:

``time``
    ``t_i = t_K (1 - i / n)^p``: p > 1 puts more levels near the end (little noise), p < 1 near the start.
``snr``
    evenly in the logarithm of the signal-to-noise ratio g^2 / (1 - g^2), from the start to a last
    level g, and from there to 1.

The search scores patients that the model was *trained* on, so that those held out remain a test; they are
scored once, after the choice.

What is best depends on what is wanted. PSNR alone is best served by one step, so it draws all levels to the
start, where they do what one step does; the spectrum alone by texture in the wrong places. The default asks
for the restoration *nearest* to the reference in both (:mod:`mrisr.analysis.preference`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mrisr.analysis.scoring import Means, Scores, interpolation, means, restore, score
from mrisr.analysis.slices import Slices, job_of, per_patient
from mrisr.config import DiffusionSettings, Job
from mrisr.core.errors import UsageError
from mrisr.diffusion.schedule import LinearSchedule, sampling_levels
from mrisr.methods import build_restorer
from mrisr.models.store import Model
from mrisr.restore.engine import Engine
from mrisr.restore.sampling import Options

POWERS = (0.35, 0.5, 0.7, 1.4, 2.0, 3.0)
LAST_LEVELS = (0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)

Criterion = Literal["nearest", "psnr", "spectrum"]
#: Patient to its figures, mean over its slices.
Figures = dict[str, Means]


@dataclass(frozen=True)
class Search:
    """How to look for a schedule.

    Attributes:
        steps: evaluations of the network, at least two.
        factor: of the degradation.
        churns: to try; none is the model's default.
        criterion: ``nearest`` to the reference (SSIM and spectrum), largest ``psnr``, or least ``spectrum``
            error.
        slices: central slices of each series.
        crop: edge in pixels of the central square of each.
        device: as in :class:`mrisr.restore.sampling.Options`.
    """

    steps: int
    factor: float
    churns: tuple[float, ...] = ()
    criterion: Criterion = "nearest"
    slices: int = 2
    crop: int = 192
    device: str = "auto"


class Candidate(NamedTuple):
    """A schedule to try: family, its parameter, churn, and the ``steps + 1`` levels up to 1."""

    family: Literal["even", "time", "snr"]
    parameter: float
    churn: float
    levels: tuple[float, ...]


class Known(NamedTuple):
    """Slices to restore, with the scores of interpolation on them."""

    slices: Slices
    base: Scores


class Tried(NamedTuple):
    """A candidate with its figures on the training patients, and the criterion's value: more is better."""

    candidate: Candidate
    figures: Figures
    value: float


def candidates(model: Model, how: Search) -> list[Candidate]:
    """The grid; for each churn the evenly spaced levels come first.

    Raises:
        UsageError: no diffusion model, or fewer than two steps, which leave nothing to place.
    """
    if model.card.method != "diffusion":
        raise UsageError(
            f"{model.card.name}: expected a diffusion model, found {model.card.method}"
        )
    if how.steps < 2:
        raise UsageError(
            f"steps: expected at least 2, found {how.steps}: one has no level to place"
        )
    churns = how.churns or (model.card.default_churn,)
    return [c for churn in churns for c in _grid(model.card.diffusion, how.steps, churn)]


def _grid(settings: DiffusionSettings, steps: int, churn: float) -> Iterator[Candidate]:
    clock, start = LinearSchedule(**settings.inference.model_dump()), settings.start
    first = float(clock.time(torch.tensor(start)))
    share = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    even = sampling_levels(clock, start, steps)
    yield Candidate("even", 1.0, churn, _levels(even, start))
    for power in POWERS:
        levels = clock.scale_at(first * share**power)
        yield Candidate("time", power, churn, _levels(levels, start))
    for last in (g for g in LAST_LEVELS if g > start):
        odds = torch.logit(torch.tensor([start**2, last**2], dtype=torch.float64))
        between = torch.linspace(float(odds[0]), float(odds[1]), steps, dtype=torch.float64)
        levels = torch.cat([between.sigmoid().sqrt(), torch.ones(1, dtype=torch.float64)])
        yield Candidate("snr", last, churn, _levels(levels, start))


def _levels(levels: torch.Tensor, start: float) -> tuple[float, ...]:
    """Levels as the model's card states them: eight digits, the model's own start and 1 at the ends."""
    between = [round(g, 8) for g in levels[1:-1].tolist()]
    return (start, *between, 1.0)


def with_schedule(model: Model, levels: Sequence[float]) -> Model:
    """The diffusion model with a schedule for ``len(levels) - 1`` steps in its card, and the same weights."""
    old = model.card.diffusion
    diffusion = old.model_copy(
        update={"schedules": {**old.schedules, len(levels) - 1: tuple(levels)}}
    )
    card = model.card.model_copy(update={"diffusion": diffusion})
    restorer = build_restorer(card, card.condition)
    restorer.network.load_state_dict(model.restorer.network.state_dict())
    return replace(model, card=card, restorer=restorer.eval().requires_grad_(False))


def known(slices: Sequence[Slices], job: Job, how: Search) -> list[Known]:
    """Slices with what interpolation reaches on them."""
    engine = interpolation(job, how.device)
    return [
        Known(s, score(restore(engine, s.images, job, how.factor), s.images, job)) for s in slices
    ]


def figures_of(engine: Engine, parts: Sequence[Known], factor: float) -> Figures:
    """Each patient's mean figures."""
    job = job_of(engine.model)
    rows: list[tuple[str, NDArray[np.float64]]] = []
    for slices, base in parts:
        found = score(restore(engine, slices.images, job, factor), slices.images, job)
        rows.append((slices.case, np.array(means(found, base))))
    return {case: Means(*figures.tolist()) for case, figures in per_patient(rows).items()}


def engine_for(model: Model, candidate: Candidate, device: str) -> Engine:
    """What samples along a candidate's levels, with its churn."""
    steps = len(candidate.levels) - 1
    options = Options(steps=steps, churn=candidate.churn, device=device)
    return Engine(with_schedule(model, candidate.levels), options)


def mean_over(figures: Figures) -> Means:
    """Mean over patients."""
    return Means(*np.mean(list(figures.values()), axis=0).tolist())


def criterion_value(figures: Figures, criterion: Criterion) -> float:
    """What is to be large, mean over patients: PSNR, or minus the spectrum error or the distance."""
    found = mean_over(figures)
    return {"psnr": found.psnr, "spectrum": -found.spectrum, "nearest": -found.distance}[criterion]


def search(
    model: Model,
    parts: Sequence[Known],
    how: Search,
    report: Callable[[str], None] = lambda line: None,
) -> list[Tried]:
    """Try every candidate on slices of training patients; in the grid's order.

    Raises:
        UsageError: fewer than two steps, or no diffusion model.
    """
    tried = []
    for candidate in candidates(model, how):
        figures = figures_of(engine_for(model, candidate, how.device), parts, how.factor)
        value = criterion_value(figures, how.criterion)
        name = f"{candidate.family} {candidate.parameter:g}, churn {candidate.churn:g}"
        report(f"{name}: {how.criterion} {value:.4f}")
        tried.append(Tried(candidate, figures, value))
    return tried


def best(tried: Sequence[Tried]) -> Tried:
    """The candidate with the largest value, the earlier one of equals: evenly spaced if nothing beats it."""
    return max(tried, key=lambda t: t.value)


def even(tried: Sequence[Tried], churn: float) -> Tried:
    """The evenly spaced levels at a churn."""
    return next(t for t in tried if t.candidate.family == "even" and t.candidate.churn == churn)
