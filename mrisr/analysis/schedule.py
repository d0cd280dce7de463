"""Grid search of the inference schedule for a given number of steps (after WaveGrad, Chen et al. 2021).

A network that is told the continuous signal level can be sampled along any levels. Evenly in the schedule's
time is one choice; here others are tried, from two families of one parameter each:

``time``
    ``t_i = t_K (1 - i / n)^p``: p > 1 puts more levels near the end (little noise), p < 1 near the start.
``snr``
    evenly in the logarithm of the signal-to-noise ratio g^2 / (1 - g^2), from the start to a last
    level g, and from there to 1.

The search scores patients that the model was *trained* on, so that those held out remain a test; they are
scored once, after the choice. What is best depends on what is wanted. PSNR alone is best served by one step,
so it draws all levels to the start, where they do what one step does; the spectrum alone by texture in the
wrong places. The default asks for the restoration *nearest* to the reference in both
(:mod:`mrisr.analysis.scoring`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mrisr.analysis import scoring
from mrisr.analysis.options import Criterion, Search, command
from mrisr.analysis.scoring import Array, Report, Slices
from mrisr.config import DiffusionSettings
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.core.options import Sampling
from mrisr.diffusion import LinearSchedule, sampling_levels
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.methods import build_restorer
from mrisr.models.card import ModelCard, read_card
from mrisr.models.store import Model, load_model, write_card
from mrisr.view.pages import new_figure, png

POWERS = (0.35, 0.5, 0.7, 1.4, 2.0, 3.0)
LAST_LEVELS = (0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
#: Figures of a patient, means over its slices, in the order of an array of them: title and format.
MEASURES = {
    "psnr": ("PSNR dB", ".3f"),
    "ssim": ("SSIM", ".4f"),
    "spectrum": ("spectrum error dB", ".3f"),
    "distance": ("distance", ".4f"),
}
#: Criterion to the measure it goes by, the sign that makes more of it better, and its name on an axis.
CRITERIA: dict[Criterion, tuple[int, int, str]] = {
    "nearest": (3, -1, "- distance from the reference"),
    "psnr": (0, 1, "PSNR (dB)"),
    "spectrum": (2, -1, "- spectrum error (dB)"),
}
#: Patient to its figures ``(4,)``.
Figures: TypeAlias = dict[str, Array]
Family: TypeAlias = Literal["even", "time", "snr"]


class Candidate(NamedTuple):
    """A schedule to try: family, its parameter, DDIM's eta, and the ``steps + 1`` levels up to 1."""

    family: Family
    parameter: float
    eta: float
    levels: tuple[float, ...]


def candidates(model: Model, how: Search) -> list[Candidate]:
    """The grid; for each eta the evenly spaced levels come first. Raises UsageError for another method and
    for fewer than two steps."""
    card, found = model.card, how.steps
    if card.method != "diffusion":
        raise UsageError(f"{card.name}: expected a diffusion model, found {card.method}")
    if found < 2:
        raise UsageError(f"steps: expected at least 2, found {found}: one has no level to place")
    grid = []
    for family, parameter, levels in _families(card.diffusion, how.steps):
        # As cards state them: eight digits, the model's own start and 1 at the ends.
        between = [round(g, 8) for g in levels[1:-1].tolist()]
        grid.append((family, parameter, (card.diffusion.start, *between, 1.0)))
    etas = how.eta or (card.default_eta,)
    return [Candidate(family, p, eta, levels) for eta in etas for family, p, levels in grid]


def _families(settings: DiffusionSettings, steps: int) -> Iterator[tuple[Family, float, Tensor]]:
    """Family, parameter and ``steps + 1`` levels of each schedule to try."""
    clock, start = LinearSchedule(**settings.inference.model_dump()), settings.start
    first = float(clock.time(torch.tensor(start)))
    share = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    yield "even", 1.0, sampling_levels(clock, start, steps)
    for power in POWERS:
        yield "time", power, clock.scale_at(first * share**power)
    for last in (g for g in LAST_LEVELS if g > start):
        low, high = torch.logit(torch.tensor([start**2, last**2], dtype=torch.float64)).tolist()
        between = torch.linspace(low, high, steps, dtype=torch.float64)
        yield "snr", last, torch.cat([between.sigmoid().sqrt(), torch.ones(1)])


def even(grid: Sequence[Candidate], eta: float) -> Candidate:
    """The evenly spaced levels at an eta."""
    return next(c for c in grid if c.family == "even" and c.eta == eta)


class Bench:
    """Slices of some patients on which candidates are scored, each once."""

    def __init__(self, model: Model, slices: Sequence[Slices], how: Search) -> None:
        self.model, self.slices, self.how, self.job = model, slices, how, scoring.job_of(model)
        self._found: dict[Candidate | None, Figures] = {}
        self._base = self._scores(scoring.interpolation(self.job), Sampling(device=how.device))

    def _scores(self, model: Model, sampling: Sampling) -> list[Array]:
        factor, images = self.how.factor, [part.images for part in self.slices]
        made = (scoring.restored(x, self.job, factor, model, sampling) for x in images)
        return [scoring.score(result, x, self.job) for result, x in zip(made, images, strict=True)]

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
            self._found[candidate] = scoring.per_patient(rows)
        return self._found[candidate]

    def means(self, candidate: Candidate | None) -> Array:
        """Means over patients ``(4,)``."""
        return np.asarray(np.mean(list(self.figures(candidate).values()), axis=0))

    def value(self, candidate: Candidate) -> float:
        """The criterion, mean over patients: more is better."""
        index, sign, _ = CRITERIA[self.how.criterion]
        return sign * float(self.means(candidate)[index])


def figures_of(scores: Array, base: Array) -> Array:
    """Means over slices ``(4,)`` of scores ``(3, slices)``; ``base`` are those of interpolation."""
    _, ssim, spectrum = np.stack([base, scores], axis=1)
    return np.array([*scores.mean(axis=1), scoring.distance(ssim, spectrum)[1].mean()])


def comparison(bench: Bench, chosen: Candidate, evenly: Candidate) -> dict[str, Any]:
    """The chosen schedule, the evenly spaced one and a single step: means over patients, and gains of the
    first over the second for each patient."""
    named = {"one step": None, "evenly spaced": evenly, "chosen": chosen}
    after, before = bench.figures(chosen), bench.figures(evenly)
    return {
        "means": {name: scoring.numbers(MEASURES, bench.means(c)) for name, c in named.items()},
        "gain_by_patient": {
            case: scoring.numbers(MEASURES, after[case] - before[case]) for case in after
        },
    }


def as_rows(grid: Sequence[Candidate], bench: Bench) -> list[scoring.Row]:
    """One row per candidate: means over the patients of a bench."""
    return [
        {
            "family": c.family,
            "parameter": c.parameter,
            "eta": c.eta,
            **scoring.numbers(MEASURES, bench.means(c)),
            "value": scoring.number(bench.value(c)),
            "levels": " ".join(f"{g:.8g}" for g in c.levels),
        }
        for c in grid
    ]


def as_markdown(title: str, found: dict[str, Any]) -> str:
    """One comparison as a table, and the range of the gains."""
    gains = found["gain_by_patient"].values()
    header = ["levels", *(words for words, _ in MEASURES.values())]
    rows = [
        [name, *(format(means[measure], form) for measure, (_, form) in MEASURES.items())]
        for name, means in found["means"].items()
    ]
    ranges = "; ".join(
        f"{words} {min(g[name] for g in gains):+.3f} to {max(g[name] for g in gains):+.3f}"
        for name, (words, _) in MEASURES.items()
        if name != "ssim"
    )
    less = f"Chosen less evenly spaced, single patients: {ranges}."
    return f"{title} ({len(gains)}):\n\n{scoring.markdown(header, rows)}\n{less}\n"


def schedule_figure(grid: Sequence[Candidate], bench: Bench, chosen: Candidate) -> bytes:
    """The criterion on the training patients along both families, and where the chosen levels lie."""
    figure = new_figure(11, 3.8)
    time, snr, levels = figure.subplots(1, 3)
    for eta in sorted({c.eta for c in grid}):
        for axes, families, colour in (
            (time, ("time", "even"), scoring.BLUE),
            (snr, ("snr",), scoring.GREEN),
        ):
            points = sorted(
                (c.parameter, bench.value(c)) for c in grid if c.eta == eta and c.family in families
            )
            x, y = zip(*points, strict=True)
            style = "-" if eta == 0 else "--"
            axes.plot(x, y, style, marker="o", ms=3, color=colour, label=f"eta {eta:g}")
            axes.axhline(bench.value(even(grid, eta)), ls=":", color=scoring.GREY, lw=0.8)
            axes.legend(frameon=False)
    time.set(xlabel="power of the spacing in time (1: even)", xscale="log")
    time.set_xticks([0.5, 1, 2, 3], ["0.5", "1", "2", "3"])
    time.minorticks_off()
    time.set_ylabel(CRITERIA[bench.how.criterion][2])
    snr.set(xlabel="last signal level before 1 (dotted: even in time)")
    for c, colour, name in (
        (even(grid, chosen.eta), scoring.GREY, "even"),
        (chosen, scoring.ORANGE, "chosen"),
    ):
        levels.plot(c.levels, "o-", color=colour, label=name)
    levels.set(xlabel="level", ylabel="signal level g", ylim=(0, 1.02))
    levels.legend(frameon=False)
    return png(figure, dpi=120)


def with_schedule(model: Model, levels: Sequence[float]) -> Model:
    """The diffusion model with a schedule for ``len(levels) - 1`` steps in its card, and the same weights."""
    card = _scheduled(model.card, {len(levels) - 1: tuple(levels)})
    restorer = build_restorer(card, card.condition)
    restorer.network.load_state_dict(model.restorer.network.state_dict())
    return replace(model, card=card, restorer=restorer.eval().requires_grad_(False))


def _scheduled(card: ModelCard, more: dict[int, tuple[float, ...]]) -> ModelCard:
    """The card with further schedules, in the place of those for the same numbers of steps."""
    schedules = {**card.diffusion.schedules, **more}
    diffusion = card.diffusion.model_copy(update={"schedules": schedules})
    return card.model_copy(update={"diffusion": diffusion})


def write_schedule(model: Model, path: Path) -> Path:
    """Put a model's schedules into the model at ``path``, beside those that it has; returns its card.

    ``path`` is a folder, which becomes a copy of the model if there is none in it yet, or the card of a copy.
    Raises OutputError where another model lies there, or it cannot be written.
    """
    card_file = path if path.suffix == ".json" else path / "model.json"
    card = model.card
    if card_file.exists():
        there = read_card(card_file)
        if there.sha256 != card.sha256:
            raise OutputError(
                f"{card_file}: expected the weights of {card.name}, found {there.name}"
            )
        card = _scheduled(there, card.diffusion.schedules)
    else:
        make_folder(card_file.parent)
        weights = model.path.with_suffix(".safetensors").read_bytes()
        write_bytes(card_file.with_suffix(".safetensors"), weights)
    write_card(card, card_file)
    return card_file


def analyze_schedule(
    model: str,
    data: Path,
    output: Path,
    how: Search,
    *,
    write: Path | None = None,
    report: Report = lambda line: None,
) -> str:
    """Search on the model's training patients, check the choice on those held out, and write
    ``schedule.csv``, ``.json``, ``.md`` and ``.png`` into ``output``; returns the Markdown text.

    Args:
        write: where a copy of the model with the schedule goes; see :func:`write_schedule`.

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
    for c in grid:
        report(f"{_title(c)}: {how.criterion} {seen.value(c):.4f}")
    chosen = max(grid, key=seen.value)  # the earlier one of equals: even if nothing beats it
    evenly = even(grid, chosen.eta)
    found = {
        "training": comparison(seen, chosen, evenly),
        "validation": None if held is None else comparison(held, chosen, evenly),
    }
    text = f"{name}, x{how.factor:g}, {how.steps} steps, by {how.criterion}: {_title(chosen)}\n"
    text += f"levels: {', '.join(f'{g:.6g}' for g in chosen.levels)}\n"
    seen_title = "Training patients, on which it was chosen"
    held_title = "Validation patients, scored after the choice"
    for title, part in zip((seen_title, held_title), found.values(), strict=True):
        text += "" if part is None else f"\n{as_markdown(title, part)}"
    if write is not None:
        card = write_schedule(with_schedule(loaded, chosen.levels), write)
        text += (
            f"\n{card}: has the schedule for {how.steps} steps; its figures were measured before.\n"
        )
    content = {"command": command("schedule", how, name), "chosen": chosen._asdict(), **found}
    figure = {"schedule.png": schedule_figure(grid, seen, chosen)}
    scoring.write_analysis(output, "schedule", as_rows(grid, seen), content, text, figure)
    return text


def _title(c: Candidate) -> str:
    return f"{c.family} {c.parameter:g}, eta {c.eta:g}"


def _bench(data: Path, model: Model, cases: Sequence[str], how: Search) -> Bench | None:
    """The slices of those of the cases that the cache holds; `None` where it holds none."""
    job = scoring.job_of(model)
    there = scoring.cases_in(data, job, cases)
    if not there:
        return None
    slices = scoring.read_slices(
        data, job, there, factor=how.factor, count=how.slices, crop=how.crop
    )
    return Bench(model, slices, how)
