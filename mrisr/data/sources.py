"""Volumes of a folder or a manifest, with their labels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.io import read_volume, stem

IMAGE_NAMES = ("*t2*", "*T2*")
#: Labels of the zones beside an image: of one reader or, numbered or named further, of several.
LABEL_NAMES = "zones*"
ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")


class Entry(NamedTuple):
    """A file to prepare: patient, name of the series, path, and the volumes of labels that may belong to
    it."""

    case: str
    series: str
    path: Path
    labels: tuple[Path, ...] = ()


def find_sources(data: Path) -> list[Entry]:
    """Find the volumes of a manifest or of a folder.

    A manifest is a CSV with the columns ``case`` and ``path`` (relative to the manifest) and
    optionally ``series`` and ``labels`` (paths parted by ``;``). A folder holds one folder per patient with
    image files (``*t2*`` or ``*T2*``) or DICOM series folders inside, or such files directly; files
    ``zones*`` beside an image are its labels if they lie on its grid.

    Raises:
        InputError: nothing is found, or a column is missing.
    """
    sources = list(_from_manifest(data) if data.is_file() else _from_folder(data))
    if not sources:
        raise InputError(
            data, expected="a folder per patient with T2w volumes, or a manifest", found="none"
        )
    return sources


def _from_manifest(path: Path) -> Iterator[Entry]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"case", "path"} <= set(rows.fieldnames or ()):
            raise InputError(
                path, expected="the columns case, path", found=", ".join(rows.fieldnames or ())
            )
        for row in rows:
            volume = path.parent / row["path"]
            named = [p for p in (row.get("labels") or "").split(";") if p.strip()]
            labels = tuple(path.parent / p.strip() for p in named)
            yield Entry(row["case"], row.get("series") or stem(volume), volume, labels)


def _from_folder(folder: Path) -> Iterator[Entry]:
    """Entries of a folder per patient; volumes that lie in ``folder`` itself are a patient each."""
    if not folder.is_dir():
        return
    for path in sorted(p for p in _images(folder.glob) if not _hidden(p, folder)):
        yield Entry(stem(path), stem(path), path)
    for case in sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p, folder)):
        taken: Counter[str] = Counter()
        found = _images(case.rglob) | {p.parent for p in case.rglob("*.dcm")}
        for path in sorted(p for p in found if not _hidden(p, case)):
            name = stem(path)
            taken[name] += 1
            series = name if taken[name] == 1 else f"{name}-{taken[name]}"
            yield Entry(case.name, series, path, label_files(path.parent))


def label_files(folder: Path) -> tuple[Path, ...]:
    """Find volumes of labels in a patient's folder, the plainest name first."""
    found = (p for p in folder.glob(LABEL_NAMES) if p.is_file() and p.name.endswith(ENDINGS))
    return tuple(sorted(found, key=lambda p: (len(p.name), p.name)))


def _images(search: Callable[[str], Iterable[Path]]) -> set[Path]:
    found = {path for pattern in IMAGE_NAMES for path in search(pattern)}
    return {path for path in found if path.is_file() and path.name.endswith(ENDINGS)}


def _hidden(path: Path, root: Path) -> bool:
    """True where a name below ``root`` starts with a dot, as those of unfinished outputs do."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def read_labels(paths: Sequence[Path], volume: Volume, *, strict: bool) -> dict[Path, Volume]:
    """Read the label volumes among ``paths`` that lie on the grid of ``volume``, by their paths.

    Args:
        strict: makes those that do not an error instead of leaving them out.

    Raises:
        InputError: a file cannot be read, holds other labels than 0, 1 and 2, or lies on another grid.
    """
    found = {}
    for path in paths:
        labels = read_volume(path, allow_constant=True)
        if not geometry.same_grid(volume.shape, volume.affine, labels.shape, labels.affine):
            if strict:
                wanted = f"labels on the grid of {volume.name}, {volume.shape}"
                raise InputError(path, expected=wanted, found=f"another grid, {labels.shape}")
            continue
        if not np.isin(labels.array, (0, 1, 2)).all():
            others = [f"{v:g}" for v in np.unique(labels.array) if v not in (0, 1, 2)][:5]
            raise InputError(path, expected="labels 0, 1 and 2", found=", ".join(others))
        found[path] = labels
    return found
