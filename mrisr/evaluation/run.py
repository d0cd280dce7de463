"""``mrisr evaluate``: methods compared on held-out patients; tables, a report, and the figures of a card."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import torch

import mrisr
from mrisr.core.errors import MrisrError, OutputError, one_line
from mrisr.evaluation.cache import ResultCache
from mrisr.evaluation.case import Case, Failure, Scale, Scored, ScoredResult
from mrisr.evaluation.experiment import Evaluation, Experiment, Switches
from mrisr.evaluation.images import Images
from mrisr.evaluation.methods import Method, Report, load_methods
from mrisr.evaluation.report import write_report
from mrisr.evaluation.settings import load_evaluation
from mrisr.evaluation.statistics import summarise
from mrisr.io.atomic import make_folder

#: Characters of a failure's reason.
LONGEST_REASON = 300
DEFAULTS = Switches()


def evaluate(
    config: Path,
    data: Path,
    output: Path,
    asked: Switches = DEFAULTS,
    report: Report = lambda line: None,
) -> Evaluation:
    """Compare the methods of a file on restored images; see :func:`conduct`.

    Args:
        config: an evaluation file.
        data: a cache made by ``mrisr prepare``; with ``scoring: reference`` a folder of patients.
    """
    return conduct(Images(load_evaluation(config)), config, data, output, asked, report)


def conduct(
    experiment: Experiment,
    config: Path,
    data: Path,
    output: Path,
    asked: Switches,
    report: Report = lambda line: None,
) -> Evaluation:
    """Score every method on every case at every scale, and write the report into ``output``.

    ``results.csv``, ``.json``, ``.md``, ``.html`` and the pictures are written at the end; each single result
    lies in ``cases/`` as soon as it is there, and is made anew only if something that decides it has changed.

    Raises:
        InputError: the data hold none of the patients.
        UsageError: models are missing, are for another job, or were trained on a patient to score.
    """
    settings = experiment.settings
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
    cases = experiment.find_cases(data, methods, note)
    cache = ResultCache(make_folder(output) / "cases")
    results, failures = score_all(experiment, methods, cases, cache, report)
    controls = [m for scale in settings.scales for m in experiment.controls(scale)]
    names = list(dict.fromkeys(m.name for m in (*controls, *methods)))
    done = Evaluation(
        experiment=experiment,
        methods=methods,
        results=results,
        rows=summarise(results, names, experiment.baseline, experiment.reference),
        failures=failures,
        notes=notes,
        command=experiment.command(config, asked),
        machine=machine_of(methods),
    )
    write_report(done, output)
    if asked.into_card:
        experiment.write_card(done, asked)
    return done


def score_all(
    experiment: Experiment,
    methods: Sequence[Method],
    cases: Sequence[Case],
    cache: ResultCache,
    report: Report,
) -> tuple[list[ScoredResult], list[Failure]]:
    """Every method on every stack at every scale; failures are reported and left out."""
    results: list[ScoredResult] = []
    failures: list[Failure] = []
    for case in cases:
        for scale in experiment.settings.scales:
            for method in (*experiment.controls(scale), *methods):
                where = f"{case.name} {case.series} {scale}, {method.name}"
                try:
                    scored, cached = _score(experiment, method, case, scale, cache)
                except OutputError:
                    raise
                except (MrisrError, RuntimeError, ValueError, MemoryError) as error:
                    reason = one_line(error)[:LONGEST_REASON]
                    name = method.name + (", as measured" if scale.scoring == "measured" else "")
                    failures.append(Failure(case.name, case.series, scale.factor, name, reason))
                    report(f"failed: {where}: {reason}")
                    continue
                cost = f", {scored.figures['seconds']:.2g} s / slice" if method.model else ""
                report(f"{where}: {experiment.line(scored)}{' (kept)' if cached else cost}")
                results.append(
                    ScoredResult(case.name, case.series, scale, method.name, scored, case.seen)
                )
    return results, failures


def _score(
    experiment: Experiment, method: Method, case: Case, scale: Scale, cache: ResultCache
) -> tuple[Scored, bool]:
    """A result, and whether an earlier run had it."""
    title = (case.name, case.series, str(scale), method.name)
    deciding = {
        "case": [case.name, case.series, case.digest],
        "scale": list(scale),
        "method": method.deciding(case.name),
        "settings": experiment.settings.deciding(),
    }
    found = cache.load(title, deciding)
    if found is not None:
        return found, True
    return cache.save(title, deciding, case.score(method, scale)), False


def machine_of(methods: Sequence[Method]) -> dict[str, str]:
    """Hardware and software, as far as seconds depend on them."""
    names = []
    for device in sorted({m.device for m in methods if m.model is not None}, key=str):
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
