"""Reading a written file back before it replaces anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrisr.core.errors import InputError, OutputError
from mrisr.core.volume import Volume
from mrisr.io.paths import ENDINGS, ending
from mrisr.io.voxels import writable_storage


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
    nifti = ENDINGS[ending(written) or ""] == "nifti"
    try:
        if nifti:
            from mrisr.io.nifti import read_nifti

            volume_back = read_nifti(written, allow_constant=True, digest=False).volume
        else:
            from mrisr.io.itk import read_itk

            volume_back = read_itk(written, allow_constant=True, digest=False).volume
    except InputError as error:
        raise OutputError(f"{target}: did not read back ({error.found}); disk full?") from error
    # Decoded with the header's float32 slope, so encoding with it is exact.
    back, affine = volume_back.storage.encode(volume_back.array), volume_back.affine
    wanted = writable_storage(volume.storage, scaled=nifti).encode(volume.array)
    if back.shape != wanted.shape or back.dtype != wanted.dtype:
        found = f"{back.shape} {back.dtype}"
        raise OutputError(f"{target}: read back as {found}, not {wanted.shape} {wanted.dtype}")
    off = float(np.abs(affine - volume.affine).max())
    if not off <= 1e-4 + 1e-7 * float(np.abs(volume.affine).max()):
        raise OutputError(f"{target}: its affine read back {off:.2g} mm off")
    different = int(np.count_nonzero(back != wanted))
    if different:
        raise OutputError(f"{target}: {different} of {back.size} voxels read back differently")
