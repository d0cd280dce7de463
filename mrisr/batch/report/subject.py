"""The page of one study: its pictures, its scores, its cost, how it was made, what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mrisr.batch.names import SOURCE, VOLUME
from mrisr.batch.report import words
from mrisr.batch.report.page import PAGE, Tile, write_page
from mrisr.batch.report.pictures import Read, make_pictures
from mrisr.batch.report.study import Study, read_study
from mrisr.io import read_volume
from mrisr.view.qc import PIXEL_MM
from mrisr.zones.labels import TITLES

_COUNTS = {1: "One", 2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}


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
    study = read_study(folder)
    pictures = make_pictures(study, read)
    failed = study.status.state == "failed"
    return write_page(
        folder / PAGE,
        "subject.html",
        study=study,
        back=f"{'../' * (2 if folder.name.startswith('ses-') else 1)}{PAGE}",
        headline=headline([study.title(n) for n in study.records], failed=failed),
        pictures=pictures,
        tiles=tiles(study) if study.records else [],
        notes=notes(study, pictures.problems),
        provenance=provenance(study),
        measured=SOURCE,
        volume_ending=VOLUME,
        pixel_mm=PIXEL_MM,
    )


def headline(titles: list[str], *, failed: bool) -> str:
    """The study in a sentence or two."""
    if not titles:
        return "No super-resolved volume was made."
    count = _COUNTS.get(len(titles), str(len(titles)))
    what = "volume was" if len(titles) == 1 else "volumes were"
    text = f"{count} super-resolved {what} made: {', '.join(titles)}."
    return f"{text} Then a stage failed." if failed else text


def tiles(study: Study) -> list[Tile]:
    """The figures at the head of the page: zones, agreement, time and memory, where there are any."""
    found = _dice(study) if study.scores else _sizes(study)
    residuals = {v: r for v, r in study.residuals.items() if r is not None}
    if residuals:
        worst = max(residuals, key=lambda volume: residuals[volume])
        more = "residual" if len(residuals) == 1 else "largest residual"
        grade, _ = words.agreement(study.records[worst])
        told = words.percent(residuals[worst]), f"{more}, of the range"
        found.append(Tile("Agreement with the scan", *told, grade))
    whole = study.status.whole
    if whole.seconds:
        found.append(Tile("Time", words.duration(whole.seconds), "all stages"))
    memory = whole.peak_memory_gib.get("process")
    if memory:
        found.append(Tile("Peak memory", words.memory(memory), "of a stage"))
    return found


def _dice(study: Study) -> list[Tile]:
    """Dice of the first upsampled volume beside that of the measured one."""
    shown = next((n for n in study.scores if n != SOURCE), SOURCE)
    found = []
    for zone, figures in study.scores[shown].items():
        before = words.look(study.scores, SOURCE, zone, "dice")
        more = "" if shown == SOURCE else f"; measured {words.fixed(before, 3)}"
        value = words.fixed(words.look(figures, "dice"), 3)
        found.append(Tile(f"Dice, {TITLES[zone]}", value, f"{study.title(shown)}{more}"))
    return found


def _sizes(study: Study) -> list[Tile]:
    name, zones = next(iter(study.volumes_ml.items()), ("", {}))
    title = f"in the {study.title(name)} volume"
    return [
        Tile(TITLES[zone].capitalize(), f"{words.fixed(ml, 1)} ml", title)
        for zone, ml in zones.items()
        if zone in TITLES
    ]


def notes(study: Study, problems: list[str]) -> list[tuple[str, str]]:
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


def provenance(study: Study) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that the volumes depend on: records of volumes and zones, digests of each part."""

    def shown(title: str, content: Mapping[str, object]) -> tuple[str, list[tuple[str, str]]]:
        return title, words.flattened(content)

    parts = []
    for what, room, records in (
        ("Volume", "upsampled", study.records),
        ("Zones of", "zones", study.zones),
    ):
        for name, record in records.items():
            told = {k: v for k, v in record.items() if k not in ("notes", "use")}
            parts.append(shown(f"{what} {study.title(name)} ({room}/{name}{VOLUME})", told))
    keys = ("key", "parameters", "model", "inputs", "outputs", "sha256")
    for part in study.status.parts:
        told = {key: value for key, value in asdict(part).items() if key in keys and value}
        parts.append(shown(f"Stage {part.stage}, {part.name}", told))
    return [part for part in parts if part[1]]
