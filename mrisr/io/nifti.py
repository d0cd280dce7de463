"""NIfTI-1 and NIfTI-2 single files, in and out.

nibabel parses and builds the headers. The voxels are read by :mod:`mrisr.io.checks`, and written here, so
that the stored numbers, slope and intercept are exactly those of the source.
"""

import gzip
import io
import math
import os
import zlib
from itertools import product
from pathlib import Path
from typing import IO, Literal, TypeAlias, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import checks
from mrisr.io.checks import Source, writable_storage
from mrisr.io.files import sha256

Header: TypeAlias = nib.Nifti1Header  # nib.Nifti2Header is a subclass

#: Largest distance in mm between sform and qform, at the corners of the volume, that is rounding.
MAX_FORM_DISTANCE = 0.1
_MAX_OFFSET = 1 << 26
#: Code of a unit -> its mm, and its name where that is not mm.
_UNITS = {0: (1.0, ""), 1: (1000.0, "metre"), 2: (1.0, ""), 3: (0.001, "micron")}


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
        affine, max_voxels, allow_constant: as in ``mrisr.io.read_file``.
        digest: False leaves the SHA-256 out.

    Raises:
        InputError: for everything that cannot be trusted; see the reliability table in the docs.
    """
    with checks.readable(path), path.open("rb") as file:
        try:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
            header = _parse(stream.read(540), path)
            shape, dtype, offset = _layout(header, path, max_voxels)
            claimed = offset + math.prod(shape) * dtype.itemsize
            checks.check_room(os.fstat(file.fileno()).st_size, claimed, path, packed=packed)
            grid, notes = _volume_affine(header, shape, path, affine)
            stream.seek(offset)
            stored = checks.read_voxels(stream, shape, dtype, path)
            digested = sha256(file) if digest else None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            found = f"damage or truncation ({str(error) or type(error).__name__})"
            raise InputError(path, expected="a whole gzip file", found=found) from error
    storage = _scaling(header, path)
    array = storage.decode(stored)
    checks.check_values(array, path, allow_constant=allow_constant)
    volume = Volume(array, grid, storage=storage, name=str(path))
    return VolumeFile(volume, path, digested, notes)


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
    header: Header = nib.Nifti2Header() if max(volume.shape) > 32767 else nib.Nifti1Header()
    header.set_data_dtype(storage.dtype)
    header.set_data_shape(volume.shape)
    header["scl_slope"], header["scl_inter"] = storage.slope, storage.intercept
    header["vox_offset"] = header.sizeof_hdr + 4
    header["descrip"] = description.encode()[:79].decode(errors="ignore").encode()
    _set_grid(header, volume.shape, volume.affine)
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
        grid, notes = _volume_affine(image.header, shape, source, None)
    else:
        grid = np.asarray(image.affine, dtype=np.float64)
    proxy = image.dataobj
    if isinstance(proxy, nib.arrayproxy.ArrayProxy):
        stored = np.asarray(proxy.get_unscaled())
        storage = Storage(stored.dtype.newbyteorder("="), float(proxy.slope), float(proxy.inter))
    else:
        stored = np.asarray(proxy)
        storage = Storage(stored.dtype.newbyteorder("="))
    _check_scalar(stored.dtype, source)
    stored = stored.astype(storage.dtype, copy=False).reshape(shape)
    array = storage.decode(stored)
    checks.check_affine(grid, source)
    checks.check_values(array, source, allow_constant=allow_constant)
    return VolumeFile(Volume(array, grid, storage=storage, name=source), notes=notes)


def to_image(
    volume: Volume, original: nib.spatialimages.SpatialImage
) -> nib.spatialimages.SpatialImage:
    """A Volume as a nibabel image of the original's class, in mm, sform and qform set."""
    storage = writable_storage(volume.storage, scaled=False)
    image = type(original)(storage.encode(volume.array), volume.affine)
    if isinstance(image.header, nib.Nifti1Header):
        _set_grid(image.header, volume.shape, volume.affine)
    return image


def _parse(block: bytes, source: Source) -> Header:
    """The header in the first 348 (NIfTI-1) or 540 (NIfTI-2) bytes, either byte order."""
    if not block:
        raise InputError(source, expected="a NIfTI file", found="an empty file")
    sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")}
    header: Header
    if 348 in sizes and len(block) >= 348:
        header, magic = nib.Nifti1Header(block[:348], check=False), b"n+1"
    elif 540 in sizes and len(block) >= 540:
        header, magic = nib.Nifti2Header(block[:540], check=False), b"n+2"
    else:
        found = "something else, or a truncated one"
        raise InputError(source, expected="a NIfTI header", found=found)
    if not bytes(header["magic"]).startswith(magic):
        found = f"magic {bytes(header['magic'])!r}"
        raise InputError(source, expected="a single-file NIfTI (magic n+1 or n+2)", found=found)
    return header


def _layout(
    header: Header, source: Source, max_voxels: int
) -> tuple[tuple[int, int, int], np.dtype, int]:
    """Shape ``(i, j, k)``, stored dtype in the file's byte order, and bytes before the first voxel."""
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7:
        raise InputError(source, expected="dim[0] from 1 to 7", found=str(dim[0]))
    checks.check_size(dim[1 : 1 + dim[0]], source, max_voxels)
    shape = checks.check_axes(dim[1 : 1 + dim[0]], source)
    try:
        dtype: np.dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        found = f"code {int(header['datatype'])}"
        raise InputError(source, expected="a known NIfTI datatype", found=found) from error
    _check_scalar(dtype, source)
    least = header.sizeof_hdr + 4
    offset = float(header["vox_offset"]) or float(least)
    if not (np.isfinite(offset) and least <= offset <= _MAX_OFFSET and offset.is_integer()):
        raise InputError(source, expected=f"a vox_offset of {least} or more", found=f"{offset!r}")
    return shape, dtype, int(offset)


def _check_scalar(dtype: np.dtype, source: Source) -> None:
    """Refuse what is not one integer or one float of at most 64 bits for each voxel."""
    if dtype.names is not None or dtype.kind == "c":
        found = f"{'complex numbers' if dtype.names is None else 'RGB colour'} ({dtype})"
        raise InputError(source, expected="one real number in each voxel", found=found)
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        expected = "integers or floats of at most 64 bits"
        raise InputError(source, expected=expected, found=f"datatype {dtype}")


def _scaling(header: Header, source: Source) -> Storage:
    """dtype, slope and intercept; a slope of 0 or NaN means that there is no scaling."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isnan(slope) or slope == 0.0:
        slope, intercept = 1.0, 0.0
    intercept = 0.0 if np.isnan(intercept) else intercept
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        found = f"scl_slope {slope}, scl_inter {intercept}"
        raise InputError(source, expected="a finite slope and intercept", found=found)
    return Storage(header.get_data_dtype().newbyteorder("="), slope, intercept)


def _volume_affine(
    header: Header,
    shape: tuple[int, int, int],
    source: Source,
    choice: Literal["sform", "qform"] | None,
) -> tuple[geometry.Affine, tuple[str, ...]]:
    """Affine in mm RAS, and the notes that choosing it left."""
    pixdim = np.asarray(header["pixdim"], dtype=np.float64)[1:4]
    if not np.all(np.isfinite(pixdim) & (pixdim > 0)):
        found = " x ".join(f"{p:g}" for p in pixdim)
        raise InputError(source, expected="a pixdim above zero along each axis", found=found)
    unit = int(header["xyzt_units"]) & 7
    if unit not in _UNITS:
        raise InputError(source, expected="xyzt_units in metre, mm or micron", found=f"code {unit}")
    factor, name = _UNITS[unit]
    notes: tuple[str, ...] = (f"converted from {name} to mm",) if name else ()
    forms = {
        name: _form(header, name, source, factor)
        for name in ("sform", "qform")
        if int(header[f"{name}_code"]) > 0 and choice in (None, name)
    }
    if not forms:
        wanted = f"the {choice}" if choice else "an sform or a qform"
        raise InputError(source, expected=f"{wanted} to be set", found="code 0")
    for name, form in forms.items():
        checks.check_affine(form, source, name)
    affine, *others = forms.values()
    for other in others:
        apart = _corner_distance(affine, other, shape)
        if not apart <= MAX_FORM_DISTANCE:
            expected = f"sform and qform within {MAX_FORM_DISTANCE:g} mm of each other"
            found = f"sform ({_brief(affine)}) and qform ({_brief(other)}) {apart:.2f} mm apart; "
            found += "--affine sform or --affine qform chooses"
            raise InputError(source, expected=expected, found=found)
    if choice is not None:
        notes += (f"{choice} used, as asked for",)
    return affine, notes


def _set_grid(header: Header, shape: tuple[int, int, int], affine: geometry.Affine) -> None:
    """Set units and both forms, code 1 (scanner).

    A qform cannot hold shear. Where that would part the two forms by half of what readers
    tolerate, the qform stays unset and the sform alone speaks.
    """
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    if _corner_distance(header.get_qform(), affine, shape) > MAX_FORM_DISTANCE / 2:
        header["qform_code"] = 0


def _form(header: Header, name: str, source: Source, factor: float) -> geometry.Affine:
    try:
        affine = header.get_sform() if name == "sform" else header.get_qform()
    except (ValueError, HeaderDataError) as error:
        raise InputError(source, expected=f"a valid {name}", found=str(error)) from error
    return np.diag([factor, factor, factor, 1.0]) @ np.asarray(affine, dtype=np.float64)


def _corner_distance(a: geometry.Affine, b: geometry.Affine, shape: tuple[int, int, int]) -> float:
    corners = np.array([(*c, 1) for c in product(*((0, n - 1) for n in shape))], dtype=np.float64)
    return float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max())


def _brief(affine: geometry.Affine) -> str:
    origin = ", ".join(f"{v:.2f}" for v in affine[:3, 3])
    return f"{geometry.axis_codes(affine)}, origin {origin}"
