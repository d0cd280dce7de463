"""Synthetic NIfTI, MetaImage and NRRD files, written byte by byte or by nibabel."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.reliability.truth import AFFINE, VOXELS

#: A field to write instead of the truth's, or None to leave it out.
Fields = dict[str, str | None]


def nifti(
    folder: Path,
    name: str = "t2w.nii",
    voxels: Any = VOXELS,
    *,
    affine: Any = AFFINE,
    kind: Any = nib.Nifti1Image,
    edit: Callable[[Any], None] | None = None,
    units: str = "mm",
    **header: object,
) -> Path:
    """A NIfTI with both forms set; ``header`` overwrites fields, ``edit`` changes nibabel's image."""
    image = kind(voxels, affine, dtype=voxels.dtype)  # nibabel asks for it where it is int64
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units(units)
    if edit is not None:
        edit(image)
    plain = image.to_bytes()
    size = image.header.sizeof_hdr
    block = type(image.header)(plain[:size], check=False)
    for key, value in header.items():
        block[key] = value
    plain = block.binaryblock + plain[size:]
    path = folder / name
    path.write_bytes(gzip.compress(plain, mtime=0) if name.endswith(".gz") else plain)
    return path


def repack(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """Replace a file's bytes by what ``change`` makes of them."""
    path.write_bytes(change(path.read_bytes()))
    return path


def meta(
    folder: Path,
    name: str = "t2w.mha",
    *,
    data: bytes | None = None,
    packed: bool = False,
    tail: bytes = b"",
    **changes: str | None,
) -> Path:
    """A MetaImage, its voxels inside (``.mha``) or in a file beside it (``.mhd``).

    Args:
        data: voxel bytes instead of the truth's.
        packed: compress them.
        tail: bytes after them.
        **changes: header fields to write otherwise, None to leave out.
    """
    voxels = VOXELS.tobytes(order="F") if data is None else data
    if packed:
        voxels = zlib.compress(voxels)
    inside = name.endswith(".mha")
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
    fields: Fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(packed),
        "CompressedDataSize": str(len(voxels)) if packed else None,
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": " ".join(str(v) for v in lps[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": " ".join(str(lps[i, i]) for i in range(3)),
        "DimSize": " ".join(map(str, VOXELS.shape)),
        "ElementType": "MET_USHORT",
        "ElementDataFile": "LOCAL" if inside else "t2w.raw",
    }
    last = fields.pop("ElementDataFile")
    fields |= changes
    fields["ElementDataFile"] = fields.pop("ElementDataFile", last)
    header = "".join(f"{k} = {v}\n" for k, v in fields.items() if v is not None).encode()
    path = folder / name
    path.write_bytes(header + voxels + tail if inside else header)
    if not inside:
        (folder / "t2w.raw").write_bytes(voxels + tail)
    return path


def nrrd(
    folder: Path,
    name: str = "t2w.nrrd",
    *,
    data: bytes | None = None,
    packed: bool = False,
    changes: Fields | None = None,
) -> Path:
    """An NRRD with its voxels inside; ``changes`` as in ``meta``."""
    voxels = VOXELS.tobytes(order="F") if data is None else data
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
    fields: Fields = {
        "type": "uint16",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, VOXELS.shape)),
        "space directions": " ".join(_vector(lps[:3, i]) for i in range(3)),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip" if packed else "raw",
        "space origin": _vector(lps[:3, 3]),
    }
    fields |= changes or {}
    header = "".join(f"{k}: {v}\n" for k, v in fields.items() if v is not None)
    body = gzip.compress(voxels, mtime=0) if packed else voxels
    path = folder / name
    path.write_bytes(b"NRRD0004\n" + header.encode() + b"\n" + body)
    return path


def nifti_claim(shape: tuple[int, ...], datatype: int, bits: int) -> bytes:
    """The first 352 bytes of a NIfTI that claims to be larger than it is."""
    header = nib.Nifti1Header()
    header.set_sform(AFFINE, code=1)
    header.set_xyzt_units("mm")
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    header["datatype"], header["bitpix"], header["vox_offset"] = datatype, bits, 352
    header["pixdim"][1:4] = 1
    return header.binaryblock + struct.pack("4x")


def zeros_gzip(size: int) -> bytes:
    """A gzip file of ``size`` zeros, a multiple of 16 MiB, in a thousandth of that."""
    return gzip.compress(bytes(1 << 24), 9, mtime=0) * (size >> 24)


def zeros_zlib(size: int) -> bytes:
    """The same as a zlib stream."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = ((size % 65521) << 16) | 1  # Adler-32 of zeros
    return b"\x78\xda" + block * (size >> 24) + b"\x03\0" + checksum.to_bytes(4, "big")


def _vector(v: Any) -> str:
    return "(" + ",".join(str(float(x)) for x in v) + ")"
