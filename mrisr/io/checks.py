"""Checks of every reader, whatever the format, each refusal an InputError; and the voxels behind a header.

Of NIfTI, MetaImage and NRRD all voxels are read, intact, and nothing after them.

The libraries are not asked for them. nibabel stops at the last voxel, so that it notices no bad checksum
and no cut end of a ``.nii.gz``, nor bytes after the voxels; SimpleITK returns memory that it never filled
where ``CompressedDataSize`` is wrong, and zeros for the voxels that a NIfTI lacks; pynrrd accepts a stream
that is cut before its checksum, and inflates without bounds.
"""

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, OutputError, one_line
from mrisr.core.volume import Storage, Volume

#: Largest absolute cosine between two array axes that still counts as a right angle.
MAX_SHEAR = 1e-3
#: Smallest believable distance between voxel centres, in mm.
MIN_SPACING = 1e-4
#: No voxel is further from the next, or from the scanner's centre, than a kilometre, in mm.
MAX_LENGTH = 1e6
#: What networks and operators, which compute in single precision, take as values and as contrast.
MAX_VALUE, MIN_RANGE, MIN_RELATIVE_RANGE = 1e37, 1e-30, 2.0**-12
#: Deflate cannot shrink data by more than this factor.
_DEFLATE_LIMIT = 1032
#: Above this size, data that inflate by more than this factor are refused.
BOMB_BYTES, BOMB_RATIO = 1 << 28, 200
_PADDING = 1 << 20  # zeros that are allowed after the voxels
_BLOCK = 1 << 20  # bytes that are read at a time, so that the voxels are held once

Source = str | PathLike[str]


@contextmanager
def readable(source: Source, expected: str = "a readable file") -> Iterator[None]:
    """Turn what the system says of a path that it does not read into an InputError."""
    try:
        yield
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(source, expected=expected, found=found) from error


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON file that holds an object, ``what`` for the message.

    Raises InputError where it cannot be read, is no JSON or holds something else.
    """
    try:
        with readable(path, what):
            found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(path, expected=what, found=one_line(error)[:300]) from error
    if not isinstance(found, dict):
        raise InputError(path, expected=what, found=type(found).__name__)
    return found


def check_size(shape: Sequence[int], source: Source, max_voxels: int) -> None:
    """Refuse an empty grid, or one of more than ``max_voxels`` voxels, before memory is taken."""
    if any(n < 1 for n in shape):
        raise InputError(source, expected="at least one voxel along each axis", found=_by(shape))
    voxels = math.prod(int(n) for n in shape)
    if voxels > max_voxels:
        found = f"a header that claims {_by(shape)} = {voxels}"
        expected = f"at most {max_voxels} voxels (--max-voxels)"
        raise InputError(source, expected=expected, found=found)


def check_room(held: int, claimed: int, source: Source, *, packed: bool) -> None:
    """Refuse a file of too few bytes for what its header claims, before memory is taken.

    ``packed`` bytes are deflate; if they are many, they may not be packed too well either.
    """
    if not packed and held < claimed:
        found = f"{max(held, 0)} (truncated)"
        raise InputError(source, expected=f"{claimed} bytes by its header", found=found)
    if packed and claimed > max(held, 0) * _DEFLATE_LIMIT:
        expected = f"compressed data that can hold the {claimed} bytes the header claims"
        raise InputError(source, expected=expected, found=f"{max(held, 0)} bytes")
    if packed and claimed > BOMB_BYTES and claimed > held * BOMB_RATIO:
        expected = f"a compression of at most {BOMB_RATIO}:1 in a file this large"
        found = f"{held} bytes that claim to inflate to {claimed} (--max-voxels bounds them)"
        raise InputError(source, expected=expected, found=found)


def check_axes(shape: Sequence[int], source: Source) -> tuple[int, int, int]:
    """The 3-D shape behind ``shape``: later axes must have length 1, missing ones count as 1."""
    for axis, n in enumerate(shape):
        if axis >= 3 and n != 1:
            found = f"{n} entries along axis {axis + 1} (shape {_by(shape)})"
            raise InputError(source, expected="one scalar 3-D volume", found=found)
    i, j, k = [*shape[:3], 1, 1, 1][:3]
    return int(i), int(j), int(k)


def check_affine(affine: geometry.Affine, source: Source, what: str = "affine") -> None:
    """Refuse an affine ``(4, 4)`` in mm that is not finite, leads out of scanners, has no spacing, or shears.

    ``what`` says where it came from, such as ``"sform"``.
    """
    if not np.all(np.isfinite(affine)):
        raise InputError(source, expected=f"a finite {what}", found="NaN or infinity in it")
    if np.abs(affine).max() > MAX_LENGTH:
        found = f"{np.abs(affine).max():g}"
        raise InputError(source, expected=f"at most {MAX_LENGTH:g} mm in the {what}", found=found)
    steps = geometry.spacing(affine)
    if steps.min() < MIN_SPACING:
        found = f"spacing {' x '.join(f'{s:g}' for s in steps)} mm from its {what}"
        raise InputError(source, expected="a spacing above zero along each axis", found=found)
    axes = geometry.directions(affine)
    shear = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if shear > MAX_SHEAR:
        angle = np.degrees(np.arcsin(min(shear, 1.0)))
        expected = f"array axes at right angles (cosine up to {MAX_SHEAR:g})"
        found = f"a {what} sheared by {angle:.2f} degrees (cosine {shear:.4f})"
        raise InputError(source, expected=expected, found=found)


def check_values(
    array: NDArray[np.generic], source: Source, *, allow_constant: bool = False
) -> None:
    """Refuse NaN and infinite voxels (with their count) and, unless allowed, a constant volume or one
    whose values single precision cannot tell apart."""
    if np.issubdtype(array.dtype, np.floating):
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            found = f"{bad} NaN or infinite of {array.size}"
            raise InputError(source, expected="finite voxels", found=found)
    if allow_constant:
        return
    low, high = array.min(), array.max()
    if low == high:
        found = f"a constant volume ({array.size} voxels equal to {low})"
        raise InputError(source, expected="voxels that differ", found=found)
    low, high = float(low), float(high)
    largest = max(abs(low), abs(high))
    if largest > MAX_VALUE or high - low < max(MIN_RANGE, largest * MIN_RELATIVE_RANGE):
        expected = "values that single precision holds and tells apart"
        found = f"voxels from {low:.10g} to {high:.10g}"
        raise InputError(source, expected=expected, found=found)


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(int(n)) for n in shape)


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
