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
from mrisr.io import checks, voxels
from mrisr.io.digest import file_sha256
from mrisr.io.itk_header import Layout, meta_layout, nrrd_layout
from mrisr.io.paths import ending
from mrisr.io.voxels import writable_storage


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
        array = _read_voxels(layout, path)
        digested = file_sha256(path, *{layout.data} - {path}) if digest else None
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(path, expected="a readable file", found=found) from error
    checks.check_values(array, path, allow_constant=allow_constant)
    volume = Volume(array, layout.affine, storage=Storage(array.dtype), name=str(path))
    return VolumeFile(volume, path, digested)


def _read_voxels(layout: Layout, path: Path) -> NDArray[np.generic]:
    held = layout.data.stat().st_size - layout.start
    claimed = voxels.byte_count(layout.shape, layout.dtype)
    voxels.check_room(held, claimed, path, packed=layout.packed)
    with layout.data.open("rb") as handle:
        handle.seek(layout.start)
        if layout.packed:
            return voxels.inflate_voxels(handle, layout.shape, layout.dtype, path, layout.held)
        return voxels.read_voxels(handle, layout.shape, layout.dtype, path)


def from_image(image: sitk.Image, *, allow_constant: bool = False) -> VolumeFile:
    """A SimpleITK image as a Volume; the same rules as for a file. Raises InputError."""
    name = "in-memory SimpleITK.Image"
    array, grid = _unpack(image, name)
    checks.check_volume(array, grid, name, allow_constant=allow_constant)
    return VolumeFile(Volume(array, grid, storage=Storage(array.dtype), name=name))


def to_image(volume: Volume, original: sitk.Image | None = None) -> sitk.Image:
    """A Volume as a SimpleITK image with the same voxels in the same world positions."""
    storage = writable_storage(volume.storage, scaled=False)
    stored = storage.encode(volume.array)
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.transpose(2, 1, 0)))
    lps = geometry.LPS_TO_RAS @ volume.affine
    image.SetSpacing([float(s) for s in geometry.spacing(lps)])
    image.SetDirection([float(d) for d in geometry.directions(lps).ravel()])
    image.SetOrigin([float(p) for p in lps[:3, 3]])
    return image


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
