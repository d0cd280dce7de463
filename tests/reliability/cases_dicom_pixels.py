"""DICOM: the numbers in the pixels."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset

from tests.reliability.dicom_files import enhanced, every, series, set_pixels, setting, third
from tests.reliability.expect import Cases
from tests.reliability.volume_files import COLUMNS, ROWS, VOXELS, Make, cuts, nifti

CASES = Cases("DICOM pixels")
refuse, handle = CASES.refuse, CASES.handle

#: Every number that 16 bits can hold, and every one of signed 16 and signed 12 bits.
_DRAW = np.random.default_rng(11)
FULL = _DRAW.integers(0, 1 << 16, VOXELS.shape).astype(np.uint16)
SIGNED = _DRAW.integers(-(1 << 15), 1 << 15, VOXELS.shape).astype(np.int16)
SIGNED_12 = _DRAW.integers(-(1 << 11), 1 << 11, VOXELS.shape).astype(np.int16)
BYTES = _DRAW.integers(0, 256, VOXELS.shape).astype(np.uint8)
WORDS = _DRAW.integers(0, 1 << 20, VOXELS.shape).astype(np.uint32)

_K = np.arange(VOXELS.shape[2])
_SCALED_BY_SLICE = (VOXELS * (0.25 * (_K + 1)) - 8.0 * _K).astype(np.float32)
_MIXED = np.where(_K % 2 == 1, SIGNED.astype(np.int32), VOXELS)


def holding(voxels: Any, *, stored: int | None = None, **attributes: object) -> Make:
    """Makes a series of other numbers; attributes are set afterwards."""

    def edit(d: FileDataset, k: int) -> None:
        set_pixels(d, voxels[:, :, k].T, stored=stored)
        setting(**attributes)(d, k)

    return partial(series, edit=edit)


def truth(voxels: Any, slope: float = 1.0, intercept: float = 0.0) -> Make:
    return partial(nifti, voxels=voxels, scl_slope=slope, scl_inter=intercept)


def _high_bits(*, overlay: bool) -> Make:
    """Twelve bits of image under four bits of an old-style overlay, which the header knows or not."""
    noisy = (VOXELS & 0xFFF) | (_DRAW.integers(0, 16, VOXELS.shape) << 12).astype(np.uint16)

    def edit(d: FileDataset, k: int) -> None:
        set_pixels(d, noisy[:, :, k].T)
        setting(BitsStored=12, HighBit=11)(d, k)
        if overlay:
            d.add_new((0x6000, 0x0100), "US", 16)
            d.add_new((0x6000, 0x0102), "US", 12)

    return partial(series, edit=edit)


def _colour(d: FileDataset, k: int) -> None:
    d.SamplesPerPixel, d.PlanarConfiguration, d.PhotometricInterpretation = 3, 0, "RGB"
    d.PixelData = d.PixelData * 3


def _floats(keyword: str, dtype: str) -> Make:
    def edit(d: FileDataset, k: int) -> None:
        del d.PixelData
        d.BitsAllocated = np.dtype(dtype).itemsize * 8
        for word in ("BitsStored", "HighBit", "PixelRepresentation"):
            del d[word]
        setattr(d, keyword, VOXELS[:, :, k].T.astype(dtype).tobytes())

    return partial(series, edit=edit)


def _mixed(d: FileDataset, k: int) -> None:
    set_pixels(d, (SIGNED if k % 2 else VOXELS)[:, :, k].T)


def _shorten(missing: int) -> Any:
    return lambda d, k: setattr(d, "PixelData", d.PixelData[:-missing])


def _odd_length(folder: Path) -> Path:
    """The last slice's value is one byte short, and says so."""
    target = series(folder)
    path = target / "04.dcm"
    data = path.read_bytes()
    size = ROWS * COLUMNS * 2
    path.write_bytes(data[: -size - 4] + (size - 1).to_bytes(4, "little") + data[-size:-1])
    assert pydicom.dcmread(path).Rows == ROWS
    return target


CASES.each("a file cut to 0, 1, 25, 50, 99% or by 8 bytes", cuts(series, "04.dcm"), "04.dcm")
refuse(
    "a whole file with too few pixels", partial(series, edit=_shorten(20)), "00.dcm", "truncation"
)
refuse("pixel data of an odd length", _odd_length, "04.dcm")
few = partial(enhanced, edit=_shorten(COLUMNS * 2))
refuse("an enhanced file with too few pixels", few, "enhanced.dcm")
refuse("no pixel data", third(PixelData=None), "02.dcm", "PixelData")
padded = every(PixelData=lambda k: VOXELS[:, :, k].T.tobytes() + b"\0" * 10)
handle("padding after the pixels", padded)
for size, where, word in ((65535, "", "--max-voxels"), (20000, " in each slice", "series")):
    name = f"{size} x {size} claimed{where}, a few bytes there"
    refuse(name, every(Rows=size, Columns=size), word, cheap=True)
for title, voxels, stored in [
    ("unsigned numbers above 32767", FULL, None),
    ("signed numbers", SIGNED, None),
    ("signed 12 bits in 16", SIGNED_12, 12),
    ("8 bits", BYTES, None),
    ("32 bits", WORDS, None),
]:
    handle(title, holding(voxels, stored=stored), like=truth(voxels), should="exact, nothing wraps")
ODD = BYTES[:15, :11]
once = "exact; the padding byte is none of the pixels"
handle("8 bits, an odd number of pixels", holding(ODD), like=truth(ODD), should=once)
low = truth((VOXELS & 0xFFF).astype(np.uint16))
covered, image = _high_bits(overlay=True), "the image without the overlay"
handle("an overlay in the unused high bits", covered, like=low, should=image)
both = every(RescaleSlope="0.5", RescaleIntercept="-100")
kept = "exact; stored numbers, slope and intercept are kept"
handle("RescaleSlope and RescaleIntercept", both, like=truth(VOXELS, 0.5, -100), should=kept)
moved = every(RescaleIntercept="-1024")
handle("a RescaleIntercept without RescaleSlope", moved, like=truth(VOXELS, 1, -1024))
turned = every(RescaleSlope="-2", RescaleIntercept="10")
handle("a negative RescaleSlope", turned, like=truth(VOXELS, -2, 10))
handle(
    "another RescaleSlope in every slice",
    every(RescaleSlope=lambda k: str(0.25 * (k + 1)), RescaleIntercept=lambda k: str(-8 * k)),
    "RescaleSlope differs between slices",
    like=partial(nifti, voxels=_SCALED_BY_SLICE),
    should="exact, as float32",
)
for text in ("0", "1e999"):
    refuse(f"a RescaleSlope of {text}", every(RescaleSlope=text), "00.dcm")
handle(
    "MONOCHROME1",
    holding(VOXELS % 4096, stored=12, PhotometricInterpretation="MONOCHROME1"),
    "MONOCHROME1 inverted",
    like=partial(nifti, voxels=(4095 - VOXELS % 4096).astype(np.uint16)),
    should="turned over, so that bright is high",
)
refuse("colour", partial(series, edit=_colour), "3 samples of RGB")
refuse("a colour palette", every(PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR")
refuse("float pixel data", _floats("FloatPixelData", "f4"), "PixelData")
refuse("double float pixel data", _floats("DoubleFloatPixelData", "f8"), "PixelData")
bits = every(BitsAllocated=1, BitsStored=1, HighBit=0)
refuse("one bit a pixel", bits, "00.dcm", "BitsAllocated")
for wrong in ("BitsAllocated of 12", "BitsStored of 24", "BitsStored of 0", "SamplesPerPixel of 2"):
    keyword, _, value = wrong.split()
    refuse(wrong, third(**{keyword: int(value)}), "02.dcm")
refuse("numbers of 16 bits where BitsStored is 12", _high_bits(overlay=False), "BitsStored")
high = every(BitsStored=12, HighBit=15)
refuse("pixels in the high bits (HighBit 15 of 12 bits)", high, "HighBit")
mixed, exact = partial(series, edit=_mixed), "exact, in a type that holds both"
handle("signed slices among unsigned ones", mixed, like=truth(_MIXED), should=exact)
refuse("more pixel data than Rows and Columns say", every(Rows=ROWS - 1), "00.dcm", "pixel data")
refuse("all pixels equal", holding(np.full_like(VOXELS, 7)), "constant")
