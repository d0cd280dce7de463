"""Labels of the zones that belong to an image, whatever file they come in."""

import re
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from mrisr.core.errors import InputError
from mrisr.core.labels import belonging_to, named, zone_labels, zone_of, zones_of
from mrisr.core.volume import Volume, VolumeFile
from mrisr.io import input_format, read_file
from mrisr.io.metaheader import segment_names
from mrisr.io.paths import ending

#: What a segment is called that nobody has named.
_UNNAMED = r"(segment|label)?[ _]*\d*"


def read_labels(path: str | PathLike[str], image: Volume, *, max_voxels: int = 2**31) -> VolumeFile:
    """Read labels 0, 1 (peripheral zone) and 2 (transition zone), in uint8 on the array axes of ``image``.

    Segments of a DICOM Segmentation go by their codes or names, those of a ``.seg.nrrd`` by their names where
    they have any. Values within 0.01 of a whole number are rounded, axes are exchanged and flipped where
    that brings the labels onto the image's voxels; ``notes`` tell of it.

    Raises:
        InputError: the file cannot be read, holds other labels, or lies on other voxels than the image's.
    """
    path = Path(path)
    if path.is_dir() and len(alone := [p for p in path.iterdir() if p.is_file()]) == 1:
        path = alone[0]  # as archives export a segmentation
    if input_format(path) == "dicom" and path.is_file():
        from mrisr.dicom.segmentation import read_zones

        return read_zones(path, image, max_voxels=max_voxels)
    file = read_file(path, max_voxels=max_voxels, allow_constant=True)
    labels, notes = _by_name(file.volume, path)
    labels, turned = belonging_to(image, labels)
    labels, rounded = zone_labels(labels)
    return replace(file, volume=labels, notes=(*file.notes, *notes, *rounded, *turned))


def _by_name(labels: Volume, path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Labels whose numbers a ``.seg.nrrd`` gives names, as those of the zones. Raises InputError."""
    names = segment_names(path) if ending(path) == ".nrrd" else {}
    told = {
        n: name for n, name in names.items() if not re.fullmatch(_UNNAMED, name.strip().lower())
    }
    if not told:
        return labels, ()
    zones = zones_of(told)
    if zones is None:
        wanted = "segments called peripheral and transition zone"
        raise InputError(path, expected=wanted, found=named(names))
    array = np.where(np.isin(labels.array, list(names)), 0, labels.array)
    for number, zone in zones.items():
        array[labels.array == number] = zone
    others = {n: name for n, name in names.items() if not zones.get(n) and zone_of(name) is None}
    note = (f"segments left out: {named(others)}",) if others else ()
    return replace(labels, array=array), note
