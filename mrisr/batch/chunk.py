"""Chunks: studies that share a process, and what is to be made of each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mrisr.batch.manifest import StackSource
from mrisr.batch.names import Stage
from mrisr.batch.settings import BatchSettings
from mrisr.core.errors import UsageError

FORMAT = 1


@dataclass(frozen=True)
class Part:
    """One thing that a stage makes of a study; what is done again and what is kept is decided by part.

    Attributes:
        stage: which makes it.
        name: within the stage: the stack, the volume or ``"page"``.
        key: SHA-256 of all that decides the result.
        inputs: role -> digest of what the manifest names; None where it cannot be read.
        parameters: the settings that it depends on.
        model: name and digest of the model, if there is one.
        needs: parts of earlier stages, as ``stage/name``, whose results it reads.
    """

    stage: Stage
    name: str
    key: str
    inputs: dict[str, str | None] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    model: dict[str, str] | None = None
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyPlan:
    """What is to be made of a study.

    Attributes:
        folder: its folder within the output, which also is its name.
        sources: role -> where it comes from.
        parts: in the order of the stages.
    """

    folder: str
    sources: dict[str, StackSource]
    parts: tuple[Part, ...]

    def of(self, stage: Stage) -> tuple[Part, ...]:
        """The parts of a stage."""
        return tuple(part for part in self.parts if part.stage == stage)


@dataclass(frozen=True)
class Chunk:
    """Studies that are worked on by one process, one after the other."""

    settings: BatchSettings
    studies: tuple[StudyPlan, ...]

    def as_json(self) -> dict[str, Any]:
        """The content of the chunk's file."""
        studies = [asdict(study) for study in self.studies]
        for study in studies:
            for source in study["sources"].values():
                source["path"] = str(source["path"])
        settings = self.settings.model_dump(mode="json")
        return {"format": FORMAT, "settings": settings, "studies": studies}


def read_chunk(path: Path) -> Chunk:
    """A chunk from its file. Raises UsageError where it is none of this version."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        settings = BatchSettings.model_validate(content["settings"])
        return Chunk(settings, tuple(_study(study) for study in content["studies"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: expected a chunk that mrisr batch wrote ({error})") from error


def _study(content: dict[str, Any]) -> StudyPlan:
    sources = {
        role: StackSource(Path(source["path"]), source["series"])
        for role, source in content["sources"].items()
    }
    parts = tuple(Part(**{**part, "needs": tuple(part["needs"])}) for part in content["parts"])
    return StudyPlan(content["folder"], sources, parts)
