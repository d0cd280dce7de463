"""MetaImage as a pair of files: a text header ``.mhd`` and its voxels in ``.raw``."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mrisr import geometry
from mrisr.errors import OutputError
from mrisr.io import itk, metaheader, verify
from mrisr.io.atomic import as_output_error, ready_to_write
from mrisr.io.leftovers import is_temporary, remove, remove_leftovers, temporary_path
from mrisr.io.steps import flush, flush_folder, locked, move_file
from mrisr.volume import Volume

_TYPES = {
    "int8": "MET_CHAR",
    "uint8": "MET_UCHAR",
    "int16": "MET_SHORT",
    "uint16": "MET_USHORT",
    "int32": "MET_INT",
    "uint32": "MET_UINT",
    "int64": "MET_LONG_LONG",
    "uint64": "MET_ULONG_LONG",
    "float32": "MET_FLOAT",
    "float64": "MET_DOUBLE",
}


def save_mhd(volume: Volume, path: Path, *, force: bool = False) -> None:
    """Write ``path`` and ``<stem>.raw`` beside it; raises OutputError.

    No system renames two files in one step, so the header decides. The new voxels are on the disk
    under a temporary name when the new header, which names them there, replaces the old one: from
    then on the new pair counts. Then the voxels take their final name, and a second header says so.
    A kill at any moment leaves the old pair or the new one; the next writing tidies the names.
    """
    storage = itk.writable_storage(volume.storage)
    stored = storage.encode(cast(NDArray[np.floating], volume.array))
    voxels = path.with_suffix(".raw")
    with as_output_error(path, stored.nbytes):
        with locked(path.parent):
            _tidy(path, voxels)
            remove_leftovers(path)
            part = ready_to_write(voxels, stored.nbytes)
        first, last = temporary_path(path), temporary_path(path)
        try:
            little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
            part.write_bytes(little.tobytes(order="F"))
            first.write_text(_header(volume, stored.dtype, part.name))
            last.write_text(_header(volume, stored.dtype, voxels.name))
            for file in (part, first, last):
                flush(file)
            verify.verify(first, volume, path)
            with locked(path.parent):
                if not force and os.path.lexists(voxels):
                    raise OutputError(f"{voxels}: exists already (--force replaces)")
                move_file(first, path, overwrite=force)
                flush_folder(path.parent)
                with suppress(OSError):  # it counts already; the next writing tries again
                    _settle(path, voxels, part, last)
        finally:
            if metaheader.data_file(path) != part:
                remove(part)
            remove(first)
            remove(last)


def _settle(path: Path, voxels: Path, part: Path, header: Path) -> None:
    """Give the voxels ``part`` their final name and the header that says so; both names hold meanwhile."""
    copy = temporary_path(voxels)
    try:
        try:
            os.link(part, copy)
        except OSError:  # file systems without hard links
            shutil.copyfile(part, copy)
            flush(copy)
        os.replace(copy, voxels)
    finally:
        remove(copy)
    flush_folder(path.parent)
    os.replace(header, path)
    flush_folder(path.parent)
    remove(part)


def _tidy(path: Path, voxels: Path) -> None:
    """Finish what a killed run began: its header names voxels that still have their temporary name."""
    part = metaheader.data_file(path)
    if part is None or not is_temporary(part, voxels) or not part.is_file():
        return
    header = temporary_path(path)
    try:
        header.write_bytes(path.read_bytes().replace(part.name.encode(), voxels.name.encode()))
        flush(header)
        _settle(path, voxels, part, header)
    finally:
        remove(header)


def _header(volume: Volume, dtype: np.dtype, voxels: str) -> str:
    """Header text. MetaImage is LPS; TransformMatrix lists the direction of each array axis."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": _numbers(geometry.directions(lps).T.ravel()),
        "Offset": _numbers(lps[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _numbers(geometry.spacing(lps)),
        "DimSize": " ".join(str(n) for n in volume.shape),
        "ElementType": _TYPES[dtype.name],
        "ElementDataFile": voxels,
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(v)) for v in values)
