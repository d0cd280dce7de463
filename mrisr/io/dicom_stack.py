"""Stacks of DICOM frames: positions decide, never numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.io.checks import MAX_SHEAR, Source
from mrisr.io.dicom_frames import CONTRASTS, COUNTING, LABELS, Frame

#: Slice gaps may differ from their median by this fraction (the rule of highdicom).
GAP_TOLERANCE = 0.01
_ANGLE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Stack:
    """A regular stack of frames."""

    frames: tuple[Frame, ...]  #: in the order of the array's last axis
    affine: geometry.Affine  #: in mm RAS
    notes: tuple[str, ...]


def stack_frames(frames: Sequence[Frame], source: Source, frame: int | None = None) -> Stack:
    """Sort one volume's frames along their normal and check that they form a regular grid.

    Array axes are (column index, row index, slice); slices run along the cross product of the row
    and column directions, so an axial stack reads L, P, S.

    Args:
        frames: of one series, in any order.
        frame: which volume, from 1, where the series holds several.

    Raises:
        InputError: mixed orientation, matrix, spacing or contrast, several volumes, a position twice, a
            missing slice, gaps that differ by more than 1%, a tilted gantry, or a single slice of
            unknown thickness.
    """
    _check_uniform(frames, source)
    normal = np.cross(frames[0].along_row, frames[0].along_column)
    frames = _one_volume(frames, normal, source, frame)
    ordered = sorted(frames, key=lambda f: float(f.position @ normal))
    step, notes = _step(ordered, normal, source)
    first = ordered[0]
    lps = np.eye(4)
    lps[:3, 0] = first.along_row * first.pixel_spacing[1]
    lps[:3, 1] = first.along_column * first.pixel_spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return Stack(tuple(ordered), geometry.LPS_TO_RAS @ lps, notes)


def _check_uniform(frames: Sequence[Frame], source: Source) -> None:
    first = frames[0]
    for f in frames:
        turned = np.abs([f.along_row - first.along_row, f.along_column - first.along_column])
        if turned.max() > _ANGLE_TOLERANCE:
            normals = [np.abs(np.cross(g.along_row, g.along_column)) for g in frames]
            planes = sorted({geometry.PLANES[int(n.argmax())] for n in normals})
            found = f"slices at an angle to each other ({', '.join(planes)})"
            raise InputError(source, expected="one orientation in the series", found=found)
        if f.size != first.size:
            found = f"{first.size[0]}x{first.size[1]} and {f.size[0]}x{f.size[1]} ({f.path.name})"
            raise InputError(source, expected="one matrix in the series", found=found)
        if not np.allclose(f.pixel_spacing, first.pixel_spacing, rtol=1e-4, atol=0):
            found = f"{first.pixel_spacing} and {f.pixel_spacing} mm ({f.path.name})"
            raise InputError(source, expected="one PixelSpacing in the series", found=found)


def _one_volume(
    frames: Sequence[Frame], normal: NDArray[np.float64], source: Source, frame: int | None
) -> list[Frame]:
    """The frames of the volume asked for; a series of one contrast with each position once is one volume."""
    mixed = _contrasts(frames)
    if not mixed and not _repeats(frames, normal):
        if frame not in (None, 1):
            found = f"frame {frame} asked for"
            raise InputError(source, expected="frame 1, as there is one volume", found=found)
        return list(frames)
    key, volumes = _split(frames, normal, source)
    if not volumes and mixed:
        key, values = next(iter(mixed.items()))
        expected = f"one {key} in the slices of a volume, or a regular stack of each"
        raise InputError(source, expected=expected, found=_listed(values))
    if not volumes:
        ordered = sorted(frames, key=lambda f: float(f.position @ normal))
        pair = min(pairwise(ordered), key=lambda p: float((p[1].position - p[0].position) @ normal))
        names = " and ".join(f"{f.path.name} frame {f.number + 1}" for f in pair)
        found = f"{names} both at {pair[0].position @ normal:.2f} mm"
        raise InputError(source, expected="each slice position once", found=found)
    if frame is None or not 1 <= frame <= len(volumes):
        expected = f"one volume (--frame 1 to {len(volumes)} picks)"
        found = f"{len(volumes)} volumes in the series, by {key}: {_listed(volumes)}"
        raise InputError(source, expected=expected, found=found)
    return list(volumes.values())[frame - 1]


def _listed(values: Sequence[str] | dict[str, list[Frame]]) -> str:
    told = [value or "none" for value in values]
    return ", ".join(told[:8]) + (f" and {len(told) - 8} more" if len(told) > 8 else "")


def _contrasts(frames: Sequence[Frame]) -> dict[str, list[str]]:
    """Attributes by which the frames show more than one contrast, with their values."""
    found = {}
    for key in CONTRASTS:
        values = set(_values(frames, key))
        if key in COUNTING:
            values.discard("")
            if len(values) > 2 and 2 * len(values) >= len(frames):
                continue
        if len(values) > 1:
            found[key] = sorted(values, key=_natural)
    return found


def _values(frames: Sequence[Frame], key: str) -> list[str]:
    """Each frame's value of an attribute, empty where it has none; numbers that hardly differ are one."""
    texts = [f.labels.get(key, "") for f in frames]
    first: dict[str, str] = {}
    last = ""
    for text in sorted(set(texts), key=_natural):
        numbers = _natural(last)[0], _natural(text)[0]
        near = math.isfinite(numbers[1]) and math.isclose(*numbers, rel_tol=CONTRASTS.get(key, 0))
        last = first[text] = last if near else text
    return [first[text] for text in texts]


def _split(
    frames: Sequence[Frame], normal: NDArray[np.float64], source: Source
) -> tuple[str, dict[str, list[Frame]]]:
    """Volumes by the first attribute, or by several, with which each is one stack of one contrast.

    Where contrasts differ they may lie anywhere; what differs otherwise has the same positions each time.
    """
    gaps = np.diff(_heights(frames, normal))
    positions = 1 + int(np.count_nonzero(gaps >= GAP_TOLERANCE * _usual(gaps)))
    mixed = tuple(_contrasts(frames))
    for keys in (*((k,) for k in mixed), mixed, *((k,) for k in LABELS), LABELS[:9]):
        values = zip(*(_values(frames, k) for k in keys), strict=True)
        told = [" ".join(filter(None, v)) for v in values] or [""] * len(frames)
        names = sorted(set(told), key=_natural)
        volumes = {n: [f for f, t in zip(frames, told, strict=True) if t == n] for n in names}
        if len(volumes) > 1 and all(
            not _repeats(v, normal)
            and not _contrasts(v)
            and (len(v) == positions or (set(keys) <= set(mixed) and _regular(v, normal, source)))
            for v in volumes.values()
        ):
            return keys[0] if len(keys) == 1 else "several attributes", volumes
    return "", {}


def _regular(frames: Sequence[Frame], normal: NDArray[np.float64], source: Source) -> bool:
    """True if frames by themselves form a stack without a gap."""
    try:
        _step(sorted(frames, key=lambda f: float(f.position @ normal)), normal, source)
    except InputError:
        return False
    return True


def _natural(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _heights(frames: Sequence[Frame], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sort([float(f.position @ normal) for f in frames])


def _repeats(frames: Sequence[Frame], normal: NDArray[np.float64]) -> bool:
    """True if two slices are closer than 1% of the stack's usual gap."""
    gaps = np.diff(_heights(frames, normal))
    return bool(len(gaps) and gaps.min() < GAP_TOLERANCE * _usual(gaps))


def _usual(gaps: NDArray[np.float64]) -> float:
    """Median of the gaps that are no rounding, mm; 1 where there is none."""
    apart = gaps[gaps > 1e-3]
    return float(np.median(apart)) if len(apart) else 1.0


def _step(
    ordered: Sequence[Frame], normal: NDArray[np.float64], source: Source
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Vector from one slice to the next, LPS mm, and notes."""
    first = ordered[0]
    if len(ordered) == 1:
        gap = next((g for g in (first.between, first.thickness) if g is not None and g > 0), None)
        if gap is None:
            found = "neither SpacingBetweenSlices nor SliceThickness"
            raise InputError(source, expected="the thickness of a single slice", found=found)
        return normal * gap, ("a single slice",)
    gaps = np.diff(_heights(ordered, normal))
    usual = float(np.median(gaps))
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > GAP_TOLERANCE * usual:
        missing = round(float(gaps[worst]) / usual) - 1
        kind = f"{missing} missing slice{'s' * (missing > 1)}" if missing > 0 else "an uneven gap"
        names = " and ".join(f.path.name for f in ordered[worst : worst + 2])
        expected = f"a slice every {usual:.4g} mm within {GAP_TOLERANCE:.0%}"
        found = f"{kind}: {gaps[worst]:.4g} mm between {names}"
        raise InputError(source, expected=expected, found=found)
    positions = np.array([f.position for f in ordered])
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    sideways = step - (step @ normal) * normal
    tilt = float(np.linalg.norm(sideways) / np.linalg.norm(step))
    if tilt > MAX_SHEAR:
        found = f"a stack sheared by {np.degrees(np.arcsin(tilt)):.2f} degrees (gantry tilt)"
        raise InputError(source, expected="slices stacked along their normal", found=found)
    off = positions - (positions[0] + np.arange(len(ordered))[:, None] * step)
    off -= (off @ normal)[:, None] * normal
    furthest = float(np.linalg.norm(off, axis=1).max())
    if furthest > 0.1 * min(first.pixel_spacing):
        found = f"slices shifted sideways by {furthest:.2f} mm"
        raise InputError(source, expected="slices stacked along their normal", found=found)
    gap, between = float(np.linalg.norm(step)), first.between
    if between is None or abs(between - gap) <= GAP_TOLERANCE * gap:
        return step, ()
    note = f"SpacingBetweenSlices {between:g} ignored: positions are {gap:.4g} mm apart"
    return step, (note,)
