"""Labels of the zones that belong to an image, whatever file they come in."""

import re
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from mrisr.core.labels import belonging_to, unnamed, zone_labels
from mrisr.core.volume import Volume, VolumeFile
from mrisr.io import input_format, read_file
from mrisr.io.metaheader import segments
from mrisr.io.paths import ending


def read_labels(path: str | PathLike[str], image: Volume, *, max_voxels: int = 2**31) -> VolumeFile:
    """Read labels 0, 1 (peripheral zone) and 2 (transition zone), in uint8 on the array axes of ``image``.

    Segments of a DICOM Segmentation, of which a folder may hold one for each zone, and of a ``.seg.nrrd`` go
    by their codes or names where they have any. Values within 0.01 of a whole number are rounded, axes are
    exchanged and flipped where that brings the labels onto the image's voxels; ``notes`` tell of it.

    Raises:
        InputError: the file cannot be read, holds other labels, or lies on other voxels than the image's.
    """
    path = Path(path)
    if path.is_dir():
        alone = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
        path = alone[0] if len(alone) == 1 else path  # as archives export a segmentation
    if input_format(path) == "dicom":
        from mrisr.dicom.zones import find_segmentations, read_zones

        if path.is_file() or find_segmentations(path):
            return read_zones(path, image, max_voxels=max_voxels)
    file = read_file(path, max_voxels=max_voxels, allow_constant=True)
    labels, notes = _by_meaning(file.volume, path)
    labels, turned = belonging_to(image, labels)
    labels, rounded = zone_labels(labels)
    return replace(file, volume=labels, notes=(*file.notes, *notes, *rounded, *turned))


def _by_meaning(labels: Volume, path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Labels that a ``.seg.nrrd`` gives codes or names, as those of the zones. Raises InputError."""
    told = segments(path) if ending(path) == ".nrrd" else {}
    if not told:
        return labels, ()
    from pydicom.sr.coding import Code

    from mrisr.dicom.segments import UNSPECIFIC, meaning_of, zone_segments

    names, codes = {n: name for n, (name, _) in told.items()}, {}
    for number, (name, tags) in told.items():
        entry = re.search(r"TerminologyEntry:([^|]*)", tags)
        # Context, category, type, modifier; context, region, modifier: each scheme^value^meaning.
        fields = [*(entry[1] if entry else "").split("~"), *[""] * 6]
        parts = [[*fields[k].split("^"), "", ""] for k in (2, 5)]
        codes[number] = meaning_of(name, *(Code(p[1], p[0], p[2]) for p in parts))
    if all(unnamed(name) for name in names.values()) and all(
        code in UNSPECIFIC for code in codes.values()
    ):
        return labels, ()
    zones, notes = zone_segments(names, codes, path)
    array = np.where(np.isin(labels.array, list(told)), 0, labels.array)
    for number, zone in zones.items():
        array[labels.array == number] = zone
    return replace(labels, array=array), notes
