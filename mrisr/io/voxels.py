"""The voxels behind a header of NIfTI, MetaImage or NRRD: all of them, intact, and nothing after them.

A written file is read back in the same way before it replaces anything.

The libraries are not asked for them. nibabel stops at the last voxel, so that it notices no bad checksum
and no cut end of a ``.nii.gz``, nor bytes after the voxels; SimpleITK returns memory that it never filled
where ``CompressedDataSize`` is wrong, and zeros for the voxels that a NIfTI lacks; pynrrd accepts a stream
that is cut before its checksum, and inflates without bounds.
"""

import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mrisr.core.errors import InputError, OutputError
from mrisr.core.volume import Storage, Volume
from mrisr.io.paths import ENDINGS, ending

_PADDING = 1 << 20  # zeros that are allowed after the voxels
_BLOCK = 1 << 20  # bytes that are read at a time, so that the voxels are held once


def read_voxels(
    stream: IO[bytes], shape: tuple[int, int, int], dtype: np.dtype, path: Path
) -> NDArray[np.generic]:
    """Stored numbers ``(i, j, k)`` in native byte order from here to the end of a stream.

    Raises:
        InputError: they are truncated, or followed by something other than a few zeros.
    """
    voxels, filled = np.empty(math.prod(shape) * dtype.itemsize, np.uint8), 0
    while block := stream.read(min(_BLOCK, voxels.size - filled)):
        voxels[filled : filled + len(block)] = np.frombuffer(block, np.uint8)
        filled += len(block)
    return _numbers(voxels, filled, stream.read(_PADDING + 1), shape, dtype, path)


def inflate_voxels(
    stream: IO[bytes], shape: tuple[int, int, int], dtype: np.dtype, path: Path, held: int | None
) -> NDArray[np.generic]:
    """The same from a zlib or gzip stream of ``held`` bytes, where that is known, with its checksum."""
    voxels, filled = np.empty(math.prod(shape) * dtype.itemsize, np.uint8), 0
    start = stream.tell()
    inflate = zlib.decompressobj(wbits=47)  # zlib or gzip, whichever the stream starts with
    try:
        while not inflate.eof and filled <= voxels.size:
            packed = inflate.unconsumed_tail or stream.read(_BLOCK)
            if not packed:
                raise zlib.error("ends early")
            block = np.frombuffer(inflate.decompress(packed, _BLOCK), np.uint8)
            voxels[filled : filled + len(block)] = block[: voxels.size - filled]
            filled += len(block)
    except zlib.error as error:
        found = f"damage or truncation ({error})"
        raise InputError(path, expected="whole compressed voxels", found=found) from error
    taken = stream.tell() - start - len(inflate.unused_data)
    if inflate.eof and held is not None and held != taken:
        found = f"{taken} bytes of compressed voxels"
        raise InputError(path, expected=f"CompressedDataSize {held}", found=found)
    rest = inflate.unused_data + stream.read(_PADDING + 1)
    return _numbers(voxels, filled, rest, shape, dtype, path)


def _numbers(
    voxels: NDArray[np.uint8],
    filled: int,
    rest: bytes,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    path: Path,
) -> NDArray[np.generic]:
    """The numbers in ``voxels``, native, if it is filled and the ``rest`` of the file is padding."""
    size = voxels.size
    if filled < size:
        found = f"{filled} (truncated)"
        raise InputError(path, expected=f"{size} bytes of voxels", found=found)
    if filled > size or len(rest) > _PADDING or rest.strip(b"\0"):
        found = "more bytes after them"  # the header's shape or dtype would be too small
        raise InputError(path, expected=f"{size} bytes of voxels by its header", found=found)
    numbers = voxels.view(dtype)
    if not dtype.isnative:
        numbers = numbers.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return numbers.reshape(shape, order="F")


def writable_storage(storage: Storage, *, scaled: bool) -> Storage:
    """The nearest storage of at most 64 bits; ``scaled``: in a format that keeps a slope, of float32."""
    dtype = storage.dtype.newbyteorder("=")
    if dtype == np.dtype(bool):
        return Storage(np.dtype(np.uint8))
    fits = (storage.slope, storage.intercept) == (1.0, 0.0)
    if scaled:
        with np.errstate(over="ignore", under="ignore"):
            slope, intercept = np.float32(storage.slope), np.float32(storage.intercept)
        fits = bool(np.isfinite(slope) and np.isfinite(intercept) and slope != 0)
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype == np.float16 or not fits:
        return Storage(np.dtype(np.float32))
    return Storage(dtype, storage.slope, storage.intercept)


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

            found = read_nifti(written, allow_constant=True, digest=False).volume
        else:
            from mrisr.io.itk import read_itk

            found = read_itk(written, allow_constant=True, digest=False).volume
    except InputError as error:
        raise OutputError(f"{target}: did not read back ({error.found}); disk full?") from error
    # Decoded with the header's float32 slope, so encoding with it is exact.
    back = found.storage.encode(found.array)
    wanted = writable_storage(volume.storage, scaled=nifti).encode(volume.array)
    if back.shape != wanted.shape or back.dtype != wanted.dtype:
        had, wants = f"{back.shape} {back.dtype}", f"{wanted.shape} {wanted.dtype}"
        raise OutputError(f"{target}: read back as {had}, not {wants}")
    off = float(np.abs(found.affine - volume.affine).max())
    if not off <= 1e-4 + 1e-7 * float(np.abs(volume.affine).max()):
        raise OutputError(f"{target}: its affine read back {off:.2g} mm off")
    different = int(np.count_nonzero(back != wanted))
    if different:
        raise OutputError(f"{target}: {different} of {back.size} voxels read back differently")
