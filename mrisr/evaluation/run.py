"""``mrisr evaluate``: methods compared on held-out patients; tables, a report, and the figures of a card."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

import mrisr
from mrisr.core.errors import InputError, MrisrError, OutputError
from mrisr.data import cache
from mrisr.evaluation.card import write_figures
from mrisr.evaluation.case import Case, Scored
from mrisr.evaluation.html import as_html
from mrisr.evaluation.methods import Method, held_out_cases, load_methods
from mrisr.evaluation.outcome import Evaluation, Failure
from mrisr.evaluation.perceptual import load_lpips
from mrisr.evaluation.report import as_csv, as_dictionary, as_markdown
from mrisr.evaluation.results import Result, Store, key_of
from mrisr.evaluation.score import degraded_cases
from mrisr.evaluation.settings import EvaluationSettings, load_evaluation
from mrisr.evaluation.statistics import summarise
from mrisr.io.atomic import json_bytes, make_folder, write_together

Report = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Switches:
    """What is asked besides the file.

    Attributes:
        model: takes the place of the file's model.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        into_card: also write the figures of the file's model into its card.
        skip_missing: leave out methods whose model is missing.
    """

    model: str | None = None
    device: str = "auto"
    into_card: bool = False
    skip_missing: bool = False


def evaluate(
    config: Path,
    data: Path,
    output: Path,
    switches: Switches | None = None,
    report: Report = lambda line: None,
) -> Evaluation:
    """Compare the methods of a file and write the report into ``output``.

    ``results.csv``, ``results.json``, ``results.md`` and ``results.html`` are written at the end; each
    single result lies in ``cases/`` as soon as it is there, and is not made again by a second run unless
    something that decides it has changed.

    Args:
        config: an evaluation file.
        data: a cache made by ``mrisr prepare``; with ``scoring: reference`` a folder of patients.

    Raises:
        InputError: the data hold none of the patients.
        UsageError: models are missing, are for another job, or were trained on a patient to score.
    """
    asked = switches or Switches()
    settings = load_evaluation(config)
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        report(line)

    methods = load_methods(
        settings,
        model=asked.model,
        device=asked.device,
        skip_missing=asked.skip_missing,
        report=note,
    )
    names = held_out_cases(settings, methods, note)
    cases = find_cases(data, settings, names)
    for name in sorted(set(names) - {case.name for case in cases}):
        note(f"left out: {name}, which has no scan to score")
    store = Store(make_folder(output) / "cases")
    results, failures = score_all(methods, cases, settings, store, report)
    done = Evaluation(
        settings=settings,
        methods=methods,
        results=results,
        rows=summarise(
            results, [m.name for m in methods], settings.baseline_name, settings.reference
        ),
        failures=failures,
        notes=notes,
        command=command_of(config, settings, asked),
        machine=machine_of(methods),
    )
    write_results(done, as_html(done), output)
    if asked.into_card:
        write_figures(done, asked.model or settings.model)
    return done


def find_cases(data: Path, settings: EvaluationSettings, names: Sequence[str]) -> Sequence[Case]:
    """The stacks of the patients to score. Raises InputError where there is none."""
    if settings.scoring == "reference":
        from mrisr.evaluation.reference import reference_cases

        return reference_cases(data, settings, names)
    stacks = cache.read_stacks(data, settings.planes)
    cases = degraded_cases(stacks, settings, names, load_lpips())
    if not cases:
        wanted = f"stacks of {', '.join(names)} ({', '.join(settings.planes)})"
        raise InputError(data, expected=wanted, found="none")
    return cases


def score_all(
    methods: Sequence[Method],
    cases: Sequence[Case],
    settings: EvaluationSettings,
    store: Store,
    report: Report,
) -> tuple[list[Result], list[Failure]]:
    """Every method on every stack at every factor; what fails is reported and left out."""
    results, failures = [], []
    for case in cases:
        for factor in settings.factors:
            for method in methods:
                where = f"{case.name} {case.series} x{factor:g}, {method.name}"
                found = tried(partial(score_or_load, method, case, factor, settings, store))
                if isinstance(found, str):
                    failures.append(Failure(case.name, case.series, factor, method.name, found))
                    report(f"failed: {where}: {found}")
                    continue
                scored, kept = found
                means = scored.means()
                figures = f"{means['psnr']:.2f} dB, SSIM {means['ssim']:.4f}"
                report(f"{where}: {figures}{' (kept)' if kept else f', {scored.seconds:.2g} s'}")
                results.append(Result(case.name, case.series, factor, method.name, scored))
    return results, failures


def tried(work: Callable[[], T]) -> T | str:
    """What ``work`` gives, or in one line why it cannot be had. Raises OutputError."""
    try:
        return work()
    except OutputError:
        raise
    except (MrisrError, RuntimeError, ValueError, MemoryError) as error:
        return " ".join(str(error).split())[:300] or type(error).__name__


def score_or_load(
    method: Method, case: Case, factor: float, settings: EvaluationSettings, store: Store
) -> tuple[Scored, bool]:
    """A result, and whether it is one that an earlier run has kept."""
    key = key_of(case, method, factor, settings)
    kept = store.load(case, method, factor, key)
    if kept is not None:
        return kept, True
    return store.save(case, method, factor, key, case.score(method, factor)), False


def write_results(evaluation: Evaluation, page: str, output: Path) -> None:
    """Write ``results.csv``, ``.json``, ``.md`` and, of the page, ``.html``. Raises OutputError."""
    write_together(
        {
            output / "results.json": json_bytes(as_dictionary(evaluation)),
            output / "results.csv": as_csv(evaluation).encode(),
            output / "results.md": as_markdown(evaluation).encode(),
            output / "results.html": page.encode(),
        }
    )


def command_of(config: Path, settings: EvaluationSettings, asked: Switches) -> str:
    """What reproduces the figures; DATA or CACHE and OUT stand for the reader's folders."""
    data = "DATA" if settings.scoring == "reference" else "CACHE"
    model = asked.model or settings.model
    named = f" --model {model}" if model is not None else ""
    return f"mrisr evaluate --config configs/{config.name}{named} --data {data} --output OUT"


def machine_of(methods: Sequence[Method]) -> dict[str, str]:
    """Hardware and software, as far as seconds depend on them."""
    devices = {m.engine.device for m in methods if m.engine is not None}
    names = []
    for device in sorted(devices, key=str):
        if device.type == "cuda":
            names.append(torch.cuda.get_device_name(device))
        else:
            names.append(f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)")
    return {
        "hardware": "; ".join(names) or "none",
        "mrisr": mrisr.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
