"""MetaImage as a pair of files: a text header ``.mhd`` and its voxels in ``.raw``."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mrisr import geometry
from mrisr.io import itk, verify
from mrisr.io.atomic import atomic_path
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

    Both are written and verified under temporary names. An old header is removed before the new
    voxels take their place, so that a kill in between leaves no header with the wrong voxels.
    """
    storage = itk.writable_storage(volume.storage)
    stored = storage.encode(cast(NDArray[np.floating], volume.array))
    voxels = path.with_suffix(".raw")
    with (
        atomic_path(path, overwrite=force) as header_part,
        atomic_path(voxels, overwrite=force, size=stored.nbytes) as voxel_part,
    ):
        little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
        voxel_part.write_bytes(little.tobytes(order="F"))
        header_part.write_text(_header(volume, stored.dtype, voxel_part.name))
        verify.verify(header_part, volume, path)
        header_part.write_text(_header(volume, stored.dtype, voxels.name))
        if force:
            path.unlink(missing_ok=True)


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
