"""NIfTI-1 and NIfTI-2 single files, in and out.

nibabel parses and builds the headers. The voxels are read by :mod:`mrisr.io.voxels`, and written here, so
that the stored numbers, slope and intercept are exactly those of the source.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

import nibabel as nib
import numpy as np

from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import checks, nifti_header, voxels
from mrisr.io.digest import file_sha256
from mrisr.io.voxels import writable_storage


@np.errstate(all="ignore")  # what overflows is counted and refused by the checks
def read_nifti(
    path: Path,
    *,
    affine: Literal["sform", "qform"] | None = None,
    max_voxels: int = 2**31,
    allow_constant: bool = False,
    digest: bool = True,
) -> VolumeFile:
    """Read ``.nii`` or ``.nii.gz`` in its stored dtype, with every byte and checksum verified.

    Args:
        path: the file.
        affine: which form to use where sform and qform disagree.
        max_voxels: a header that claims more is refused before anything is inflated.
        allow_constant: accept a volume whose voxels are all equal (an empty mask).
        digest: compute the SHA-256 of the file.

    Raises:
        InputError: for everything that cannot be trusted; see the reliability table in the docs.
    """
    with _decoding(path), _open(path) as stream:
        header = nifti_header.parse(stream.read(540), path)
        shape = nifti_header.volume_shape(header, path, max_voxels)
        dtype = nifti_header.stored_dtype(header, path)
        offset = nifti_header.data_offset(header, path)
        claimed = offset + voxels.byte_count(shape, dtype)
        voxels.check_room(path.stat().st_size, claimed, path, packed=_is_gzip(path))
        grid, notes = nifti_header.volume_affine(header, shape, path, affine)
        stream.seek(offset)
        stored = voxels.read_voxels(stream, shape, dtype, path)
    storage = nifti_header.scaling(header, path)
    array = storage.decode(stored)
    checks.check_values(array, path, allow_constant=allow_constant)
    volume = Volume(array, grid, storage=storage, name=str(path))
    return VolumeFile(volume, path, file_sha256(path) if digest else None, notes)


def write_nifti(volume: Volume, path: Path, description: str = "") -> None:
    """Write a ``.nii`` at ``path`` (no atomic step here; ``write_volume`` adds it).

    Keeps the storage dtype, slope and intercept; sform and qform carry the same affine with code 1;
    units are mm; ``descrip`` holds the first 79 bytes of ``description``. Nothing else is set.
    """
    with path.open("wb") as out:
        _write(volume, out, description)


def nifti_gz_bytes(volume: Volume, description: str = "") -> bytes:
    """A ``.nii.gz``, whose size is known only when it is made."""
    made = io.BytesIO()
    # On images, level 6 makes files 2% smaller and takes three times as long.
    # No name and no time in the gzip header: equal volumes give equal files.
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=made, mtime=0) as packed:
        _write(volume, cast(IO[bytes], packed), description)
    return made.getvalue()


def _write(volume: Volume, out: IO[bytes], description: str) -> None:
    storage = writable_storage(volume.storage, scaled=True)
    stored = storage.encode(volume.array)
    header = nifti_header.build(volume.shape, volume.affine, storage, description)
    out.write(header.binaryblock)
    out.write(b"\0\0\0\0")  # no extensions
    for k in range(stored.shape[2]):
        out.write(stored[:, :, k].tobytes(order="F"))


def from_image(
    image: nib.spatialimages.SpatialImage, *, allow_constant: bool = False
) -> VolumeFile:
    """A nibabel image as a volume with notes; the same rules as for a file. Raises InputError."""
    source = f"in-memory {type(image).__name__}"
    shape = checks.check_axes(image.shape, source)
    notes: tuple[str, ...] = ()
    if isinstance(image.header, nib.Nifti1Header):
        grid, notes = nifti_header.volume_affine(image.header, shape, source, None)
    else:
        grid = np.asarray(image.affine, dtype=np.float64)
    proxy = image.dataobj
    if isinstance(proxy, nib.arrayproxy.ArrayProxy):
        stored = np.asarray(proxy.get_unscaled())
        storage = Storage(stored.dtype.newbyteorder("="), float(proxy.slope), float(proxy.inter))
    else:
        stored = np.asarray(proxy)
        storage = Storage(stored.dtype.newbyteorder("="))
    nifti_header.check_scalar(stored.dtype, source)
    stored = stored.astype(storage.dtype, copy=False).reshape(shape)
    array = storage.decode(stored)
    checks.check_volume(array, grid, source, allow_constant=allow_constant)
    return VolumeFile(Volume(array, grid, storage=storage, name=source), notes=notes)


def to_image(
    volume: Volume, original: nib.spatialimages.SpatialImage
) -> nib.spatialimages.SpatialImage:
    """A Volume as a nibabel image of the original's class, in mm, sform and qform set."""
    storage = writable_storage(volume.storage, scaled=False)
    image = type(original)(storage.encode(volume.array), volume.affine)
    if isinstance(image.header, nib.Nifti1Header):
        nifti_header.set_grid(image.header, volume.shape, volume.affine)
    return image


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into an InputError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            path, expected="a whole gzip file", found=f"damage or truncation ({reason})"
        ) from error
    except OSError as error:
        raise InputError(
            path, expected="a readable file", found=error.strerror or str(error)
        ) from error


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if _is_gzip(path) else path.open("rb")
