"""The training cache: stacks of slices as compact integers, readable with numpy alone.

A cache is a folder with ``index.json`` and one ``.npz`` per series. A stack has shape
``(slices, rows, columns)``; rows run superior to inferior in coronal and sagittal stacks and anterior to
posterior in axial ones. Voxels are int16 with ``LEVELS`` at the volume's 99.5th percentile and 0 at
its minimum, so values above the percentile survive (up to eight times as bright). A stack of several
channels has the shape ``(slices, channels, rows, columns)`` (:mod:`mrisr.data.pictures`).

Where a patient's zones were labelled, ``labels`` lies beside the levels: uint8
``(readers, slices, rows, columns)`` with 0 background, 1 peripheral and 2 transition zone, one volume for
each reader or algorithm.
"""

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mrisr.core.errors import InputError
from mrisr.core.statistics import scaling
from mrisr.io.atomic import json_bytes
from mrisr.io.checks import read_json

#: Formats of the index: of volumes, and of stacks of several channels, which older programs refuse.
FORMAT, FORMAT_CHANNELS = 1, 2
LEVELS = 4095


class Stack(NamedTuple):
    """One series of the cache.

    Attributes:
        case: patient; the split into training and validation goes by it.
        series: name of the series within the patient.
        plane: ``axial``, ``coronal`` or ``sagittal``.
        spacing: mm between slices, rows and columns; `None` for a picture.
        levels: int16 ``(slices, rows, columns)`` or ``(slices, channels, rows, columns)``;
            ``levels / LEVELS`` is the scaled intensity.
        labels: uint8 ``(readers, slices, rows, columns)`` of the zones; `None` where nobody labelled them.
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
        """Channels of every slice: 1 for a volume."""
        return int(self.images.shape[1])


def quantise(values: NDArray[np.generic]) -> NDArray[np.int16]:
    """Convert intensities of a volume to levels, clipped to what 16 bits hold."""
    offset, scale = scaling(values)
    levels = (values.astype(np.float64) - offset) * (LEVELS / scale)
    return np.clip(np.rint(levels), 0, np.iinfo(np.int16).max).astype(np.int16)


class IndexEntry(TypedDict, total=False):
    """One series in ``index.json``; ``readers`` (volumes of labels) and the digest may be absent."""

    case: str
    series: str
    plane: str
    spacing: list[float] | None
    shape: list[int]
    file: str
    readers: int
    source_sha256: str | None


def write_stack(folder: Path, stack: Stack, number: int) -> IndexEntry:
    """Write a stack into a cache's folder. Returns its entry of the index."""
    file = folder / "volumes" / f"{number:04d}.npz"  # names of cases may repeat or hold a path
    entry: IndexEntry = {
        "case": stack.case,
        "series": stack.series,
        "plane": stack.plane,
        "spacing": stack.spacing and [round(float(s), 6) for s in stack.spacing],
        "shape": list(stack.levels.shape),
        "file": f"volumes/{file.name}",
    }
    arrays: dict[str, NDArray[np.generic]] = {"levels": stack.levels}
    if stack.labels is not None:
        arrays["labels"] = stack.labels
        entry["readers"] = len(stack.labels)
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(packed.getvalue())
    return entry


def write_index(folder: Path, entries: Sequence[IndexEntry]) -> None:
    """Write the index of a cache: the last of its files, which makes it one."""
    channels = any(len(entry["shape"]) == 4 for entry in entries)
    number = FORMAT_CHANNELS if channels else FORMAT
    content = {"format": number, "levels": LEVELS, "series": entries}
    (folder / "index.json").write_bytes(json_bytes(content))


def read_index(folder: str | Path) -> list[IndexEntry]:
    """Read the entries of a cache's index.

    Raises:
        InputError: the folder is no cache, or one of another format.
    """
    path = Path(folder) / "index.json"
    content = read_json(path, "the index of a cache made by `mrisr prepare`")
    if content.get("format") not in (FORMAT, FORMAT_CHANNELS):
        wanted = f"cache format {FORMAT} or {FORMAT_CHANNELS}"
        raise InputError(path, expected=wanted, found=str(content.get("format")))
    return list(content["series"])


def read_stacks(folder: str | Path, planes: Sequence[str] | None = None) -> list[Stack]:
    """Read all stacks of a cache, or those of the given planes.

    Raises:
        InputError: a file is missing, damaged or not of the shape that the index states.
    """
    return [
        _read_stack(Path(folder), entry)
        for entry in read_index(folder)
        if planes is None or entry["plane"] in planes
    ]


def _read_stack(folder: Path, entry: IndexEntry) -> Stack:
    path, readers = folder / entry["file"], entry.get("readers")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            levels = content["levels"]
            labels = content["labels"] if readers else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        wanted = "an array `levels` of the cache"
        raise InputError(path, expected=wanted, found=str(error)) from error
    _check_array(path, levels, "int16", entry["shape"])
    if labels is not None:
        _check_array(path, labels, "uint8", [readers, *entry["shape"]], "labels ")
    spacing = entry["spacing"] and (entry["spacing"][0], entry["spacing"][1], entry["spacing"][2])
    return Stack(entry["case"], entry["series"], entry["plane"], spacing or None, levels, labels)


def _check_array(
    path: Path,
    array: NDArray[np.generic],
    dtype: Literal["int16", "uint8"],
    shape: Sequence[int | None],
    name: str = "",
) -> None:
    if list(array.shape) != list(shape) or array.dtype != dtype:
        wanted = f"{name}{dtype} {list(shape)}"
        raise InputError(path, expected=wanted, found=f"{array.dtype} {array.shape}")
