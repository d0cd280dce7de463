"""Synthetic NIfTI, MetaImage and NRRD files, written byte by byte or by nibabel."""

import gzip
import struct
import zlib
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import nibabel as nib
import numpy as np

COLUMNS, ROWS, SLICES = 16, 12, 5
#: mm between columns, between rows, between slices.
SPACING = (0.7, 0.5, 3.0)
#: The stored numbers of every clean file ``(columns, rows, slices)``: 12 bits in 16, noise on a ramp.
VOXELS = (
    np.random.default_rng(5).integers(0, 2000, (COLUMNS, ROWS, SLICES))
    + 100 * np.arange(COLUMNS)[:, None, None]
).astype(np.uint16)
#: Its voxel indices to mm, RAS: an axial stack, read from left to right and from front to back.
AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
AFFINE[:3, 3] = [10.5, 20.25, -6.0]

#: Makes an input in an empty folder and returns its path.
Make = Callable[[Path], Path]
#: A field to write instead of the truth's, or None to leave it out.
Fields = dict[str, str | None]
#: Changes the bytes of a file.
Change = Callable[[bytes], bytes]
#: Shares of a file that are kept; -8 takes eight bytes off.
SHARES = {"0": 0.0, "1%": 0.01, "25%": 0.25, "50%": 0.5, "99%": 0.99, "less 8 bytes": -8.0}


_Last = TypeVar("_Last")
_Rest = ParamSpec("_Rest")
_Made = TypeVar("_Made")


def late(
    function: Callable[Concatenate[_Last, _Rest], _Made],
) -> Callable[_Rest, Callable[[_Last], _Made]]:
    """Has a function take its first argument, mostly a folder, after the others: ``f(a)(folder)``."""

    @wraps(function)
    def first(*arguments: _Rest.args, **more: _Rest.kwargs) -> Callable[[_Last], _Made]:
        return lambda last: function(last, *arguments, **more)

    return first


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


def repack(path: Path, change: Change) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


@late
def damaged(folder: Path, make: Make, change: Change, name: str = "") -> Path:
    """Makes an input and changes the bytes of its file, or of the one called ``name`` in or beside it."""
    path = make(folder)
    beside = path if path.is_dir() else path.parent
    repack(beside / name if name else path, change)
    return path


def cut(share: float) -> Change:
    """Keeps a share of the bytes, or takes some off the end where it is negative."""
    return lambda data: data[: int(len(data) * share) if share >= 0 else int(share)]


def cuts(make: Make, name: str = "") -> dict[str, Make]:
    return {title: damaged(make, cut(share), name) for title, share in SHARES.items()}


@late
def flip(data: bytes, position: float) -> bytes:
    """Turns one bit over: a share of the way into what is compressed, or counted from the end."""
    start = max(data.find(b"\x78\x9c"), data.find(b"\x1f\x8b\x08"), 0)
    at = start + int((len(data) - start - 1) * position)
    at = at if position >= 0 else len(data) + int(position)
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def flips(make: Make, name: str = "") -> dict[str, Make]:
    shares = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    return {f"at {p:.0%}": damaged(make, flip(p), name) for p in shares}


@late
def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


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
    **changes: str | None,
) -> Path:
    """An NRRD with its voxels inside; ``changes`` as in ``meta``, with ``_`` for a space."""
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
    fields |= {key.replace("_", " "): value for key, value in changes.items()}
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
