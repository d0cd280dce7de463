"""What the headers of MetaImage and NRRD files say: the grid, and where the voxels lie.

SimpleITK does not read them here: it follows a header out of its folder, takes 1 mm for a spacing in other
letters, the identity for a missing direction, and returns memory that it never filled where a size is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.io import checks
from mrisr.io.metaheader import (
    META_TYPES,
    NRRD_TYPES,
    TextHeader,
    checked_data_file,
    parse_meta,
    parse_nrrd,
    shown,
)

_ORIENTATIONS = ("TransformMatrix", "Orientation", "Rotation")
_ORIGINS = ("Offset", "Position", "Origin")
_BYTE_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
#: How much longer or shorter than 1 the direction vectors of a MetaImage may be.
_LENGTH_TOLERANCE = 1e-3
#: Signs that turn a space of NRRD into RAS.
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class Layout:
    """How the voxels of a file lie, on disk and in space.

    Attributes:
        shape: voxels along the array axes; the first runs fastest.
        dtype: of the stored numbers, with their byte order.
        affine: ``(4, 4)``, voxel indices to mm RAS.
        data: the file that holds them.
        start: where in it they begin.
        held: how many bytes they take there if they are packed and the header says so.
        packed: they are compressed, by zlib or gzip.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    affine: geometry.Affine
    data: Path
    start: int
    held: int | None
    packed: bool


def meta_layout(path: Path, max_voxels: int) -> Layout:
    """Layout of a ``.mha`` or ``.mhd``. Raises InputError unless it is one scalar volume."""
    header = parse_meta(path)
    shape, axes = _shape(header, ("NDims", "DimSize"), path, max_voxels)
    dtype = _meta_dtype(header, path)
    packed = _flag(header, path, "CompressedData", default=False)
    data, start = _meta_data(header, path, 0 if packed else math.prod(shape) * dtype.itemsize)
    held = None
    if packed and "compresseddatasize" in header.fields:
        held = header.numbers("CompressedDataSize", path)[0]
    affine = _meta_affine(header, path, axes)
    return Layout(shape, dtype, affine, data, start, held, packed)


def nrrd_layout(path: Path, max_voxels: int) -> Layout:
    """Layout of a ``.nrrd``. Raises InputError unless it is one scalar volume with its voxels inside."""
    header = parse_nrrd(path)
    fields = header.fields
    if "data file" in fields or "datafile" in fields:
        raise InputError(path, expected="voxels inside the file", found="a detached data file")
    if any(fields.get(k, "0") != "0" for k in ("byte skip", "line skip", "byteskip", "lineskip")):
        raise InputError(path, expected="voxels right after the header", found="a skip field")
    shape, _ = _shape(header, ("dimension", "sizes"), path, max_voxels)
    dtype = _nrrd_dtype(header, path)
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise InputError(path, expected="encoding raw or gzip", found=shown(encoding))
    affine = _nrrd_affine(header, path)
    return Layout(shape, dtype, affine, path, header.offset, None, encoding != "raw")


def _shape(
    header: TextHeader, names: tuple[str, str], path: Path, max_voxels: int
) -> tuple[tuple[int, int, int], int]:
    """The 3-D shape, and how many axes the header gives sizes for."""
    count, sizes = names
    shape = header.numbers(sizes, path)
    if header.numbers(count, path) != [len(shape)]:
        found = shown(header.fields[count.lower()])
        raise InputError(path, expected=f"{count} {len(shape)} as {sizes} has", found=found)
    checks.check_size(shape, path, max_voxels)
    three = checks.check_axes(shape, path)
    if len(shape) < 3:
        raise InputError(path, expected="3 axes", found=f"{len(shape)} ({sizes})")
    return three, len(shape)


def _meta_dtype(header: TextHeader, path: Path) -> np.dtype:
    fields = header.fields
    if fields.get("objecttype", "Image").lower() != "image":
        raise InputError(path, expected="ObjectType Image", found=shown(fields["objecttype"]))
    kind = fields.get("elementtype", "")
    if kind not in META_TYPES:
        raise InputError(path, expected="a scalar ElementType", found=shown(kind))
    channels = fields.get("elementnumberofchannels", "1")
    if channels != "1":
        found = f"{channels[:20]} channels (ElementNumberOfChannels)"
        raise InputError(path, expected="one real number in each voxel", found=found)
    if not _flag(header, path, "BinaryData", default=True):
        raise InputError(path, expected="binary voxels", found="BinaryData = False")
    for key, plain in (
        ("DistanceUnits", "mm"),
        ("ElementToIntensityFunctionSlope", "1"),
        ("ElementToIntensityFunctionOffset", "0"),
    ):
        if fields.get(key.lower(), plain) != plain:
            raise InputError(path, expected=f"{key} {plain}", found=shown(fields[key.lower()]))
    order = _one_of(header, path, _BYTE_ORDERS)
    big = order is not None and _flag(header, path, order, default=False)
    return np.dtype(META_TYPES[kind]).newbyteorder(">" if big else "<")


def _nrrd_dtype(header: TextHeader, path: Path) -> np.dtype:
    fields = header.fields
    kinds = fields.get("kinds", "").lower().split()
    if set(kinds[:3]) - {"domain", "space", "none", "???"}:
        raise InputError(path, expected="kinds of domain or space", found=shown(" ".join(kinds)))
    kind = fields.get("type", "").lower()
    if kind not in NRRD_TYPES:
        raise InputError(path, expected="a scalar type", found=shown(kind))
    dtype = np.dtype(NRRD_TYPES[kind])
    endian = fields.get("endian", "little" if dtype.itemsize == 1 else "").lower()
    if endian not in ("little", "big"):
        raise InputError(path, expected="endian little or big", found=shown(endian))
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _flag(header: TextHeader, path: Path, key: str, *, default: bool) -> bool:
    text = header.fields.get(key.lower(), str(default)).lower()
    if text not in ("true", "t", "1", "false", "f", "0"):
        raise InputError(path, expected=f"{key} true or false", found=shown(text))
    return text in ("true", "t", "1")


def _one_of(header: TextHeader, path: Path, keys: tuple[str, ...]) -> str | None:
    """Which of several names of one field the header uses, if any."""
    used = [key for key in keys if key.lower() in header.fields]
    if len({header.fields[key.lower()] for key in used}) > 1:
        raise InputError(path, expected=f"one {keys[0]}", found=" and ".join(used))
    return used[0] if used else None


def _meta_data(header: TextHeader, path: Path, size: int) -> tuple[Path, int]:
    """The file of the voxels and where in it they begin."""
    name = header.fields["elementdatafile"]
    inside = name.upper() == "LOCAL"
    data = path if inside else checked_data_file(path, name)
    skip = header.numbers("HeaderSize", path)[0] if "headersize" in header.fields else 0
    if skip == -1 and size:  # they are the last of the file
        return data, max(data.stat().st_size - size, 0)
    if skip < 0 or (inside and skip not in (0, header.offset)):
        raise InputError(path, expected="HeaderSize 0", found=str(skip))
    return data, header.offset if inside else skip


def _meta_affine(header: TextHeader, path: Path, axes: int) -> geometry.Affine:
    spacing = header.vectors("ElementSpacing", (axes,), path)[:3]
    if not all(v > 0 for v in spacing):
        found = shown(header.fields["elementspacing"])
        raise InputError(path, expected="an ElementSpacing above zero", found=found)
    turned, placed = (_one_of(header, path, keys) for keys in (_ORIENTATIONS, _ORIGINS))
    if turned is None:
        raise InputError(path, expected="an orientation (TransformMatrix)", found="none")
    if placed is None:
        raise InputError(path, expected="an origin (Offset)", found="none")
    vectors = np.reshape(header.vectors(turned, (axes * axes,), path), (axes, axes))[:3, :3]
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.abs(lengths - 1).max() <= _LENGTH_TOLERANCE:
        found = f"lengths of {', '.join(f'{n:g}' for n in lengths)}"
        raise InputError(path, expected=f"{turned} of unit vectors", found=found)
    origin = header.vectors(placed, (axes,), path)[:3]
    return _ras(vectors.T * spacing, origin, (-1.0, -1.0, 1.0))


def _nrrd_affine(header: TextHeader, path: Path) -> geometry.Affine:
    fields = header.fields
    signs = _SPACES.get(fields.get("space", "").lower())
    if signs is None or "space directions" not in fields:
        found = f"space {shown(fields.get('space', 'not set'))}"
        if "space directions" not in fields:
            found += ", no space directions"
        raise InputError(path, expected="an orientation in LPS or RAS", found=found)
    units = {u for u in fields.get("space units", "").replace('"', " ").split() if u != "none"}
    if units - {"mm"}:
        found = shown(", ".join(sorted(units)))
        raise InputError(path, expected="space units of mm", found=found)
    # A fourth axis, of length 1, has no direction: "none".
    fields["space directions"] = fields["space directions"].removesuffix("none")
    vectors = np.reshape(header.vectors("space directions", (9,), path), (3, 3))
    return _ras(vectors.T, header.vectors("space origin", (3,), path), signs)


def _ras(
    columns: NDArray[np.float64], origin: list[float], signs: tuple[float, float, float]
) -> geometry.Affine:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin
    return np.diag([*signs, 1.0]) @ affine
