"""Headers of MetaImage and NRRD files: the grid, and where the voxels lie.

SimpleITK does not read them here: it follows a header out of its folder, takes 1 mm for a spacing in other
letters, the identity for a missing direction, and returns memory that it never filled where a size is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
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

#: How much longer or shorter than 1 the direction vectors of a MetaImage may be.
_LENGTH_TOLERANCE = 1e-3
#: Signs that turn a space of NRRD into RAS.
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
}


@dataclass(frozen=True)
class Layout:
    """Layout of the voxels of a file, on disk and in space.

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


def meta_layout(file: IO[bytes], path: Path, max_voxels: int) -> Layout:
    """Layout of a ``.mha`` or ``.mhd``. Raises InputError unless it is one scalar volume."""
    header = parse_meta(file, path)
    shape, axes = _shape(header, "NDims", "DimSize", max_voxels)
    dtype = _meta_dtype(header)
    packed = header.flag("CompressedData", default=False)
    data, start = _meta_data(header, 0 if packed else math.prod(shape) * dtype.itemsize)
    sized = packed and "compresseddatasize" in header.fields
    held = header.numbers("CompressedDataSize")[0] if sized else None
    return Layout(shape, dtype, _meta_affine(header, axes), data, start, held, packed)


def nrrd_layout(file: IO[bytes], path: Path, max_voxels: int) -> Layout:
    """Layout of a ``.nrrd``. Raises InputError unless it is one scalar volume with its voxels inside."""
    header = parse_nrrd(file, path)
    if header.get("data file") or header.get("datafile"):
        raise header.refused("voxels inside the file", found="a detached data file")
    if any(header.get(k, "0") != "0" for k in ("byte skip", "line skip", "byteskip", "lineskip")):
        raise header.refused("voxels right after the header", found="a skip field")
    shape, _ = _shape(header, "dimension", "sizes", max_voxels)
    dtype = _nrrd_dtype(header)
    if header.get("encoding").lower() not in ("raw", "gzip", "gz"):
        raise header.refused("encoding raw or gzip", "encoding")
    packed = header.get("encoding").lower() != "raw"
    return Layout(shape, dtype, _nrrd_affine(header), path, header.offset, None, packed)


def _shape(
    header: TextHeader, count: str, sizes: str, max_voxels: int
) -> tuple[tuple[int, int, int], int]:
    """The 3-D shape, and how many axes the header gives sizes for."""
    shape = header.numbers(sizes)
    if header.numbers(count) != [len(shape)]:
        raise header.refused(f"{count} {len(shape)} as {sizes} has", count)
    checks.check_size(shape, header.path, max_voxels)
    three = checks.check_axes(shape, header.path)
    if len(shape) < 3:
        raise header.refused("3 axes", found=f"{len(shape)} ({sizes})")
    return three, len(shape)


def _meta_dtype(header: TextHeader) -> np.dtype:
    header.expect("ObjectType", "Image")
    channels = header.get("ElementNumberOfChannels", "1")
    if channels != "1":
        found = f"{channels[:20]} channels (ElementNumberOfChannels)"
        raise header.refused("one real number in each voxel", found=found)
    header.expect("DistanceUnits", "mm")
    header.expect("ElementToIntensityFunctionSlope", "1")
    header.expect("ElementToIntensityFunctionOffset", "0")
    kind = header.get("ElementType")
    if kind not in META_TYPES:
        raise header.refused("a scalar ElementType", "ElementType")
    if not header.flag("BinaryData", default=True):
        raise header.refused("binary voxels", found="BinaryData = False")
    order = header.one_of("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    big = order is not None and header.flag(order, default=False)
    return np.dtype(META_TYPES[kind]).newbyteorder(">" if big else "<")


def _nrrd_dtype(header: TextHeader) -> np.dtype:
    kinds = header.get("kinds").lower().split()
    if set(kinds[:3]) - {"domain", "space", "none", "???"}:
        raise header.refused("kinds of domain or space", "kinds")
    kind = header.get("type").lower()
    if kind not in NRRD_TYPES:
        raise header.refused("a scalar type", "type")
    dtype = np.dtype(NRRD_TYPES[kind])
    endian = header.get("endian", "little" if dtype.itemsize == 1 else "").lower()
    if endian not in ("little", "big"):
        raise header.refused("endian little or big", "endian")
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _meta_data(header: TextHeader, size: int) -> tuple[Path, int]:
    """The file of the voxels and where in it they begin."""
    name = header.get("ElementDataFile")
    inside = name.upper() == "LOCAL"
    data = header.path if inside else checked_data_file(header.path, name)
    skip = header.numbers("HeaderSize")[0] if "headersize" in header.fields else 0
    if skip == -1 and size:  # they are the last of the file
        return data, max(data.stat().st_size - size, 0)
    if skip < 0 or (inside and skip not in (0, header.offset)):
        raise header.refused("HeaderSize 0", "HeaderSize")
    return data, header.offset if inside else skip


def _meta_affine(header: TextHeader, axes: int) -> geometry.Affine:
    spacing = header.vectors("ElementSpacing", axes)[:3]
    if not (spacing > 0).all():
        raise header.refused("an ElementSpacing above zero", "ElementSpacing")
    turned = header.one_of("TransformMatrix", "Orientation", "Rotation")
    placed = header.one_of("Offset", "Position", "Origin")
    if turned is None:
        raise header.refused("an orientation (TransformMatrix)", found="none")
    if placed is None:
        raise header.refused("an origin (Offset)", found="none")
    vectors = header.vectors(turned, axes * axes).reshape(axes, axes)[:3, :3]
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.abs(lengths - 1).max() <= _LENGTH_TOLERANCE:
        found = f"lengths of {', '.join(f'{n:g}' for n in lengths)}"
        raise header.refused(f"{turned} of unit vectors", found=found)
    return _ras(vectors.T * spacing, header.vectors(placed, axes)[:3], (-1, -1, 1))


def _nrrd_affine(header: TextHeader) -> geometry.Affine:
    signs = _SPACES.get(header.get("space").lower())
    directions = header.get("space directions")
    if signs is None or not directions:
        found = f"space {shown(header.get('space', 'not set'))}"
        found += "" if directions else ", no space directions"
        raise header.refused("an orientation in LPS or RAS", found=found)
    if set(header.get("space units").replace('"', " ").split()) - {"none", "mm"}:
        raise header.refused("space units of mm", "space units")
    # A fourth axis, of length 1, has no direction: "none".
    header.fields["space directions"] = directions.removesuffix("none")
    columns = header.vectors("space directions", 9).reshape(3, 3).T
    return _ras(columns, header.vectors("space origin", 3), signs)


def _ras(
    columns: NDArray[np.float64], origin: NDArray[np.float64], signs: tuple[int, int, int]
) -> geometry.Affine:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin
    return np.diag([*signs, 1.0]) @ affine
