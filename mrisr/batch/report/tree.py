"""What a batch left in its folder, as the pages want it. Nothing here opens an image.

A file that is missing or cannot be read is no error: the page of a failed study is the one that matters
most, and says what it did not find.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrisr.batch.names import SOURCE as MEASURED
from mrisr.batch.names import STAGES, VOLUME, status_file

__all__ = ["MEASURED", "PAGE", "STAGES", "UNCERTAINTY", "VOLUME", "Json", "Stage", "Study"]

#: Ends the name of a map that says how sure the upsampled volume of the same name is.
UNCERTAINTY = "_uncertainty"
PAGE = "report.html"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """What a stage left in ``status/<stage>.json``.

    Attributes:
        state: ``"done"``, ``"failed"`` or ``"skipped"``.
        reason: why it failed or was skipped.
        seconds: that it took, where known.
        memory_gib: that it held at most, where known.
        status: the file as it is.
    """

    name: str
    state: str
    reason: str
    seconds: float | None
    memory_gib: float | None
    status: Json


@dataclass(frozen=True)
class Study:
    """A study's folder.

    Attributes:
        folder: where it lies.
        name: subject and session as the manifest has them.
        stages: those that left a status, in their order.
        records: upsampled volume -> the record beside it, empty where there is none.
        zones: segmented volume, ``MEASURED`` or an upsampled one -> the record of its zones.
        scores: scored volume -> zone -> figure -> value, None where it is not defined.
        unreadable: files of the folder that hold no JSON.
    """

    folder: Path
    name: str
    stages: tuple[Stage, ...]
    records: Mapping[str, Json]
    zones: Mapping[str, Json]
    scores: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    unreadable: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Stage, ...]:
        return tuple(s for s in self.stages if s.state == "failed")

    @property
    def state(self) -> str:
        """``"failed"``, ``"done"``, or ``"unfinished"`` where nothing failed and something was not made."""
        if self.failures:
            return "failed"
        made = self.stages and all(s.state == "done" for s in self.stages)
        return "done" if made else "unfinished"

    def volume(self, room: str, name: str) -> Path:
        """A volume of ``source``, ``upsampled`` or ``zones``, whether or not it is there."""
        return self.folder / room / f"{name}{VOLUME}"


def find_studies(out: Path) -> list[Path]:
    """The folders of the studies: ``sub-X`` or, where there are sessions, ``sub-X/ses-Y``."""
    found = []
    for subject in sorted(p for p in out.glob("sub-*") if p.is_dir()):
        sessions = sorted(p for p in subject.glob("ses-*") if p.is_dir())
        found.extend(sessions or [subject])
        if sessions and (subject / "status").is_dir():
            found.append(subject)
    return found


def study_name(folder: Path) -> str:
    """Subject and session of a folder.

    >>> study_name(Path("out/sub-007/ses-a")), study_name(Path("out/sub-007"))
    ('sub-007 ses-a', 'sub-007')
    """
    if folder.name.startswith("ses-"):
        return f"{folder.parent.name} {folder.name}"
    return folder.name


def read_study(folder: Path) -> Study:
    """What the small files of a study say."""
    unreadable: list[str] = []

    def read(path: Path) -> Json:
        content = read_json(path)
        if content is None and path.exists():
            unreadable.append(path.relative_to(folder).as_posix())
        return content or {}

    def records(room: str) -> dict[str, Json]:
        names = (p.name.removesuffix(VOLUME) for p in sorted((folder / room).glob(f"*{VOLUME}")))
        return {n: read(folder / room / f"{n}.json") for n in names if not n.endswith(UNCERTAINTY)}

    stages = {name: read(status_file(folder, name)) for name in STAGES}
    volumes = read(folder / "scores.json").get("volumes")
    return Study(
        folder=folder,
        name=study_name(folder),
        stages=tuple(_stage(name, status) for name, status in stages.items() if status),
        records=_in_order(records("upsampled")),
        zones=_in_order(records("zones")),
        scores=_in_order(_scores(volumes)),
        unreadable=tuple(unreadable),
    )


def read_json(path: Path) -> Json | None:
    """The object in a file; None where there is no such file, or it holds none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def number(value: Any) -> float | None:
    """A figure, or None where there is none.

    >>> number(3), number(None), number("many"), number(True)
    (3.0, None, None, None)
    """
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def memory_gib(value: Any) -> float | None:
    """Peak memory of the process, stated alone or beside that of a device."""
    return number(value.get("process") if isinstance(value, Mapping) else value)


def mapping(value: Any) -> Json:
    """A part of a file that should be an object; an empty one where it is not."""
    return value if isinstance(value, Mapping) else {}


def _stage(name: str, status: Json) -> Stage:
    return Stage(
        name=name,
        state=str(status.get("state", "unknown")),
        reason=str(status.get("reason") or ""),
        seconds=number(status.get("seconds")),
        memory_gib=memory_gib(status.get("peak_memory_gib")),
        status=status,
    )


def _scores(volumes: Any) -> dict[str, dict[str, dict[str, float | None]]]:
    """Scores whose every level is what it should be."""
    return {
        str(volume): {
            str(zone): {str(key): number(value) for key, value in mapping(figures).items()}
            for zone, figures in mapping(zones).items()
        }
        for volume, zones in mapping(volumes).items()
    }


def _in_order(named: dict[str, Any]) -> dict[str, Any]:
    """The measured volume first, then through-plane ones, then the rest by name."""

    def place(name: str) -> tuple[bool, bool, str]:
        return name != MEASURED, not name.startswith("throughplane"), name

    return {name: named[name] for name in sorted(named, key=place)}
