"""A study as its pages show it: its status, and the records beside its volumes. Nothing here opens an image.

A file that is missing or cannot be read is no error: the page of a failed study is the one that matters
most, and says what it did not find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mrisr.batch.names import SOURCE, VOLUME, read_json, status_file
from mrisr.batch.report.words import Json, look, number, volume_title
from mrisr.batch.status import Status, read_status

#: Zone -> figure -> value; `None` where it is not defined.
Figures = Mapping[str, Mapping[str, float | None]]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Study:
    """A study's folder.

    Attributes:
        folder: where it lies.
        status: of all parts but the page, which is not made yet when it is written.
        records: upsampled volume -> the record beside it, empty where there is none.
        zones: segmented volume, ``SOURCE`` or an upsampled one -> the record of its zones.
        unreadable: files of the folder that hold no JSON.
    """

    folder: Path
    status: Status
    records: Mapping[str, Json]
    zones: Mapping[str, Json]
    unreadable: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Subject and session as the manifest has them."""
        parent, name = self.folder.parts[-2:]
        return f"{parent} {name}" if name.startswith("ses-") else name

    @property
    def scores(self) -> Mapping[str, Figures]:
        """Scored volume -> its scores."""
        return self.status.scores

    @property
    def volumes_ml(self) -> dict[str, dict[str, float | None]]:
        """Segmented volume -> zone -> ml, by the records."""
        stated = {name: look(record, "volumes_ml") for name, record in self.zones.items()}
        return {
            name: {zone: number(ml) for zone, ml in sizes.items()}
            for name, sizes in stated.items()
            if isinstance(sizes, Mapping)
        }

    @property
    def residuals(self) -> dict[str, float | None]:
        """Upsampled volume -> residual as a share of the intensity range."""
        return {n: number(look(r, "residual", "rms_of_range")) for n, r in self.records.items()}

    def title(self, volume: str) -> str:
        """The name of a volume on the pages."""
        return volume_title(volume, self.records.get(volume, {}))

    def gain(self, volume: str, zone: str) -> float | None:
        """Dice of a zone less that in the measured volume."""
        after, before = (look(self.scores, v, zone, "dice") for v in (volume, SOURCE))
        return None if volume == SOURCE or after is None or before is None else after - before


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

    read(status_file(folder))
    parts = tuple(part for part in read_status(folder).parts if part.stage != "report")
    status = Status("", parts)
    return Study(folder, status, records("upsampled"), records("zones"), tuple(unreadable))


def _in_order(named: dict[str, Value]) -> dict[str, Value]:
    """The measured volume first, then through-plane ones, then the rest by name."""

    def place(name: str) -> tuple[bool, bool, str]:
        return name != SOURCE, not name.startswith("throughplane"), name

    return {name: named[name] for name in sorted(named, key=place)}
