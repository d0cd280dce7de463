"""The training cache: stacks of slices as compact integers, readable with numpy alone.

A cache is a folder with ``index.json`` and one ``.npz`` per series. A stack has shape
``(slices, rows, columns)``; rows run superior to inferior in coronal and sagittal stacks and anterior to
posterior in axial ones. Voxels are int16 with ``LEVELS`` at the volume's 99.5th percentile and 0 at
its minimum, so values above the percentile survive (up to eight times as bright).
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

from mrisr.errors import InputError

FORMAT = 1
LEVELS = 4095


class Stack(NamedTuple):
    """One series of the cache.

    Attributes:
        case: patient; the split goes by it.
        series: name of the series within the patient.
        plane: ``axial``, ``coronal`` or ``sagittal``.
        spacing: mm between slices, rows and columns.
        levels: int16 ``(slices, rows, columns)``; ``levels / LEVELS`` is the scaled intensity.
    """

    case: str
    series: str
    plane: str
    spacing: tuple[float, float, float]
    levels: NDArray[np.int16]


def scaling(values: NDArray[np.generic]) -> tuple[float, float]:
    """Offset and scale that bring a volume to its 0..99.5 percentile range: ``(v - offset) / scale``.

    Where hardly anything is bright (the percentile lies below a twentieth of the maximum, as in a
    phantom on an empty background) the maximum takes the percentile's place.
    """
    low, high, top = np.percentile(values.astype(np.float64), [0.0, 99.5, 100.0])
    if high - low < 0.05 * (top - low):
        high = top
    return float(low), float(max(high - low, np.finfo(np.float32).tiny))


def quantise(values: NDArray[np.generic]) -> NDArray[np.int16]:
    """Intensities to levels; see the module's text."""
    offset, scale = scaling(values)
    levels = (values.astype(np.float64) - offset) * (LEVELS / scale)
    return np.clip(np.rint(levels), 0, np.iinfo(np.int16).max).astype(np.int16)


def index_entry(stack: Stack, file: str, **more: Any) -> dict[str, Any]:
    """What ``index.json`` says of one series."""
    return {
        "case": stack.case,
        "series": stack.series,
        "plane": stack.plane,
        "spacing": [round(float(s), 6) for s in stack.spacing],
        "shape": list(stack.levels.shape),
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
    if content.get("format") != FORMAT:
        raise InputError(path, expected=f"cache format {FORMAT}", found=str(content.get("format")))
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
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(
            path, expected="an array `levels` of the cache", found=str(error)
        ) from error
    if list(levels.shape) != entry["shape"] or levels.dtype != np.int16:
        raise InputError(
            path, expected=f"int16 {entry['shape']}", found=f"{levels.dtype} {levels.shape}"
        )
    a, b, c = entry["spacing"]
    return Stack(entry["case"], entry["series"], entry["plane"], (a, b, c), levels)
