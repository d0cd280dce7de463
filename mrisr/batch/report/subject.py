"""The page of one study: its pictures, its scores, its cost, how it was made, what went wrong.

A file that is missing or cannot be read is no error: the page of a failed study is the one that matters
most, and says what it did not find.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mrisr.batch.names import SOURCE, STATUS, VOLUME, read_json
from mrisr.batch.report.page import PAGE, Json, look, number, volume_title, write_page
from mrisr.batch.report.pictures import Read, make_pictures
from mrisr.batch.status import Status, read_status
from mrisr.io import read_volume
from mrisr.view.qc import PIXEL_MM


@dataclass(frozen=True)
class StudyResults:
    """A study's folder.

    Attributes:
        folder: where it lies.
        status: of all parts but the page, which is not made yet when it is written.
        records: upsampled volume -> the record beside it, empty where there is none.
        zones: segmented volume, ``SOURCE`` or an upsampled one -> the record of its zones.
        unreadable: files of the folder that hold no JSON.
        page, thumbnails: of the study, on that of all; the page relative to it, ``""`` where there is none.
    """

    folder: Path
    status: Status
    records: Mapping[str, Json]
    zones: Mapping[str, Json]
    unreadable: tuple[str, ...] = ()
    page: str = ""
    thumbnails: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Subject and session as the manifest has them."""
        name = self.folder.name
        return f"{self.folder.parent.name} {name}" if name.startswith("ses-") else name

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
        after, before = (look(self.status.scores, v, zone, "dice") for v in (volume, SOURCE))
        return None if volume == SOURCE or after is None or before is None else after - before


def write_subject_page(folder: Path, read: Read = read_volume) -> Path:
    """Write ``report.html`` into the folder of a study, from what lies in it and nothing else; its path.

    The page needs no other file and no network. A study that failed has a page as well. Raises OutputError.

    Args:
        folder: ``sub-X`` or ``sub-X/ses-Y`` of a batch.
        read: reads a volume, as :func:`mrisr.io.read_volume`, or has it in memory.
    """
    study = read_study(folder)
    viewers, problems = make_pictures(study, read)
    return write_page(
        folder / PAGE,
        "subject.html",
        study=study,
        back=f"{'../' * (2 if folder.name.startswith('ses-') else 1)}{PAGE}",
        viewers=viewers,
        notes=notes(study, problems),
        measured=SOURCE,
        volume_ending=VOLUME,
        pixel_mm=PIXEL_MM,
    )


def notes(study: StudyResults, problems: list[str]) -> list[tuple[str, str]]:
    """Notes of readers, models and writers: the volume that each is about, and the text."""
    told = [*problems, *(f"{path} holds no record." for path in study.unreadable)]
    found = [("this page", text) for text in told]
    found += [(part.name, text) for part in study.status.parts for text in part.notes]
    for of, records in (("", study.records), ("zones, ", study.zones)):
        for name, record in records.items():
            stated = record.get("notes")
            texts = stated if isinstance(stated, list) else []
            found += [(f"{of}{study.title(name)}", str(text)) for text in texts]
    return list(dict.fromkeys(found))


def read_study(folder: Path) -> StudyResults:
    """Content of the small files of a study."""
    unreadable: list[str] = []

    def read(path: Path) -> Json:
        content = read_json(path)
        if not content and path.exists():
            unreadable.append(path.relative_to(folder).as_posix())
        return content

    def records(room: str) -> dict[str, Json]:
        names = [path.name.removesuffix(VOLUME) for path in (folder / room).glob(f"*{VOLUME}")]
        return {name: read(folder / room / f"{name}.json") for name in sorted(names, key=place)}

    def place(name: str) -> tuple[bool, bool, str]:
        """The measured volume first, then through-plane ones, then the rest by name."""
        return name != SOURCE, not name.startswith("throughplane"), name

    read(folder / STATUS)
    parts = tuple(part for part in read_status(folder).parts if part.stage != "report")
    status = Status("", parts)
    return StudyResults(folder, status, records("upsampled"), records("zones"), tuple(unreadable))
