"""Volumes in and out: NIfTI, MetaImage, NRRD and DICOM, all as one ``Volume`` type.

The libraries behind the formats load when a file of that format is read or written, never on
import of this package.
"""

import errno
import stat
from collections.abc import Sequence
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

import numpy as np

from mrisr.core.errors import InputError, OutputError
from mrisr.core.volume import Volume, VolumeFile
from mrisr.io import checks
from mrisr.io.atomic import atomic_path, write_bytes, write_json
from mrisr.io.paths import (
    SUPPORTED,
    check_output,
    check_output_folder,
    ending,
    output_format,
    stem,
)

Image = TypeVar("Image")
#: Library of images in memory -> module with ``from_image`` and ``to_image``.
_MODULES = {
    "nibabel": "mrisr.io.nifti",
    "SimpleITK": "mrisr.io.itk",
    "monai": "mrisr.io.metatensor",
}

__all__ = [
    "SUPPORTED",
    "as_file",
    "as_volume",
    "atomic_path",
    "check_output",
    "check_output_folder",
    "input_format",
    "like",
    "output_format",
    "read_file",
    "read_volume",
    "stem",
    "write_bytes",
    "write_json",
    "write_volume",
]


def read_file(
    path: str | PathLike[str],
    *,
    series: str | None = None,
    frame: int | None = None,
    affine: Literal["sform", "qform"] | None = None,
    max_voxels: int = 2**31,
    allow_constant: bool = False,
) -> VolumeFile:
    """Read one scalar 3-D volume, or refuse it in one line; nothing is repaired silently.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.mha``, ``.mhd``, ``.nrrd``, a DICOM file or a folder that
            holds a DICOM series.
        series: which DICOM series of a folder: its UID, number or description.
        frame: which volume (from 1) of a DICOM series that holds several.
        affine: which form of a NIfTI to use where sform and qform disagree.
        max_voxels: larger claims of a header are refused before any memory is taken.
        allow_constant: accept voxels that are all equal, such as an empty mask.

    Returns:
        The volume, array axes as stored, affine in mm RAS, with path, digest and the reader's notes.

    Raises:
        InputError: the path is missing, has an unknown ending, or holds anything that cannot be
            read for certain.
    """
    path = Path(path)
    kind = input_format(path)
    if kind != "dicom" and (series is not None or frame is not None):
        found = "one without series"
        raise InputError(path, expected="a DICOM input where series or frame is given", found=found)
    if kind == "nifti":
        from mrisr.io.nifti import read_nifti

        return read_nifti(path, affine=affine, max_voxels=max_voxels, allow_constant=allow_constant)
    if kind == "itk":
        from mrisr.io.itk import read_itk

        return read_itk(path, max_voxels=max_voxels, allow_constant=allow_constant)
    from mrisr.io.dicom import read_dicom

    return read_dicom(
        path, series=series, frame=frame, max_voxels=max_voxels, allow_constant=allow_constant
    )


def read_volume(path: str | PathLike[str], **options: Any) -> Volume:
    """The volume alone of :func:`read_file`, which takes the same options."""
    return read_file(path, **options).volume


def write_volume(
    volume: Volume,
    path: str | PathLike[str],
    *,
    force: bool = False,
    description: str = "",
    inputs: Sequence[Path | None] = (),
) -> Path:
    """Write a volume in the format of the path's ending, whole or not at all.

    The file is written beside its target, flushed, read back and compared (shape, affine within
    1e-4 mm, stored numbers exactly), and only then renamed.

    Args:
        volume: what to write; its storage dtype, slope and intercept are kept where the format
            can hold them.
        path: ``.nii``, ``.nii.gz``, ``.mha``, ``.mhd`` (with its ``.raw``) or ``.nrrd``.
        force: replace an existing file.
        description: free text for NIfTI's ``descrip``, cut to 79 bytes; no patient data.
        inputs: files that are never replaced: what the volume was made from.

    Returns:
        The path written.

    Raises:
        OutputError: it cannot be written, exists, or does not read back as it should.
    """
    output_format(path)
    path = check_output(path, inputs=inputs, force=force)
    checks.check_finite(volume, path)
    if ending(path) == ".mhd":
        from mrisr.io.itk import save_mhd

        save_mhd(volume, path, force=force)
        return path
    data = _packed(volume, path, description)
    size = volume.array.size * volume.storage.dtype.itemsize if data is None else len(data)
    with atomic_path(path, overwrite=force, size=size) as temporary:
        if data is None:
            from mrisr.io.nifti import write_nifti

            write_nifti(volume, temporary, description)
        else:
            temporary.write_bytes(data)
        verify(temporary, volume, path)
    return path


def _packed(volume: Volume, path: Path, description: str) -> bytes | None:
    """The file of a compressed format; None for one that is written voxel by voxel."""
    kind = ending(path)
    if kind == ".nii":
        return None
    if kind == ".nii.gz":
        from mrisr.io.nifti import nifti_gz_bytes

        return nifti_gz_bytes(volume, description)
    from mrisr.io import itk

    return itk.mha_bytes(volume) if kind == ".mha" else itk.nrrd_bytes(volume)


def verify(written: Path, volume: Volume, target: Path) -> None:
    """Raise OutputError, naming ``target``, unless ``written`` reads back as ``volume``.

    Shape, dtype and stored numbers must be equal; affines within 1e-4 mm (for origins beyond a
    metre, within the precision of float32).
    """
    nifti = output_format(written) == "nifti"
    try:
        if nifti:
            from mrisr.io.nifti import read_nifti

            found = read_nifti(written, allow_constant=True, digest=False).volume
        else:
            from mrisr.io.itk import read_itk

            found = read_itk(written, allow_constant=True, digest=False).volume
    except InputError as error:
        raise OutputError(f"{target}: did not read back ({error.found}); disk full?") from error
    # Decoded with the header's float32 slope, so encoding with it is exact.
    back = found.storage.encode(found.array)
    wanted = checks.writable_storage(volume.storage, scaled=nifti).encode(volume.array)
    if back.shape != wanted.shape or back.dtype != wanted.dtype:
        had, wants = f"{back.shape} {back.dtype}", f"{wanted.shape} {wanted.dtype}"
        raise OutputError(f"{target}: read back as {had}, not {wants}")
    off = float(np.abs(found.affine - volume.affine).max())
    if not off <= 1e-4 + 1e-7 * float(np.abs(volume.affine).max()):
        raise OutputError(f"{target}: its affine read back {off:.2g} mm off")
    different = int(np.count_nonzero(back != wanted))
    if different:
        raise OutputError(f"{target}: {different} of {back.size} voxels read back differently")


def as_volume(image: Any, *, allow_constant: bool = False) -> Volume:
    """The volume alone of :func:`as_file`."""
    return as_file(image, allow_constant=allow_constant).volume


def as_file(image: Any, *, allow_constant: bool = False) -> VolumeFile:
    """An in-memory image as a volume, under the same rules as a file; without path and digest.

    Args:
        image: a nibabel spatial image, a SimpleITK image, a MONAI MetaTensor (``(i, j, k)`` or
            channel first ``(1, i, j, k)``) or a Volume, which is returned as it is.
        allow_constant: accept voxels that are all equal.

    Raises:
        InputError: the image breaks a rule.
        TypeError: it is none of these kinds.
    """
    if isinstance(image, Volume):
        return VolumeFile(image)
    file: VolumeFile = _module_of(image).from_image(image, allow_constant=allow_constant)
    return file


def like(volume: Volume, original: Image) -> Image:
    """``volume`` as the same kind of image as ``original``; inverse of ``as_volume``.

    Voxels keep the storage dtype (nibabel, SimpleITK) or the tensor's dtype and number of axes
    (MetaTensor); a storage with a slope becomes float32. Raises TypeError for an unknown kind.
    """
    if isinstance(original, Volume):
        return volume  # type: ignore[return-value]
    image: Image = _module_of(original).to_image(volume, original)
    return image


def input_format(path: Path) -> Literal["nifti", "itk", "dicom"]:
    """Name the reader that takes this path. Raises InputError if it is missing or none does."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        lost = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        found = "nothing at that path" if lost else error.strerror or str(error)
        raise InputError(path, expected="a file or folder", found=found) from error
    if stat.S_ISDIR(mode):
        return "dicom"
    if not stat.S_ISREG(mode):
        # a FIFO, a socket, a device: reading may never end
        raise InputError(path, expected="a file or folder", found="something that is neither")
    found_ending = ending(path)
    if found_ending is not None:
        return "nifti" if found_ending.startswith(".nii") else "itk"
    if path.suffix.lower() in (".dcm", ".ima"):
        return "dicom"
    with checks.readable(path), path.open("rb") as handle:
        if handle.read(132)[128:] == b"DICM":
            return "dicom"
    packed = " (gzip: unpack it first)" if path.suffix.lower() == ".gz" else ""
    expected = f"a folder, a DICOM file or a name ending in {SUPPORTED}"
    raise InputError(path, expected=expected, found=f"the ending {path.suffix!r}{packed}")


def _module_of(image: object) -> ModuleType:
    """The module for an image's class, told by its library without importing any. Raises TypeError."""
    families = {base.__module__.partition(".")[0] for base in type(image).__mro__}
    for library, module in _MODULES.items():
        if library in families:
            return import_module(module)
    raise TypeError(
        "expected a nibabel image, SimpleITK.Image, MetaTensor or Volume, "
        f"got {type(image).__module__}.{type(image).__qualname__}"
    )
