"""MetaImage and NRRD files as bytes: text headers of ours before voxels packed by zlib.

The bytes are made first, so that what a file needs is known before it is written.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.io.metaheader import META_TYPES, NRRD_TYPES
from mrisr.io.voxels import writable_storage

#: Noise packs little better at higher levels, which take several times as long.
_LEVEL = 3
#: Names of the stored types, the first of each.
_META = {code: name for name, code in reversed(META_TYPES.items())}
_NRRD = {code: name for name, code in reversed(NRRD_TYPES.items())}


def stored_numbers(volume: Volume) -> NDArray[np.generic]:
    """Voxels as these formats store them, little-endian; a storage with a slope becomes float32."""
    storage = writable_storage(volume.storage, scaled=False)
    stored = storage.encode(volume.array)
    return stored.astype(stored.dtype.newbyteorder("<"), copy=False)


def mha_bytes(volume: Volume) -> bytes:
    """A compressed ``.mha``."""
    stored = stored_numbers(volume)
    packed = zlib.compress(stored.tobytes(order="F"), _LEVEL)
    size = {"CompressedDataSize": str(len(packed))}
    return meta_header(volume, stored.dtype, "LOCAL", size).encode() + packed


def nrrd_bytes(volume: Volume) -> bytes:
    """A compressed ``.nrrd``."""
    stored = stored_numbers(volume)
    packed = gzip.compress(stored.tobytes(order="F"), _LEVEL, mtime=0)
    return _nrrd_header(volume, stored.dtype).encode() + packed


def meta_header(
    volume: Volume, dtype: np.dtype, voxels: str, compressed: Mapping[str, str] | None = None
) -> str:
    """Header of a MetaImage. It is LPS; TransformMatrix lists the direction of each array axis."""
    lps = geometry.LPS_TO_RAS @ volume.affine
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(compressed is not None),
        **(compressed or {}),
        "TransformMatrix": _numbers(geometry.directions(lps).T.ravel()),
        "Offset": _numbers(lps[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _numbers(geometry.spacing(lps)),
        "DimSize": " ".join(str(n) for n in volume.shape),
        "ElementType": _META[dtype.str[1:]],
        "ElementDataFile": voxels,
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


def _nrrd_header(volume: Volume, dtype: np.dtype) -> str:
    lps = geometry.LPS_TO_RAS @ volume.affine
    vectors = [f"({_numbers(v, ',')})" for v in lps[:3, :3].T]
    fields = {
        "type": _NRRD[dtype.str[1:]],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(str(n) for n in volume.shape),
        "space directions": " ".join(vectors),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip",
        "space origin": f"({_numbers(lps[:3, 3], ',')})",
    }
    return "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items()) + "\n"


def _numbers(values: NDArray[np.float64], separator: str = " ") -> str:
    return separator.join(repr(float(v)) for v in values)
