"""Reading a written file back before it replaces anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrisr.core.errors import InputError, OutputError
from mrisr.core.volume import Storage, Volume
from mrisr.io.paths import ENDINGS, ending


def check_finite(volume: Volume, target: Path) -> None:
    """Raise OutputError if the volume holds NaN or infinity: no reader of ours would take it back."""
    if np.issubdtype(volume.array.dtype, np.floating):
        bad = int(volume.array.size - np.count_nonzero(np.isfinite(volume.array)))
        if bad:
            raise OutputError(f"{target}: not written, {bad} voxels are NaN or infinite")


def verify(written: Path, volume: Volume, target: Path) -> None:
    """Raise OutputError, naming ``target``, unless ``written`` reads back as ``volume``.

    Shape, dtype and stored numbers must be equal; affines within 1e-4 mm (for origins beyond a
    metre, within the precision of float32).
    """
    try:
        storage, back, affine = _read_back(written, volume.storage)
    except InputError as error:
        raise OutputError(f"{target}: did not read back ({error.found}); disk full?") from error
    wanted = storage.encode(volume.array)
    if back.shape != wanted.shape or back.dtype != wanted.dtype:
        found = f"{back.shape} {back.dtype}"
        raise OutputError(f"{target}: read back as {found}, not {wanted.shape} {wanted.dtype}")
    off = float(np.abs(affine - volume.affine).max())
    if not off <= 1e-4 + 1e-7 * float(np.abs(volume.affine).max()):
        raise OutputError(f"{target}: its affine read back {off:.2g} mm off")
    different = int(np.count_nonzero(back != wanted))
    if different:
        raise OutputError(f"{target}: {different} of {back.size} voxels read back differently")


def _read_back(
    written: Path, storage: Storage
) -> tuple[Storage, NDArray[np.generic], NDArray[np.float64]]:
    """The storage the format gave, its stored numbers and affine."""
    if ENDINGS[ending(written) or ""] == "nifti":
        from mrisr.io import nifti, nifti_header

        back = nifti.read_nifti(written, allow_constant=True, digest=False).volume
        used = nifti_header.writable_storage(storage)
        # Decoded with the header's float32 slope, so encoding with it is exact.
        stored = back.storage.encode(back.array)
        return used, stored, back.affine
    from mrisr.io import itk

    back = itk.read_itk(written, allow_constant=True, digest=False).volume
    used = replace(itk.writable_storage(storage))
    return used, back.array, back.affine
