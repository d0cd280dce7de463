"""The page of one study: its pictures, its scores, its cost, how it was made, what went wrong."""

from __future__ import annotations

from pathlib import Path

from mrisr.batch.report import facts
from mrisr.batch.report.page import write_page
from mrisr.batch.report.pictures import make_pictures
from mrisr.batch.report.rows import summary
from mrisr.batch.report.tiles import study_tiles
from mrisr.batch.report.tree import PAGE, read_study
from mrisr.batch.report.view import LETTERS, PIXEL_MM


def write_subject_page(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a study, from what lies in it and nothing else.

    The page needs no other file and no network. A study that failed has a page as well.

    Args:
        folder: ``sub-X`` or ``sub-X/ses-Y`` of a batch.

    Returns:
        The page.

    Raises:
        OutputError: it cannot be written.
    """
    folder = Path(folder)
    study = read_study(folder)
    pictures = make_pictures(study)
    made = facts.made(study)
    return write_page(
        folder / PAGE,
        "subject.html",
        study=study,
        back=f"{'../' * (2 if folder.name.startswith('ses-') else 1)}{PAGE}",
        headline=facts.headline(study),
        failures=facts.failures(study),
        pictures=pictures,
        summary=summary(study, pictures.thumbnails, pictures.volumes_ml),
        tiles=study_tiles(study, made, pictures.volumes_ml) if made else [],
        made=made,
        scores=facts.scores(study),
        sizes=facts.sizes(study, pictures.volumes_ml),
        costs=facts.costs(study),
        notes=facts.notes(study, pictures.problems),
        uncertainty=facts.uncertainty(study),
        provenance=facts.provenance(study),
        letters=LETTERS,
        pixel_mm=PIXEL_MM,
    )
