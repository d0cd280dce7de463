"""Voxels as MR Image Storage can hold them: integers of 16 bits and one linear rescale."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mrisr.core.volume import Storage, Volume
from mrisr.dicom.values import decimal

_LEVELS = 65535


def storable(volume: Volume) -> Volume:
    """The volume with a storage of 16-bit integers and its values as that storage holds them.

    Integers that fit keep their numbers; floats, and integers that do not fit, become 65536 levels
    between their extremes. The slope and the intercept are numbers that a Decimal String holds.
    """
    storage = _storage(volume)
    stored = storage.encode(volume.array)
    return replace(volume, array=storage.decode(stored), storage=storage)


def _storage(volume: Volume) -> Storage:
    storage = volume.storage
    spelled = Storage(
        storage.dtype, float(decimal(storage.slope)), float(decimal(storage.intercept))
    )
    if storage.dtype.kind in "iub" and spelled.slope != 0:
        numbers = spelled.encode(volume.array)
        for dtype in (np.dtype(np.uint16), np.dtype(np.int16)):
            limits = np.iinfo(dtype)
            if numbers.min() >= limits.min and numbers.max() <= limits.max:
                keep = storage.dtype == np.int16  # signed stays signed
                return replace(spelled, dtype=np.dtype(np.int16) if keep else dtype)
    low, high = float(volume.array.min()), float(volume.array.max())
    intercept = float(_rounded(low, ROUND_FLOOR))
    slope = float(_rounded((high - intercept) / _LEVELS, ROUND_CEILING)) or 1.0
    return Storage(np.dtype(np.uint16), slope, intercept)


def _rounded(value: float, mode: str) -> Decimal:
    """The next number of eight significant digits, which fits a Decimal String, in one direction."""
    exact = Decimal(value)
    if not exact:
        return exact
    step = Decimal(1).scaleb(exact.adjusted() - 7)
    return exact.quantize(step, rounding=mode)


def describe_pixels(volume: Volume, rescale_type: str | None) -> Dataset:
    """Image Pixel, rescale and window attributes that all slices of a stored volume share."""
    values = np.asarray(volume.array, dtype=np.float64)
    stored = volume.storage.encode(volume.array)
    signed = volume.storage.dtype.kind == "i"
    d = Dataset()
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.PixelRepresentation = 16, int(signed)
    top = max(int(stored.max()), -int(stored.min()) - 1)
    d.BitsStored = max(12, top.bit_length() + int(signed))
    d.HighBit = d.BitsStored - 1
    slope, intercept = volume.storage.slope, volume.storage.intercept
    if rescale_type is not None or slope != 1 or intercept != 0:
        d.RescaleIntercept, d.RescaleSlope = decimal(intercept), decimal(slope)
        d.RescaleType = rescale_type or "US"
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    d.WindowCenter = decimal(float(f"{(low + high) / 2:.6g}"))
    d.WindowWidth = decimal(float(f"{max(high - low, slope, 1e-6):.6g}"))
    return d


def set_pixels(d: Dataset, plane: NDArray[np.generic]) -> None:
    """PixelData of one plane ``(rows, columns)`` and what depends on it; ``d`` has the shared ones."""
    number = "SS" if d.PixelRepresentation else "US"
    d.Rows, d.Columns = plane.shape
    d.add_new("SmallestImagePixelValue", number, int(plane.min()))
    d.add_new("LargestImagePixelValue", number, int(plane.max()))
    d.add_new(
        "PixelData", "OW", np.ascontiguousarray(plane).astype(f"<{plane.dtype.str[1:]}").tobytes()
    )
