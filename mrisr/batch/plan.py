"""From a manifest to chunks: what is to be made of each study, and what a rerun need not make again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mrisr.batch.chunk import Chunk, StudyPlan
from mrisr.batch.digest import Digests
from mrisr.batch.locks import Busy, FileLock
from mrisr.batch.manifest import Study
from mrisr.batch.names import HIDDEN, STAGES, Stage, chunk_file, journal_file, lock_file, marker
from mrisr.batch.parts import Planner
from mrisr.batch.settings import BatchSettings
from mrisr.batch.state import forget_attempts, unsettled
from mrisr.core.errors import InputError, OutputError
from mrisr.io.atomic import json_bytes, make_folder, write_bytes

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A batch before it runs.

    Attributes:
        settings: of the batch.
        chunks: number -> the studies of a chunk.
        todo: study -> the stages that have work to do for it.
        models: upsampled volume, or ``"zones"`` -> name and digest of its model.
        digests: of inputs and outputs, as far as they were asked for.
    """

    settings: BatchSettings
    chunks: dict[str, Chunk]
    todo: dict[str, set[Stage]]
    models: dict[str, dict[str, str]]
    digests: Digests

    @property
    def studies(self) -> tuple[StudyPlan, ...]:
        """All studies, in the order of the manifest."""
        return tuple(study for chunk in self.chunks.values() for study in chunk.studies)

    def count(self, stage: Stage) -> tuple[int, int]:
        """How many studies a stage has work to do for, and how many it is planned for at all."""
        wanted = [s for s in self.studies if s.of(stage) or stage in self.todo[s.folder]]
        return sum(stage in self.todo[s.folder] for s in wanted), len(wanted)


def make_plan(
    studies: Sequence[Study],
    settings: BatchSettings,
    out: Path,
    *,
    chunk: int = 10,
    report: Report = lambda line: None,
) -> Plan:
    """Plan a batch; nothing is written.

    Args:
        studies: of the manifest.
        settings: what is made of them.
        out: the batch's folder; what lies there already is not planned again.
        chunk: studies that share a process.

    Raises:
        UsageError, InputError: a model is missing, or its card cannot be read.
        OutputError: a study's data lie within the batch's folder.
    """
    _check_apart(studies, out)
    digests = known_digests(out)
    planner = Planner(settings, digests)
    models = planner.all_models()
    report(f"{len(studies)} studies: looking at their files")
    digests.of_all(source.path for study in studies for source in study.sources.values())
    plans = [planner.plan(study) for study in studies]
    todo = {plan.folder: unsettled(out, plan, digests) for plan in plans}
    width = max(3, len(str(-(-len(plans) // chunk))))
    chunks = {
        f"{i // chunk + 1:0{width}d}": Chunk(settings, tuple(plans[i : i + chunk]))
        for i in range(0, len(plans), chunk)
    }
    return Plan(settings, chunks, todo, models, digests)


def known_digests(out: Path) -> Digests:
    """The digests that earlier runs have kept."""
    return Digests.load(sorted((out / HIDDEN / "digests").glob("*.json")))


def write_plan(plan: Plan, out: Path) -> None:
    """Write the chunks into the batch's folder, and markers that tell Snakemake what is to be done.

    Raises OutputError.
    """
    for number, chunk in plan.chunks.items():
        _write_if_changed(chunk_file(out, number), json_bytes(chunk.as_json()))
        _mark(plan, out, number, chunk)
    for path in (out / HIDDEN / "chunks").glob("*.json"):
        if path.stem not in plan.chunks:
            path.unlink()
            for stage in STAGES:
                marker(out, stage, path.stem).unlink(missing_ok=True)
    plan.digests.save(out / HIDDEN / "digests" / "plan.json")
    overview_marker(out).unlink(missing_ok=True)
    for study in plan.studies:
        _forget_deaths(study.folder, plan.todo[study.folder], out)


def _mark(plan: Plan, out: Path, number: str, chunk: Chunk) -> None:
    """Set the markers of a chunk up to the first stage that has work to do, and take the others away."""
    todo = {stage for study in chunk.studies for stage in plan.todo[study.folder]}
    settled = True
    for stage in STAGES:
        settled = settled and stage not in todo
        path = marker(out, stage, number)
        if settled:
            make_folder(path.parent)
            path.touch()
        else:
            path.unlink(missing_ok=True)


def overview_marker(out: Path) -> Path:
    """There once the pages over all studies are written."""
    return out / HIDDEN / "done" / "overview"


def _forget_deaths(study: str, todo: set[Stage], out: Path) -> None:
    """Let a study that brought its process down be tried as often as a new one, unless a process is at it."""
    journals = {stage: journal_file(out, stage, study) for stage in STAGES}
    if not any(journal.exists() for journal in journals.values()):
        return
    with suppress(Busy), FileLock(lock_file(out, study), wait=False):
        for stage, journal in journals.items():
            if stage in todo:
                forget_attempts(journal)
            else:  # its process died after the last thing that it had to do
                journal.unlink(missing_ok=True)


def _write_if_changed(path: Path, data: bytes) -> None:
    with suppress(OSError):
        if path.read_bytes() == data:
            return
    make_folder(path.parent)
    write_bytes(path, data)


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
