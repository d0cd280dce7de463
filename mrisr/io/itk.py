"""MetaImage (``.mha``, ``.mhd``) and NRRD files, and SimpleITK images in memory.

ITK's world is LPS and its arrays are ``(z, y, x)``; both are turned here, so that a Volume is
``(i, j, k)`` in ITK's x, y, z order with an affine in RAS.
"""

from __future__ import annotations

import gzip
import math
import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, OutputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import checks, files, metaheader
from mrisr.io.atomic import as_output_error, ready_to_write
from mrisr.io.paths import ending

if TYPE_CHECKING:
    import SimpleITK as sitk

#: Noise packs little better at higher levels, which take several times as long.
_LEVEL = 3
#: Names of the stored types, the first of each.
_META = {code: name for name, code in reversed(metaheader.META_TYPES.items())}
_NRRD = {code: name for name, code in reversed(metaheader.NRRD_TYPES.items())}


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
        opened = [stack.enter_context(path.open("rb"))]
        read_layout = metaheader.meta_layout if meta else metaheader.nrrd_layout
        layout = read_layout(opened[0], path, max_voxels)
        checks.check_affine(layout.affine, path)
        if layout.data != path:
            opened.append(stack.enter_context(layout.data.open("rb")))
        data, held = opened[-1], os.fstat(opened[-1].fileno()).st_size - layout.start
        claimed = math.prod(layout.shape) * layout.dtype.itemsize
        checks.check_room(held, claimed, path, packed=layout.packed)
        data.seek(layout.start)
        of = layout.shape, layout.dtype, path
        if layout.packed:
            array = checks.inflate_voxels(data, *of, layout.held)
        else:
            array = checks.read_voxels(data, *of)
        digested = files.sha256(*opened) if digest else None
    checks.check_values(array, path, allow_constant=allow_constant)
    volume = Volume(array, layout.affine, storage=Storage(array.dtype), name=str(path))
    return VolumeFile(volume, path, digested)


def _stored_numbers(volume: Volume) -> NDArray[np.generic]:
    """Voxels, little-endian; a storage with a slope becomes float32."""
    storage = checks.writable_storage(volume.storage, scaled=False)
    stored = storage.encode(volume.array)
    return stored.astype(stored.dtype.newbyteorder("<"), copy=False)


def mha_bytes(volume: Volume) -> bytes:
    """A compressed ``.mha``."""
    stored = _stored_numbers(volume)
    packed = zlib.compress(stored.tobytes(order="F"), _LEVEL)
    size = {"CompressedDataSize": str(len(packed))}
    return _meta_header(volume, stored.dtype, "LOCAL", size).encode() + packed


def nrrd_bytes(volume: Volume) -> bytes:
    """A compressed ``.nrrd``."""
    stored = _stored_numbers(volume)
    packed = gzip.compress(stored.tobytes(order="F"), _LEVEL, mtime=0)
    lps = geometry.LPS_TO_RAS @ volume.affine
    fields = {
        "type": _NRRD[stored.dtype.str[1:]],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(str(n) for n in volume.shape),
        "space directions": " ".join(f"({_numbers(v, ',')})" for v in lps[:3, :3].T),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip",
        "space origin": f"({_numbers(lps[:3, 3], ',')})",
    }
    header = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"NRRD0004\n{header}\n".encode() + packed


def _meta_header(
    volume: Volume, dtype: np.dtype, data: str, compressed: Mapping[str, str] | None = None
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
        "ElementDataFile": data,
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


def _numbers(values: NDArray[np.float64], separator: str = " ") -> str:
    return separator.join(repr(float(v)) for v in values)


def save_mhd(volume: Volume, path: Path, *, force: bool = False) -> None:
    """Write ``path`` and ``<stem>.raw`` beside it; raises OutputError.

    No system renames two files in one step, so the header decides. The new voxels are on the disk
    under a temporary name when the new header, which names them there, replaces the old one: from
    then on the new pair counts. Then the voxels take their final name, and a second header says so.
    A kill at any moment leaves the old pair or the new one; the next writing tidies the names.
    """
    from mrisr.io import verify

    stored = _stored_numbers(volume)
    raw = path.with_suffix(".raw")
    with as_output_error(path, stored.nbytes):
        with files.locked(path.parent):
            _tidy(path, raw)
            files.remove_stale(path)
            part = ready_to_write(raw, stored.nbytes)
        first, last = files.temporary_path(path), files.temporary_path(path)
        try:
            part.write_bytes(stored.tobytes(order="F"))
            first.write_text(_meta_header(volume, stored.dtype, part.name))
            last.write_text(_meta_header(volume, stored.dtype, raw.name))
            for file in (part, first, last):
                files.flush(file)
            verify(first, volume, path)
            with files.locked(path.parent):
                for file in () if force else (path, raw):
                    if os.path.lexists(file):
                        raise OutputError(f"{file}: exists already (--force replaces)")
                files.move_file(first, path, overwrite=force)
                files.flush_folder(path.parent)
                with suppress(OSError):  # it counts already; the next writing tries again
                    _settle(path, raw, part, last)
        finally:
            if metaheader.data_file(path) != part:
                files.remove(part)
            files.remove(first)
            files.remove(last)


def _settle(path: Path, raw: Path, part: Path, header: Path) -> None:
    """Give the voxels in ``part`` their final name and the header that says so; both names hold meanwhile."""
    copy = files.temporary_path(raw)
    try:
        try:
            os.link(part, copy)
        except OSError:  # file systems without hard links
            shutil.copyfile(part, copy)
            files.flush(copy)
        os.replace(copy, raw)
    finally:
        files.remove(copy)
    files.flush_folder(path.parent)
    os.replace(header, path)
    files.flush_folder(path.parent)
    files.remove(part)


def _tidy(path: Path, raw: Path) -> None:
    """Finish what a killed run began: its header names voxels that still have their temporary name."""
    part = metaheader.data_file(path)
    if part is None or not files.is_temporary(part, raw) or not part.is_file():
        return
    header = files.temporary_path(path)
    try:
        header.write_bytes(path.read_bytes().replace(part.name.encode(), raw.name.encode()))
        files.flush(header)
        _settle(path, raw, part, header)
    finally:
        files.remove(header)


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
    checks.check_affine(grid, source)
    checks.check_values(array, source, allow_constant=allow_constant)
    return VolumeFile(Volume(array, grid, storage=Storage(array.dtype), name=source))


def to_image(volume: Volume, original: sitk.Image | None = None) -> sitk.Image:
    """A Volume as a SimpleITK image with the same voxels in the same world positions."""
    import SimpleITK as sitk

    stored = checks.writable_storage(volume.storage, scaled=False).encode(volume.array)
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.transpose(2, 1, 0)))
    lps = geometry.LPS_TO_RAS @ volume.affine
    image.SetSpacing([float(s) for s in geometry.spacing(lps)])
    image.SetDirection([float(d) for d in geometry.directions(lps).ravel()])
    image.SetOrigin([float(p) for p in lps[:3, 3]])
    return image
