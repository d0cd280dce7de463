"""The training cache: stacks of slices as compact integers, readable with numpy alone.

A cache is a folder with ``index.json`` and one ``.npz`` per series. A stack has shape
``(slices, rows, columns)``; rows run superior to inferior in coronal and sagittal stacks and anterior to
posterior in axial ones. Voxels are int16 with ``LEVELS`` at the volume's 99.5th percentile and 0 at
its minimum, so values above the percentile survive (up to eight times as bright).

A picture is a stack of one slice in three channels, ``(1, 3, rows, columns)``, of the plane ``picture`` and
without a spacing; its bytes 0..255 are the levels 0..``LEVELS``. A cache of pictures has a format number of
its own, so that a program that knows volumes only refuses it.

Where a patient's zones were labelled, ``labels`` lies beside the levels: uint8
``(readers, slices, rows, columns)`` with 0 background, 1 peripheral and 2 transition zone, one volume for
each reader or algorithm.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mrisr.core.errors import InputError
from mrisr.core.intensity import scaling

FORMAT = 1
FORMAT_PICTURES = 2
LEVELS = 4095
#: The plane of a picture.
PICTURE = "picture"


class Stack(NamedTuple):
    """One series of the cache.

    Attributes:
        case: patient, or folder or name of a picture; the split goes by it.
        series: name of the series within the patient.
        plane: ``axial``, ``coronal``, ``sagittal`` or ``picture``.
        spacing: mm between slices, rows and columns; none for a picture.
        levels: int16 ``(slices, rows, columns)`` or ``(slices, channels, rows, columns)``;
            ``levels / LEVELS`` is the scaled intensity.
        labels: uint8 ``(readers, slices, rows, columns)`` of the zones; none where nobody labelled them.
    """

    case: str
    series: str
    plane: str
    spacing: tuple[float, float, float] | None
    levels: NDArray[np.int16]
    labels: NDArray[np.uint8] | None = None

    @property
    def images(self) -> NDArray[np.int16]:
        """The levels with their channels, ``(slices, channels, rows, columns)``."""
        return self.levels if self.levels.ndim == 4 else self.levels[:, None]

    @property
    def channels(self) -> int:
        """1 for a volume, 3 for a picture."""
        return self.images.shape[1]


def quantise(values: NDArray[np.generic]) -> NDArray[np.int16]:
    """Intensities to levels; see the module's text."""
    offset, scale = scaling(values)
    levels = (values.astype(np.float64) - offset) * (LEVELS / scale)
    return np.clip(np.rint(levels), 0, np.iinfo(np.int16).max).astype(np.int16)


def picture_levels(picture: NDArray[np.uint8]) -> NDArray[np.int16]:
    """A picture ``(rows, columns, 3)`` of bytes as the levels ``(1, 3, rows, columns)`` of a stack.

    0 and 255 are 0 and ``LEVELS``; the bytes between are rounded to levels, and each to another one.
    """
    levels = np.rint(np.arange(256) * (LEVELS / 255)).astype(np.int16)
    return np.ascontiguousarray(np.moveaxis(levels[picture], -1, 0)[None])


def index_entry(stack: Stack, file: str, **more: Any) -> dict[str, Any]:
    """What ``index.json`` says of one series."""
    return {
        "case": stack.case,
        "series": stack.series,
        "plane": stack.plane,
        "spacing": stack.spacing and [round(float(s), 6) for s in stack.spacing],
        "shape": list(stack.levels.shape),
        **({} if stack.labels is None else {"readers": len(stack.labels)}),
        "file": file,
        **more,
    }


def read_index(folder: str | Path) -> list[dict[str, Any]]:
    """Entries of a cache's index.

    Raises:
        InputError: the folder is no cache, or one of another format.
    """
    path = Path(folder) / "index.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            path, expected="the index of a cache made by `mrisr prepare`", found=str(error)
        ) from error
    if content.get("format") not in (FORMAT, FORMAT_PICTURES):
        raise InputError(
            path,
            expected=f"cache format {FORMAT} or {FORMAT_PICTURES}",
            found=str(content.get("format")),
        )
    return list(content["series"])


def read_stacks(folder: str | Path, planes: Sequence[str] | None = None) -> list[Stack]:
    """All stacks of a cache, or those of the given planes.

    Raises:
        InputError: a file is missing, damaged or not of the shape that the index states.
    """
    return [
        _read_stack(Path(folder), entry)
        for entry in read_index(folder)
        if planes is None or entry["plane"] in planes
    ]


def _read_stack(folder: Path, entry: dict[str, Any]) -> Stack:
    path = folder / entry["file"]
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            levels = content["levels"]
            labels = content["labels"] if entry.get("readers") else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(
            path, expected="an array `levels` of the cache", found=str(error)
        ) from error
    if list(levels.shape) != entry["shape"] or levels.dtype != np.int16:
        raise InputError(
            path, expected=f"int16 {entry['shape']}", found=f"{levels.dtype} {levels.shape}"
        )
    if labels is not None:
        wanted = [entry["readers"], *entry["shape"]]
        if list(labels.shape) != wanted or labels.dtype != np.uint8:
            raise InputError(
                path,
                expected=f"labels uint8 {wanted}",
                found=f"{labels.dtype} {labels.shape}",
            )
    spacing = entry["spacing"] and (*entry["spacing"],)
    return Stack(entry["case"], entry["series"], entry["plane"], spacing, levels, labels)
