"""Schedules that a search tries, and a schedule in a model's card.

A network that is told the continuous signal level can be sampled along any levels. Evenly in the schedule's
time is one choice; here others are tried, from two families of one parameter each:

``time``
    ``t_i = t_K (1 - i / n)^p``: p > 1 puts more levels near the end (little noise), p < 1 near the start.
``snr``
    evenly in the logarithm of the signal-to-noise ratio g^2 / (1 - g^2), from the start to a last
    level g, and from there to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from mrisr.analysis.slices import Selection
from mrisr.core.errors import OutputError, UsageError
from mrisr.diffusion.schedule import LinearSchedule, sampling_levels
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.methods import build_restorer
from mrisr.models.find import read_card
from mrisr.models.store import Model, write_card

POWERS = (0.35, 0.5, 0.7, 1.4, 2.0, 3.0)
LAST_LEVELS = (0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)

Criterion = Literal["nearest", "psnr", "spectrum"]


@dataclass(frozen=True, kw_only=True)
class Search(Selection):
    """Settings of the search for a schedule.

    Attributes:
        steps: evaluations of the network, at least two.
        eta: values of DDIM's eta to try; empty: the model's default.
        criterion: ``nearest`` to the reference (SSIM and spectrum), largest ``psnr``, or least ``spectrum``
            error.
    """

    steps: int
    eta: tuple[float, ...] = ()
    criterion: Criterion = "nearest"
    slices: int = 2
    crop: int = 192


class Candidate(NamedTuple):
    """A schedule to try: family, its parameter, DDIM's eta, and the ``steps + 1`` levels up to 1."""

    family: Literal["even", "time", "snr"]
    parameter: float
    eta: float
    levels: tuple[float, ...]

    @property
    def title(self) -> str:
        """The candidate in words."""
        return f"{self.family} {self.parameter:g}, eta {self.eta:g}"


def candidates(model: Model, how: Search) -> list[Candidate]:
    """The grid; for each eta the evenly spaced levels come first.

    Raises:
        UsageError: no diffusion model, or fewer than two steps, which leave nothing to place.
    """
    card = model.card
    if card.method != "diffusion":
        raise UsageError(f"{card.name}: expected a diffusion model, found {card.method}")
    if how.steps < 2:
        raise UsageError(
            f"steps: expected at least 2, found {how.steps}: one has no level to place"
        )
    grid = list(_grid(model, how.steps))
    return [c._replace(eta=eta) for eta in how.eta or (card.default_eta,) for c in grid]


def _grid(model: Model, steps: int) -> Iterator[Candidate]:
    settings = model.card.diffusion
    clock, start = LinearSchedule(**settings.inference.model_dump()), settings.start
    first = float(clock.time(torch.tensor(start)))
    share = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    even = sampling_levels(clock, start, steps)
    yield Candidate("even", 1.0, 0.0, _levels(even, start))
    for power in POWERS:
        levels = clock.scale_at(first * share**power)
        yield Candidate("time", power, 0.0, _levels(levels, start))
    for last in (g for g in LAST_LEVELS if g > start):
        odds = torch.logit(torch.tensor([start**2, last**2], dtype=torch.float64))
        between = torch.linspace(float(odds[0]), float(odds[1]), steps, dtype=torch.float64)
        levels = torch.cat([between.sigmoid().sqrt(), torch.ones(1, dtype=torch.float64)])
        yield Candidate("snr", last, 0.0, _levels(levels, start))


def _levels(levels: torch.Tensor, start: float) -> tuple[float, ...]:
    """Levels as the model's card states them: eight digits, the model's own start and 1 at the ends."""
    between = [round(g, 8) for g in levels[1:-1].tolist()]
    return (start, *between, 1.0)


def with_schedule(model: Model, levels: Sequence[float]) -> Model:
    """The diffusion model with a schedule for ``len(levels) - 1`` steps in its card, and the same weights."""
    old = model.card.diffusion
    schedules = {**old.schedules, len(levels) - 1: tuple(levels)}
    diffusion = old.model_copy(update={"schedules": schedules})
    card = model.card.model_copy(update={"diffusion": diffusion})
    restorer = build_restorer(card, card.condition)
    restorer.network.load_state_dict(model.restorer.network.state_dict())
    return replace(model, card=card, restorer=restorer.eval().requires_grad_(False))


def write_schedule(model: Model, path: Path) -> Path:
    """Put a model's schedules into the model at ``path``, beside those that it has.

    ``path`` is a folder, which becomes a copy of the model if there is none in it yet, or the card of a copy.

    Returns:
        The card that was written.

    Raises:
        OutputError: another model lies there, or it cannot be written.
    """
    card_file = path if path.suffix == ".json" else path / "model.json"
    card = model.card
    if card_file.exists():
        there = read_card(card_file)
        if there.sha256 != card.sha256:
            raise OutputError(
                f"{card_file}: expected the weights of {card.name}, found {there.name}"
            )
        schedules = {**there.diffusion.schedules, **card.diffusion.schedules}
        diffusion = there.diffusion.model_copy(update={"schedules": schedules})
        card = there.model_copy(update={"diffusion": diffusion})
    else:
        make_folder(card_file.parent)
        weights = model.path.with_suffix(".safetensors").read_bytes()
        write_bytes(card_file.with_suffix(".safetensors"), weights)
    write_card(card, card_file)
    return card_file
