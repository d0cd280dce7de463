"""``mrisr analyze schedule``: search on training patients, check on those held out, write what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mrisr.analysis.output import csv_bytes
from mrisr.analysis.schedule import (
    Search,
    Tried,
    best,
    candidates,
    engine_for,
    even,
    figures_of,
    known,
    search,
    with_schedule,
)
from mrisr.analysis.schedule_files import (
    as_markdown,
    as_rows,
    comparison,
    schedule_figure,
    write_schedule,
)
from mrisr.analysis.slices import Slices, cases_in, job_of, operator_for, read_slices
from mrisr.core.errors import InputError
from mrisr.io.atomic import json_bytes, make_folder, write_together
from mrisr.models.store import Model, load_model
from mrisr.restore.engine import Engine
from mrisr.restore.sampling import Options


class Found(NamedTuple):
    """The candidates, the chosen one, and what it gains over the evenly spaced levels at its churn; nothing
    on the validation patients where the cache holds none."""

    tried: list[Tried]
    chosen: Tried
    training: dict[str, Any]
    validation: dict[str, Any] | None


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
            :func:`mrisr.analysis.schedule_files.write_schedule`.

    Returns:
        The Markdown text.

    Raises:
        UsageError: no diffusion model, fewer than two steps, or a factor that does not suit.
        InputError: the cache cannot be read or holds none of the model's training patients.
        OutputError: the results, or the model, cannot be written.
    """
    loaded = load_model(model)
    candidates(loaded, how)  # refuses what cannot be, before any work
    training = loaded.card.training
    seen = _slices(data, loaded, training.cases, how)
    if not seen:
        wanted = f"series of the training patients of {loaded.card.name}"
        raise InputError(data, expected=wanted, found="none")
    held = _slices(data, loaded, training.validation_cases, how)
    make_folder(output)
    found = _found(loaded, seen, held, how, report)
    text = _text(loaded, how, found)
    if write is not None:
        changed = with_schedule(loaded, found.chosen.candidate.levels)
        card = write_schedule(changed, write)
        text += (
            f"\n{card}: has the schedule for {how.steps} steps; its figures were measured before.\n"
        )
    write_together(
        {
            output / "schedule.csv": csv_bytes(as_rows(found.tried)),
            output / "schedule.json": json_bytes(_content(loaded, how, found)),
            output / "schedule.md": text.encode(),
            output / "schedule.png": schedule_figure(found.tried, found.chosen, how.criterion),
        }
    )
    return text


def _slices(data: Path, model: Model, cases: Sequence[str], how: Search) -> list[Slices]:
    """The slices of those of the cases that the cache holds."""
    job = job_of(model)
    there = cases_in(data, job, cases)
    slices = read_slices(data, job, there, how.slices, how.crop) if there else []
    for part in slices:
        operator_for(job, how.factor, part.images)
    return slices


def _found(
    model: Model,
    seen: Sequence[Slices],
    held: Sequence[Slices],
    how: Search,
    report: Callable[[str], None],
) -> Found:
    job = job_of(model)
    parts = known(seen, job, how)
    tried = search(model, parts, how, report)
    chosen = best(tried)
    evenly = even(tried, chosen.candidate.churn)
    single = Engine(model, Options(steps=1, device=how.device))
    training = comparison(chosen.figures, evenly.figures, figures_of(single, parts, how.factor))
    validation = None
    if held:
        parts = known(held, job, how)
        engines = [engine_for(model, t.candidate, how.device) for t in (chosen, evenly)]
        validation = comparison(*(figures_of(e, parts, how.factor) for e in (*engines, single)))
    return Found(tried, chosen, training, validation)


def _text(model: Model, how: Search, found: Found) -> str:
    candidate = found.chosen.candidate
    name = f"{candidate.family} {candidate.parameter:g}, churn {candidate.churn:g}"
    parts = [
        f"{model.card.name}, x{how.factor:g}, {how.steps} steps, by {how.criterion}: {name}",
        f"levels: {', '.join(f'{g:.6g}' for g in candidate.levels)}",
        "",
        as_markdown("Training patients, on which it was chosen", found.training),
    ]
    if found.validation is not None:
        parts.append(as_markdown("Validation patients, scored after the choice", found.validation))
    return "\n".join(parts)


def _content(model: Model, how: Search, found: Found) -> dict[str, Any]:
    churns = "".join(f" --churn {c:g}" for c in how.churns)
    return {
        "command": f"mrisr analyze schedule --model {model.card.name} --data CACHE --steps {how.steps} "
        f"--factor {how.factor:g} --criterion {how.criterion} --slices {how.slices} --crop {how.crop}"
        f"{churns} --output OUT",
        "chosen": found.chosen.candidate._asdict(),
        "training": found.training,
        "validation": found.validation,
    }
