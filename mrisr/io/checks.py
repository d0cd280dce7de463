"""Checks of every reader, whatever the format; each refusal is an InputError."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, one_line

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


def check_volume(
    array: NDArray[np.generic],
    affine: geometry.Affine,
    source: Source,
    *,
    allow_constant: bool = False,
) -> None:
    """``check_affine`` and ``check_values`` in one call."""
    check_affine(affine, source)
    check_values(array, source, allow_constant=allow_constant)


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(int(n)) for n in shape)
