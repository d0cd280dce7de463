"""Kinds of evaluation, and how each is run: cases scored, results kept, the report written."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

import mrisr
from mrisr.core.errors import MrisrError, OutputError, one_line
from mrisr.core.options import Segmenting
from mrisr.evaluation.case import Case, Failure, ResultCache, Scale, Scored, ScoredResult
from mrisr.evaluation.methods import Method, Report, load_methods
from mrisr.evaluation.settings import ComparisonSettings
from mrisr.evaluation.statistics import Row, Table, summarise
from mrisr.io.atomic import make_folder


@dataclass(frozen=True)
class Switches:
    """Options of a run besides the file, as the command line has them.

    ``model`` and ``segmenting`` take the place of the file's, where they name one.
    """

    model: str | None = None
    device: str = "auto"
    into_card: bool = False
    skip_missing: bool = False
    allow_trained: bool = False
    segmenting: Segmenting = field(default_factory=Segmenting)


class Picture(NamedTuple):
    """A picture as PNG; ``file`` is its name in the folder ``pictures``, empty for the page alone."""

    title: str
    caption: str
    png: bytes
    file: str = ""


class Section(NamedTuple):
    """Pictures of the page under a heading, with a sentence on them."""

    title: str
    pictures: Sequence[Picture]
    text: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All findings of an evaluation: every result, and ``rows``, the same over patients.

    ``command`` makes the figures again; ``notes`` are further remarks for the reader.
    """

    experiment: Experiment
    methods: Sequence[Method]
    results: Sequence[ScoredResult]
    rows: Sequence[Row]
    failures: Sequence[Failure]
    notes: Sequence[str]
    command: str
    machine: dict[str, str]

    @property
    def scales(self) -> list[Scale]:
        """The scales that have results."""
        return sorted({r.scale for r in self.results})

    def at(self, scale: Scale, seen: bool = False) -> list[Row]:
        """The rows of one scale, and of patients that a model was trained on or of the others."""
        return [row for row in self.rows if (row.scale, row.seen) == (scale, seen)]

    def gain(self, result: ScoredResult) -> float | None:
        """PSNR over the baseline's on the same stack, dB; None where one of the two has none."""
        place = (result.case, result.series, result.scale)
        stack = [r for r in self.results if (r.case, r.series, r.scale) == place]
        psnr = {r.method: r.scored.means().get("psnr") for r in stack}
        own, base = psnr[result.method], psnr.get(self.experiment.baseline or "")
        return None if own is None or base is None else own - base


class Experiment(ABC):
    """A kind of evaluation: its cases, what is scored beside the methods, and how it is reported.

    Attributes:
        protocol: how the figures come about, in words.
        baseline: name of the method that gains are quoted against.
        reference: name of the method that paired tests compare with.
    """

    title: ClassVar[str]
    heading: ClassVar[str]
    settings: ComparisonSettings
    protocol: str
    baseline: str | None = None
    reference: str | None = None

    @abstractmethod
    def find_cases(self, data: Path, methods: Sequence[Method], note: Report) -> Sequence[Case]:
        """The stacks to score. Raises MrisrError where there is none, or a model has seen them."""

    def controls(self, scale: Scale) -> list[Method]:
        """Rows of every table beside the methods: images that are not restored."""
        return []

    @abstractmethod
    def command(self, config: Path, asked: Switches) -> str:
        """The command that reproduces the figures; the reader's folders are DATA, CACHE and OUT."""

    @abstractmethod
    def line(self, scored: Scored) -> str:
        """A score in a few words, for progress."""

    @abstractmethod
    def remarks(self, done: Evaluation) -> list[str]:
        """Sentences that a reader of the tables must know, between protocol and machine."""

    @abstractmethod
    def tables(self, done: Evaluation) -> list[Table]:
        """The tables of the report, means over patients."""

    @abstractmethod
    def patient(self, means: Mapping[str, float]) -> dict[str, str]:
        """A patient's figures in the last table: title -> cell."""

    @abstractmethod
    def csv(self, done: Evaluation) -> Table:
        """Every single figure, for programs."""

    @abstractmethod
    def sections(self, done: Evaluation) -> list[Section]:
        """The pictures of the page."""

    @abstractmethod
    def figures(self, scored: Scored) -> dict[str, Any]:
        """A score ready for JSON."""

    def details(self) -> dict[str, Any]:
        """Further entries of the JSON report."""
        return {}

    @abstractmethod
    def write_card(self, done: Evaluation, asked: Switches) -> None:
        """Write the figures into the cards they are of. Raises UsageError, OutputError."""


def conduct(
    experiment: Experiment, config: Path, data: Path, output: Path, asked: Switches, report: Report
) -> Evaluation:
    """Score every method on every case at every scale, and write the report into ``output``.

    ``results.csv``, ``.json``, ``.md``, ``.html`` and the pictures are written at the end; each single result
    lies in ``cases/`` as soon as it is there, and is made anew only if something that decides it has changed.

    Raises:
        InputError: the data hold none of the patients.
        UsageError: models are missing, are for another job, or were trained on a patient to score.
    """
    from mrisr.evaluation.report import write_report

    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        report(line)

    settings = experiment.settings
    methods = load_methods(settings, asked.model, asked.device, asked.skip_missing, note)
    cases = experiment.find_cases(data, methods, note)
    cache = ResultCache(make_folder(output) / "cases")
    results, failures = _score_all(experiment, methods, cases, cache, report)
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


def _score_all(
    experiment: Experiment,
    methods: Sequence[Method],
    cases: Sequence[Case],
    cache: ResultCache,
    report: Report,
) -> tuple[list[ScoredResult], list[Failure]]:
    """Every method on every stack at every scale; failures are reported and left out."""
    results: list[ScoredResult] = []
    failures: list[Failure] = []
    for case, scale in product(cases, experiment.settings.scales):
        for method in (*experiment.controls(scale), *methods):
            place = (case.name, case.series)
            where = f"{case.name} {case.series} {scale}, {method.name}"
            try:
                scored, cached = _score(experiment, method, case, scale, cache)
            except OutputError:
                raise
            except (MrisrError, RuntimeError, ValueError, MemoryError) as error:
                reason = one_line(error)[:300]
                name = method.name + (", as measured" if scale.scoring == "measured" else "")
                failures.append(Failure(*place, scale.factor, name, reason))
                report(f"failed: {where}: {reason}")
                continue
            cost = f", {scored.figures['seconds']:.2g} s / slice" if method.model else ""
            report(f"{where}: {experiment.line(scored)}{' (kept)' if cached else cost}")
            results.append(ScoredResult(*place, scale, method.name, scored, case.seen))
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
    cpu = f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
    devices = sorted({m.device for m in methods if m.model is not None}, key=str)
    names = [torch.cuda.get_device_name(d) if d.type == "cuda" else cpu for d in devices]
    return {
        "hardware": "; ".join(names) or "none",
        "mrisr": mrisr.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
