"""The page of one study: its pictures, its scores, its cost, how it was made, what went wrong."""

from __future__ import annotations

from pathlib import Path

from mrisr.batch.report import facts
from mrisr.batch.report.page import write_page
from mrisr.batch.report.pictures import Read, make_pictures
from mrisr.batch.report.tree import PAGE, read_study
from mrisr.batch.report.view import LETTERS
from mrisr.io import read_volume
from mrisr.view.qc import PIXEL_MM


def write_subject_page(folder: Path, read: Read = read_volume) -> Path:
    """Write ``report.html`` into the folder of a study, from what lies in it and nothing else.

    The page needs no other file and no network. A study that failed has a page as well.

    Args:
        folder: ``sub-X`` or ``sub-X/ses-Y`` of a batch.
        read: reads a volume, as :func:`mrisr.io.read_volume`, or has it in memory.

    Returns:
        The page.

    Raises:
        OutputError: it cannot be written.
    """
    folder = Path(folder)
    study = read_study(folder)
    pictures = make_pictures(study, read)
    return write_page(
        folder / PAGE,
        "subject.html",
        study=study,
        back=f"{'../' * (2 if folder.name.startswith('ses-') else 1)}{PAGE}",
        headline=facts.headline(study),
        failures=facts.failures(study.stages),
        pictures=pictures,
        summary={"study": study.name, "thumbnails": pictures.thumbnails},
        tiles=facts.tiles(study) if study.records else [],
        made=facts.made(study),
        scores=facts.scores(study),
        sizes=[(facts.title_of(study, name), zones) for name, zones in study.volumes_ml.items()],
        notes=facts.notes(study, pictures.problems),
        provenance=facts.provenance(study),
        letters=LETTERS,
        pixel_mm=PIXEL_MM,
    )
