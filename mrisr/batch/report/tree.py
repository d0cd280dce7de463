"""A study as its pages show it: its status, and the records beside its volumes. Nothing here opens an image.

A file that is missing or cannot be read is no error: the page of a failed study is the one that matters
most, and says what it did not find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mrisr.batch.names import SOURCE, VOLUME, read_json, status_file
from mrisr.batch.parts import Part, State
from mrisr.batch.status import StageStatus, read_status, stages_of, state_of

PAGE = "report.html"
Json = Mapping[str, Any]
#: Zone -> figure -> value; `None` where it is not defined.
Figures = Mapping[str, Mapping[str, float | None]]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Study:
    """A study's folder.

    Attributes:
        folder: where it lies.
        name: subject and session as the manifest has them.
        parts: all but the page, which is not made yet when it is written.
        records: upsampled volume -> the record beside it, empty where there is none.
        zones: segmented volume, ``SOURCE`` or an upsampled one -> the record of its zones.
        unreadable: files of the folder that hold no JSON.
    """

    folder: Path
    name: str
    parts: tuple[Part, ...]
    records: Mapping[str, Json]
    zones: Mapping[str, Json]
    unreadable: tuple[str, ...] = ()

    @property
    def stages(self) -> list[StageStatus]:
        """The stages, in their order."""
        return stages_of(self.parts)

    @property
    def state(self) -> State:
        """The state as the outcome of the batch has it."""
        return state_of(self.parts)

    @property
    def scores(self) -> dict[str, Figures]:
        """Scored volume -> its scores."""
        return _in_order({p.name: p.scores for p in self.parts if p.stage == "score" and p.scores})

    @property
    def volumes_ml(self) -> dict[str, Mapping[str, float | None]]:
        """Segmented volume -> zone -> ml, by the records."""
        return {
            name: {zone: number(ml) for zone, ml in mapping(record["volumes_ml"]).items()}
            for name, record in self.zones.items()
            if record.get("volumes_ml")
        }

    def volume(self, room: str, name: str) -> Path:
        """A volume of ``source``, ``upsampled`` or ``zones``, whether or not it is there."""
        return self.folder / room / f"{name}{VOLUME}"


def read_study(folder: Path) -> Study:
    """Content of the small files of a study."""
    unreadable: list[str] = []

    def read(path: Path) -> Json:
        content = read_json(path)
        if not content and path.exists():
            unreadable.append(path.relative_to(folder).as_posix())
        return content

    def records(room: str) -> dict[str, Json]:
        names = (p.name.removesuffix(VOLUME) for p in sorted((folder / room).glob(f"*{VOLUME}")))
        return _in_order({name: read(folder / room / f"{name}.json") for name in names})

    parts = read_status(folder).parts
    if not parts and status_file(folder).exists():
        unreadable.append(status_file(folder).name)
    return Study(
        folder,
        study_name(folder),
        tuple(part for part in parts if part.stage != "report"),
        records("upsampled"),
        records("zones"),
        tuple(unreadable),
    )


def study_name(folder: Path) -> str:
    """Subject and session of a folder.

    >>> study_name(Path("out/sub-007/ses-a")), study_name(Path("out/sub-007"))
    ('sub-007 ses-a', 'sub-007')
    """
    if folder.name.startswith("ses-"):
        return f"{folder.parent.name} {folder.name}"
    return folder.name


def number(value: Any) -> float | None:
    """A figure, or `None` where there is none.

    >>> number(3), number(None), number("many"), number(True)
    (3.0, None, None, None)
    """
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def mapping(value: Any) -> Json:
    """A part of a file that should be an object; an empty one where it is not."""
    return value if isinstance(value, Mapping) else {}


def _in_order(named: dict[str, Value]) -> dict[str, Value]:
    """The measured volume first, then through-plane ones, then the rest by name."""

    def place(name: str) -> tuple[bool, bool, str]:
        return name != SOURCE, not name.startswith("throughplane"), name

    return {name: named[name] for name in sorted(named, key=place)}
