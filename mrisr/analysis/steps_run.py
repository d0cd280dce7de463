"""``mrisr analyze steps``: restore at several numbers of steps; write tables, a figure, the readers' page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mrisr.analysis import steps as of
from mrisr.analysis.output import csv_bytes
from mrisr.analysis.readers import check_enough, draw_trials, key_rows, reader_page
from mrisr.analysis.scoring import interpolation
from mrisr.analysis.slices import Slices, cases_in, job_of, operator_for, read_slices
from mrisr.analysis.steps_figure import steps_figure
from mrisr.config import Job
from mrisr.core.errors import InputError, UsageError
from mrisr.io.atomic import json_bytes, make_folder, write_together
from mrisr.models.store import Model, load_model
from mrisr.restore.engine import Engine
from mrisr.restore.sampling import Options


@dataclass(frozen=True)
class Steps:
    """What to compare, and on what.

    Attributes:
        steps: numbers of steps, increasing.
        factor: of the degradation.
        churn: none is the model's default.
        cases: patients; the model's validation patients if empty.
        slices: central slices of each series; ``crop`` pixels of their centres.
        seed: of the noise, and of what the readers' page draws.
        device: as in :class:`mrisr.restore.sampling.Options`.
    """

    steps: tuple[int, ...]
    factor: float
    churn: float | None = None
    cases: tuple[str, ...] = ()
    slices: int = 8
    crop: int = 320
    seed: int = 0
    device: str = "auto"


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
    job = job_of(loaded)
    settings = _settings(loaded, job, how)
    slices = _held_out(data, loaded, how)
    if readers:
        check_enough(len(how.steps), sum(len(part.images) for part in slices))
    make_folder(output)
    restored = of.restore_all(settings, slices, job, how.factor, report)
    found = of.quality(restored)
    text = of.as_markdown(settings, found)
    rows = of.as_rows(settings, found)
    files = {
        output / "steps.csv": csv_bytes(rows),
        output / "steps_slices.csv": csv_bytes(of.slice_rows(settings, restored)),
        output / "steps.json": json_bytes(_content(loaded, how, found, rows)),
        output / "steps.md": text.encode(),
        output / "steps.png": steps_figure(settings, found),
    }
    if readers:
        trials = draw_trials(settings, restored, how.seed)
        files[output / "readers.html"] = reader_page(settings, trials).encode()
        files[output / "readers_key.csv"] = csv_bytes(key_rows(settings, trials))
    write_together(files)
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
    slices = read_slices(data, job, cases, how.slices, how.crop)
    for part in slices:
        operator_for(job, how.factor, part.images)  # refuses a factor before any work
    return slices


def _content(
    model: Model, how: Steps, found: of.Quality, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    steps = ",".join(map(str, how.steps))
    churn = "" if how.churn is None else f" --churn {how.churn:g}"
    cases = f" --cases {','.join(how.cases)}" if how.cases else ""
    return {
        "command": f"mrisr analyze steps --model {model.card.name} --data CACHE --factor {how.factor:g} "
        f"--steps {steps}{churn} --slices {how.slices} --crop {how.crop}"
        f"{cases}{'' if how.seed == 0 else f' --seed {how.seed}'} --output OUT",
        "patients": sorted(found.patients),
        "settings": rows,
        "preference": [[round(float(v), 6) for v in row] for row in found.preference],
    }


def _settings(model: Model, job: Job, how: Steps) -> list[of.Setting]:
    """The job's interpolation as a baseline, then the model at each number of steps."""
    common = Options(churn=how.churn, seed=how.seed, device=how.device)
    engines = [Engine(model, replace(common, steps=steps)) for steps in how.steps]
    names = [f"{n} step{'s' * (n > 1)}" for n in how.steps]
    return [
        of.Setting("interpolation", 0, interpolation(job, how.device)),
        *(of.Setting(*s) for s in zip(names, how.steps, engines, strict=True)),
    ]
