"""State of a study: ``status.json`` in its folder, and the one reading of it.

The file lists the parts of the plan that a process worked by. It is written before each part, so that a
process that dies leaves a trace of where, and once more when the study is through.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from mrisr.batch.digest import Digests
from mrisr.batch.names import STAGES, Stage, status_file
from mrisr.batch.parts import Part, State
from mrisr.io.atomic import as_output_error, json_bytes, make_folder, write_bytes
from mrisr.io.temporary import temporary_path

FORMAT = 1


@dataclass(frozen=True)
class Status:
    """The content of a study's ``status.json``.

    Attributes:
        batch: id of the run that wrote it.
        parts: all that the study's plan holds.
    """

    batch: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def state(self) -> State:
        """``"failed"`` where any part failed, ``"unfinished"`` where one was not made, else ``"done"``."""
        return state_of(self.parts)

    def of_plan(self, planned: Iterable[Part]) -> Status:
        """The status as far as it is one of these parts; the others are unfinished."""
        found = {(part.id, part.key): part for part in self.parts}
        return Status(self.batch, tuple(found.get((part.id, part.key), part) for part in planned))


@dataclass(frozen=True)
class StageStatus:
    """The parts of one stage taken together.

    Attributes:
        peak_memory_gib: of the process and, on CUDA, the device; empty where not measured.
    """

    name: Stage
    state: State
    reason: str
    seconds: float
    peak_memory_gib: Mapping[str, float]


def state_of(parts: Iterable[Part]) -> State:
    """The state of a study, or of a stage, by that of its parts."""
    states = {part.state for part in parts}
    if not states:
        return "unfinished"
    order: tuple[State, ...] = ("failed", "unfinished", "skipped")
    return next((state for state in order if state in states), "done")


def stages_of(parts: Collection[Part]) -> list[StageStatus]:
    """The stages that have parts, in their order."""
    by_stage = {stage: [p for p in parts if p.stage == stage] for stage in STAGES}
    return [
        StageStatus(
            stage,
            state_of(own),
            _reason(own),
            round(sum(p.seconds for p in own), 3),
            most(p.peak_memory_gib or {} for p in own),
        )
        for stage, own in by_stage.items()
        if own
    ]


def most(peaks: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The largest value of each key."""
    found: dict[str, float] = {}
    for peak in peaks:
        found |= {key: max(value, found.get(key, 0.0)) for key, value in peak.items()}
    return found


def settled(folder: Path, planned: Iterable[Part], digests: Digests) -> Iterator[Part]:
    """The parts that need no work: done by the same key, with their outputs as they were written.

    The page shows all the others and needs none only where they need none.
    """
    whole = True
    for part in read_status(folder).of_plan(planned).parts:
        outputs = [folder / path for path in part.outputs]
        if part.state != "done" or (outputs and digests.of(*outputs) != part.sha256):
            whole = False
        elif whole or part.stage != "report":
            yield part


def read_status(folder: Path) -> Status:
    """The status of a study; an empty one where there is no file, or it holds none."""
    try:
        return _adapter().validate_json(status_file(folder).read_bytes())
    except (OSError, ValueError):
        return Status()


def write_status(folder: Path, status: Status, *, lasting: bool = True) -> None:
    """Write a status in one step. Raises OutputError.

    ``lasting``: wait for the disk; what a crash of the machine loses otherwise is made again.
    """
    path = status_file(make_folder(folder))
    content = json.loads(_adapter().dump_json(status, exclude_defaults=True))
    text = json_bytes({"format": FORMAT, "state": status.state, **content})
    if lasting:
        write_bytes(path, text)
        return
    temporary = temporary_path(path)
    with as_output_error(path):
        try:
            temporary.write_bytes(text)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@cache
def _adapter() -> TypeAdapter[Status]:
    return TypeAdapter(Status)


def _reason(parts: list[Part]) -> str:
    """Reasons of the failures of a stage, each said once."""
    said = []
    for part in parts:
        named = part.state == "skipped" or part.reason.startswith(f"{part.name}: ")
        if part.reason:
            said.append(part.reason if named else f"{part.name}: {part.reason}")
    return "; ".join(dict.fromkeys(said))
