"""From a manifest to a plan: what is to be made of each study, and what a rerun need not make again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from mrisr.batch.digest import Digests
from mrisr.batch.manifest import StackSource, Study
from mrisr.batch.names import HIDDEN, Stage, chunk_file
from mrisr.batch.parts import Part, Parts, models_of
from mrisr.batch.settings import BatchSettings
from mrisr.batch.status import settled
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.io import write_bytes, write_json
from mrisr.io.atomic import make_folder
from mrisr.io.files import remove

Report = Callable[[str], None]
#: Everything that is to be made of every study of a batch.
PLAN = f"{HIDDEN}/plan.json"


@dataclass(frozen=True)
class StudyPlan:
    """The parts that are to be made of a study.

    Attributes:
        folder: its folder within the output, which also is its name.
        sources: role -> where it comes from.
        parts: each after those that it needs.
        todo: ids of the parts that have not been made yet; the page's is among them wherever anything is
            to be made or removed.
    """

    folder: str
    sources: dict[str, StackSource]
    parts: tuple[Part, ...]
    todo: frozenset[str] = frozenset()

    @property
    def stages(self) -> set[Stage]:
        """The stages that have parts."""
        return {part.stage for part in self.parts}

    @property
    def stages_todo(self) -> set[Stage]:
        """The stages that have work to do."""
        return {part.stage for part in self.parts if part.id in self.todo}


@dataclass(frozen=True)
class Plan:
    """A batch before it runs.

    Attributes:
        batch: tells this run from others in the same folder.
        settings: of the batch.
        studies: in the order of the manifest.
        models: upsampled volume, or ``"zones"`` -> name and digest of its model.
    """

    batch: str
    settings: BatchSettings
    studies: tuple[StudyPlan, ...]
    models: dict[str, dict[str, str]] = field(default_factory=dict)

    def count(self, stage: Stage) -> tuple[int, int]:
        """Count the studies that a stage has work to do for, and those that it is planned for at all."""
        todo = sum(stage in study.stages_todo for study in self.studies)
        return todo, sum(stage in study.stages for study in self.studies)


def make_plan(
    studies: Sequence[Study], settings: BatchSettings, out: Path, report: Report = lambda line: None
) -> tuple[Plan, Digests]:
    """Plan a batch; nothing is written.

    Args:
        studies: of the manifest.
        settings: what is made of them.
        out: the batch's folder; what lies there already is not planned again.

    Returns:
        The plan, and the digests of inputs and outputs as far as they were asked for.

    Raises:
        UsageError, InputError: a model is missing, or its card cannot be read.
        OutputError: a study's data lie within the batch's folder.
    """
    _check_apart(studies, out)
    digests = Digests.load(sorted((out / HIDDEN / "digests").glob("*.json")))
    models = models_of(settings, digests)
    report(f"{len(studies)} studies: looking at their files")
    digests.look_at(source.path for study in studies for source in study.sources.values())
    plans = []
    for study in studies:
        parts = tuple(Parts(study, settings, models, digests).made.values())
        kept = {part.id for part in settled(out / study.folder, parts, digests)}
        todo = frozenset({part.id for part in parts} - kept)
        plans.append(StudyPlan(study.folder, study.sources, parts, todo))
    return Plan(uuid.uuid4().hex, settings, tuple(plans), models), digests


def write_plan(plan: Plan, digests: Digests, out: Path, chunk: int = 10) -> list[str]:
    """Write the plan, and the names of so many studies that have work to do into each chunk; their numbers.

    Raises OutputError.
    """
    for folder in ("chunks", "done"):
        remove(out / HIDDEN / folder)
        make_folder(out / HIDDEN / folder)
    digests.save(out / HIDDEN / "digests" / "plan.json")
    write_bytes(out / PLAN, _adapter().dump_json(plan))
    folders = [study.folder for study in plan.studies if study.todo]
    chunks = [folders[i : i + chunk] for i in range(0, len(folders), chunk)]
    width = max(3, len(str(len(chunks))))
    numbers = [f"{number:0{width}d}" for number in range(1, len(chunks) + 1)]
    for number, names in zip(numbers, chunks, strict=True):
        write_json(chunk_file(out, number), names)
    return numbers


def read_plan(out: Path) -> Plan:
    """The last plan of a batch. Raises UsageError where there is none."""
    try:
        return _adapter().validate_json((out / PLAN).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{out}: expected the folder of a batch, found none") from error


@cache
def _adapter() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


def _check_apart(studies: Sequence[Study], out: Path) -> None:
    """Refuse inputs within the output: results would be taken for inputs. Raises InputError, OutputError."""
    real = Path(os.path.realpath(out))
    if real.exists() and not real.is_dir():
        raise OutputError(f"{out}: expected a folder, found something else there")
    for study in studies:
        for role, source in study.sources.items():
            path = Path(os.path.realpath(source.path))
            if path == real or real in path.parents:
                expected = f"{role} of {study.folder} outside of the output"
                raise InputError(source.path, expected=expected, found=f"it in {out}")
