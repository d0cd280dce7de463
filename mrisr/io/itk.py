"""MetaImage (``.mha``, ``.mhd``) and NRRD files, and SimpleITK images in memory.

ITK's world is LPS and its arrays are ``(z, y, x)``; both are turned here, so that a Volume is
``(i, j, k)`` in ITK's x, y, z order with an affine in RAS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import checks
from mrisr.io.itk_header import meta_layout, nrrd_layout
from mrisr.io.itk_voxels import read_voxels, sha256
from mrisr.io.paths import ending


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
    try:
        layout = (meta_layout if meta else nrrd_layout)(path, max_voxels)
        checks.check_affine(layout.affine, path)
        array = read_voxels(layout, path)
        digested = sha256(path) if digest else None
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(path, expected="a readable file", found=found) from error
    checks.check_values(array, path, allow_constant=allow_constant)
    volume = Volume(array, layout.affine, storage=Storage(array.dtype), name=str(path))
    return VolumeFile(volume, path, digested)


def from_image(image: sitk.Image, *, allow_constant: bool = False) -> VolumeFile:
    """A SimpleITK image as a Volume; the same rules as for a file. Raises InputError."""
    array, grid = _unpack(image, "in-memory SimpleITK.Image")
    checks.check_volume(array, grid, "in-memory SimpleITK.Image", allow_constant=allow_constant)
    name = "in-memory SimpleITK.Image"
    return VolumeFile(Volume(array, grid, storage=Storage(array.dtype), name=name))


def to_image(volume: Volume) -> sitk.Image:
    """A Volume as a SimpleITK image with the same voxels in the same world positions."""
    storage = writable_storage(volume.storage)
    stored = storage.encode(volume.array)
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.transpose(2, 1, 0)))
    lps = geometry.LPS_TO_RAS @ volume.affine
    image.SetSpacing([float(s) for s in geometry.spacing(lps)])
    image.SetDirection([float(d) for d in geometry.directions(lps).ravel()])
    image.SetOrigin([float(p) for p in lps[:3, 3]])
    return image


def writable_storage(storage: Storage) -> Storage:
    """The nearest storage these formats can hold: they know no slope, nor float16."""
    dtype = storage.dtype.newbyteorder("=")
    if storage.slope != 1.0 or storage.intercept != 0.0:
        return Storage(np.dtype(np.float32))
    if dtype == np.dtype(bool):
        return Storage(np.dtype(np.uint8))
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype == np.float16:
        return Storage(np.dtype(np.float32))
    return Storage(dtype)


def _unpack(image: sitk.Image, source: str) -> tuple[NDArray[np.generic], geometry.Affine]:
    """Array ``(i, j, k)`` and affine in RAS of a scalar image."""
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
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), geometry.LPS_TO_RAS @ lps


def _one_line(error: Exception) -> str:
    """The last line of ITK's message, which is the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
