"""MetaImage (``.mha``, ``.mhd``) and NRRD files, and SimpleITK images in memory.

ITK's world is LPS and its arrays are ``(z, y, x)``; both are turned here, so that a Volume is
``(i, j, k)`` in ITK's x, y, z order with an affine in RAS.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import checks, voxels
from mrisr.io.digest import sha256
from mrisr.io.itk_header import Layout, meta_layout, nrrd_layout
from mrisr.io.metaheader import META_TYPES, NRRD_TYPES
from mrisr.io.paths import ending
from mrisr.io.voxels import writable_storage

if TYPE_CHECKING:
    import SimpleITK as sitk

#: Noise packs little better at higher levels, which take several times as long.
_LEVEL = 3
#: Names of the stored types, the first of each.
_META = {code: name for name, code in reversed(META_TYPES.items())}
_NRRD = {code: name for name, code in reversed(NRRD_TYPES.items())}


@np.errstate(all="ignore")  # what overflows is counted and refused by the checks
def read_itk(
    path: Path, *, max_voxels: int = 2**31, allow_constant: bool = False, digest: bool = True
) -> VolumeFile:
    """Read a ``.mha``, ``.mhd`` or ``.nrrd`` in its stored dtype.

    Raises:
        InputError: truncated or damaged, no orientation or spacing, voxels outside the header's
            folder, not one scalar 3-D volume, and what ``checks`` refuses.
    """
    meta = ending(path) in (".mha", ".mhd")
    with checks.readable(path), ExitStack() as stack:
        files = [stack.enter_context(path.open("rb"))]
        layout = (meta_layout if meta else nrrd_layout)(files[0], path, max_voxels)
        checks.check_affine(layout.affine, path)
        if layout.data != path:
            files.append(stack.enter_context(layout.data.open("rb")))
        array = _read_voxels(files[-1], layout, path)
        digested = sha256(*files) if digest else None
    checks.check_values(array, path, allow_constant=allow_constant)
    volume = Volume(array, layout.affine, storage=Storage(array.dtype), name=str(path))
    return VolumeFile(volume, path, digested)


def _read_voxels(data: IO[bytes], layout: Layout, path: Path) -> NDArray[np.generic]:
    held = os.fstat(data.fileno()).st_size - layout.start
    claimed = math.prod(layout.shape) * layout.dtype.itemsize
    checks.check_room(held, claimed, path, packed=layout.packed)
    data.seek(layout.start)
    if layout.packed:
        return voxels.inflate_voxels(data, layout.shape, layout.dtype, path, layout.held)
    return voxels.read_voxels(data, layout.shape, layout.dtype, path)


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


def from_image(image: sitk.Image, *, allow_constant: bool = False) -> VolumeFile:
    """A SimpleITK image as a Volume; the same rules as for a file. Raises InputError."""
    import SimpleITK as sitk

    source = "in-memory SimpleITK.Image"
    channels = image.GetNumberOfComponentsPerPixel()
    if channels != 1 or "complex" in image.GetPixelIDTypeAsString():
        found = f"{channels} components of {image.GetPixelIDTypeAsString()} in each voxel"
        raise InputError(source, expected="one real number in each voxel", found=found)
    if image.GetDimension() < 3:
        raise InputError(source, expected="3 axes", found=f"{image.GetDimension()}")
    size = checks.check_axes(image.GetSize(), source)
    if image.GetDimension() > 3:
        collapse = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
        kept = [*size, *[0] * (image.GetDimension() - 3)]
        image = sitk.Extract(image, kept, [0] * len(kept), collapse)
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    grid = geometry.LPS_TO_RAS @ lps
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    checks.check_volume(array, grid, source, allow_constant=allow_constant)
    return VolumeFile(Volume(array, grid, storage=Storage(array.dtype), name=source))


def to_image(volume: Volume, original: sitk.Image | None = None) -> sitk.Image:
    """A Volume as a SimpleITK image with the same voxels in the same world positions."""
    import SimpleITK as sitk

    stored = writable_storage(volume.storage, scaled=False).encode(volume.array)
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.transpose(2, 1, 0)))
    lps = geometry.LPS_TO_RAS @ volume.affine
    image.SetSpacing([float(s) for s in geometry.spacing(lps)])
    image.SetDirection([float(d) for d in geometry.directions(lps).ravel()])
    image.SetOrigin([float(p) for p in lps[:3, 3]])
    return image
