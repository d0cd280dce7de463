"""Kinds of evaluation: what each has of its own, and the findings that all have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from mrisr.core.options import Segmenting
from mrisr.evaluation.case import Case, Failure, Scale, Scored, ScoredResult
from mrisr.evaluation.methods import Method, Report
from mrisr.evaluation.settings import ComparisonSettings
from mrisr.evaluation.statistics import Row
from mrisr.evaluation.tables import Table


@dataclass(frozen=True)
class Switches:
    """Options of a run besides the file.

    Attributes:
        model: takes the place of the file's model.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        into_card: also write the figures into the card of the model that they are of.
        skip_missing: leave out methods whose model is missing.
        allow_trained: score patients too that a model was trained on, in tables of their own.
        segmenting: takes the place of the file's segmenter where it names one.
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
    """All findings of an evaluation.

    Attributes:
        experiment: the kind of evaluation, with its settings.
        methods: that were compared.
        results: of every stack, scale and method.
        rows: the same over patients.
        failures: results that could not be had.
        notes: further remarks for the reader.
        command: that makes the figures.
        machine: hardware and software, for the seconds.
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
    def settings(self) -> ComparisonSettings:
        """The settings of the file."""
        return self.experiment.settings

    @property
    def scales(self) -> list[Scale]:
        """The scales that have results."""
        return sorted({r.scale for r in self.results})

    def at(self, scale: Scale, seen: bool = False) -> list[Row]:
        """The rows of one scale, and of patients that a model was trained on or of the others."""
        return [row for row in self.rows if (row.scale, row.seen) == (scale, seen)]


class Experiment(ABC):
    """A kind of evaluation: its cases, what is scored beside the methods, and how it is reported.

    Attributes:
        settings: of the file.
        title: of the page.
        heading: of its tables.
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

    def details(self, done: Evaluation) -> dict[str, Any]:
        """Further entries of the JSON report."""
        return {}

    @abstractmethod
    def write_card(self, done: Evaluation, asked: Switches) -> None:
        """Write the figures into the cards they are of. Raises UsageError, OutputError."""
