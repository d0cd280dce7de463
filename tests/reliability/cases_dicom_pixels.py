"""DICOM: the numbers in the pixels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset

from tests.reliability import expect
from tests.reliability.cases_dicom import edited
from tests.reliability.dicom_files import enhanced, series, set_all, set_one, set_pixels
from tests.reliability.expect import Make
from tests.reliability.truth import COLUMNS, ROWS, VOXELS
from tests.reliability.volume_files import nifti, repack

GROUP = "DICOM pixels"
refuse = partial(expect.refuse, GROUP)
handle = partial(expect.handle, GROUP)
each = partial(expect.each, GROUP)

#: Every number that 16 bits can hold, and every one of signed 16 and signed 12 bits.
_DRAW = np.random.default_rng(11)
FULL = _DRAW.integers(0, 1 << 16, VOXELS.shape).astype(np.uint16)
SIGNED = _DRAW.integers(-(1 << 15), 1 << 15, VOXELS.shape).astype(np.int16)
SIGNED_12 = _DRAW.integers(-(1 << 11), 1 << 11, VOXELS.shape).astype(np.int16)
BYTES = _DRAW.integers(0, 256, VOXELS.shape).astype(np.uint8)
WORDS = _DRAW.integers(0, 1 << 20, VOXELS.shape).astype(np.uint32)


def holding(voxels: Any, *, stored: int | None = None, **attributes: object) -> Make:
    """Makes a series of other numbers; attributes are set afterwards."""

    def edit(d: FileDataset, k: int) -> None:
        set_pixels(d, voxels[:, :, k].T, stored=stored)
        set_all(**attributes)(d, k)

    return lambda folder: series(folder, edit=edit)


def truth(voxels: Any, slope: float = 1.0, intercept: float = 0.0) -> Make:
    """Makes the NIfTI of other numbers."""

    def make(folder: Path) -> Path:
        return nifti(folder, voxels=voxels, scl_slope=slope, scl_inter=intercept)

    return make


def _high_bits(*, overlay: bool) -> Make:
    """Twelve bits of image under four bits of an old-style overlay, which the header knows or not."""
    noisy = (VOXELS & 0xFFF) | (_DRAW.integers(0, 16, VOXELS.shape) << 12).astype(np.uint16)

    def edit(d: FileDataset, k: int) -> None:
        set_pixels(d, noisy[:, :, k].T)
        set_all(BitsStored=12, HighBit=11)(d, k)
        if overlay:
            d.add_new((0x6000, 0x0100), "US", 16)
            d.add_new((0x6000, 0x0102), "US", 12)

    return lambda folder: series(folder, edit=edit)


def _per_slice(folder: Path) -> Path:
    return series(
        folder,
        edit=set_all(
            RescaleSlope=lambda k: str(0.25 * (k + 1)), RescaleIntercept=lambda k: str(-8 * k)
        ),
    )


def _per_slice_truth(folder: Path) -> Path:
    k = np.arange(VOXELS.shape[2])
    return nifti(folder, voxels=(VOXELS * (0.25 * (k + 1)) - 8.0 * k).astype(np.float32))


def _inverted_truth(folder: Path) -> Path:
    return nifti(folder, voxels=(4095 - VOXELS % 4096).astype(np.uint16))


def _constant(folder: Path) -> Path:
    return holding(np.full_like(VOXELS, 7))(folder)


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

    return edited(edit)


def _mixed(folder: Path) -> Path:
    return series(folder, edit=lambda d, k: set_pixels(d, (SIGNED if k % 2 else VOXELS)[:, :, k].T))


def _mixed_truth(folder: Path) -> Path:
    odd = np.arange(VOXELS.shape[2]) % 2 == 1
    return nifti(folder, voxels=np.where(odd, SIGNED.astype(np.int32), VOXELS))


def _odd(folder: Path) -> Path:
    """Eight-bit slices of an odd number of pixels, with the padding byte that DICOM asks for."""
    return holding(BYTES[:15, :11])(folder)


def cut(size: float) -> Make:
    """Makes a series whose last file keeps a share of its bytes, or loses some where negative."""

    def make(folder: Path) -> Path:
        target = series(folder)
        repack(
            target / "04.dcm",
            lambda data: data[: int(len(data) * size)] if size >= 0 else data[: int(size)],
        )
        return target

    return make


def _short_value(missing: int) -> Make:
    """Makes a series, one of whose files is whole but holds too few pixels."""
    return edited(set_one(3, PixelData=VOXELS[:, :, 3].T.tobytes()[:-missing]))


def _long_value(folder: Path) -> Path:
    return series(
        folder, edit=set_all(PixelData=lambda k: VOXELS[:, :, k].T.tobytes() + b"\0" * 10)
    )


def _short_enhanced(folder: Path) -> Path:
    return enhanced(folder, edit=lambda d, k: setattr(d, "PixelData", d.PixelData[: -COLUMNS * 2]))


def _odd_length(folder: Path) -> Path:
    """The last slice's value is one byte short, and says so."""
    target = series(folder)
    path = target / "04.dcm"
    data = path.read_bytes()
    size = ROWS * COLUMNS * 2
    head = data[: -size - 4]
    path.write_bytes(head + (size - 1).to_bytes(4, "little") + data[-size:-1])
    assert pydicom.dcmread(path).Rows == ROWS
    return target


CUTS = {"0 bytes": 0.0, "1%": 0.01, "25%": 0.25, "50%": 0.5, "99%": 0.99}

CASES = [
    each(
        "a file cut to 0, 1, 25, 50, 99% or by 8 bytes",
        "refused; the line tells the file",
        {title: cut(size) for title, size in {**CUTS, "by 8": -8.0}.items()},
        "04.dcm",
    ),
    refuse(
        "a whole file with too few pixels",
        _short_value(20),
        *("03.dcm", "truncation"),
        tells="the file",
    ),
    refuse("pixel data of an odd length", _odd_length, "04.dcm", tells="the file"),
    refuse("an enhanced file with too few pixels", _short_enhanced, "enhanced.dcm"),
    refuse("no pixel data", edited(set_one(3, PixelData=None)), "03.dcm", "PixelData"),
    handle("padding after the pixels", _long_value),
    refuse(
        "65535 x 65535 claimed, a few bytes there",
        edited(set_all(Rows=65535, Columns=65535)),
        "--max-voxels",
        tells="the claim and --max-voxels",
        cheap=True,
    ),
    refuse(
        "20000 x 20000 claimed in each slice, a few bytes there",
        edited(set_all(Rows=20000, Columns=20000)),
        "series",
        cheap=True,
    ),
    *[
        handle(
            title,
            holding(voxels, stored=stored),
            like=truth(voxels),
            should="exact, nothing wraps",
        )
        for title, voxels, stored in [
            ("unsigned numbers above 32767", FULL, None),
            ("signed numbers", SIGNED, None),
            ("signed 12 bits in 16", SIGNED_12, 12),
            ("8 bits", BYTES, None),
            ("32 bits", WORDS, None),
        ]
    ],
    handle(
        "8 bits, an odd number of pixels",
        _odd,
        like=truth(BYTES[:15, :11]),
        should="exact; the padding byte is none of the pixels",
    ),
    handle(
        "an overlay in the unused high bits",
        _high_bits(overlay=True),
        like=truth((VOXELS & 0xFFF).astype(np.uint16)),
        should="the image without the overlay",
    ),
    handle(
        "RescaleSlope and RescaleIntercept",
        holding(VOXELS, RescaleSlope="0.5", RescaleIntercept="-100"),
        like=truth(VOXELS, 0.5, -100),
        should="exact; stored numbers, slope and intercept are kept",
    ),
    handle(
        "a RescaleIntercept without RescaleSlope",
        holding(VOXELS, RescaleIntercept="-1024"),
        like=truth(VOXELS, 1, -1024),
        should="exact",
    ),
    handle(
        "a negative RescaleSlope",
        holding(VOXELS, RescaleSlope="-2", RescaleIntercept="10"),
        like=truth(VOXELS, -2, 10),
        should="exact",
    ),
    handle(
        "another RescaleSlope in every slice",
        _per_slice,
        "RescaleSlope differs between slices",
        like=_per_slice_truth,
        should="exact, as float32, with a note in the record",
    ),
    *[
        refuse(f"a RescaleSlope of {text}", edited(set_all(RescaleSlope=text)), "00.dcm")
        for text in ("0", "1e999")
    ],
    handle(
        "MONOCHROME1",
        holding(VOXELS % 4096, stored=12, PhotometricInterpretation="MONOCHROME1"),
        "MONOCHROME1 inverted",
        like=_inverted_truth,
        should="turned over, so that bright is high, with a note in the record",
    ),
    refuse("colour", edited(_colour), "3 samples of RGB", tells="the colour space"),
    refuse(
        "a colour palette",
        edited(set_all(PhotometricInterpretation="PALETTE COLOR")),
        "PALETTE COLOR",
        tells="the colour space",
    ),
    refuse("float pixel data", _floats("FloatPixelData", "f4"), "PixelData"),
    refuse("double float pixel data", _floats("DoubleFloatPixelData", "f8"), "PixelData"),
    refuse(
        "one bit a pixel",
        edited(set_all(BitsAllocated=1, BitsStored=1, HighBit=0)),
        "00.dcm",
        "BitsAllocated",
    ),
    *[
        refuse(f"{keyword} of {value}", edited(set_one(2, **{keyword: value})), "02.dcm")
        for keyword, value in [
            ("BitsAllocated", 12),
            ("BitsStored", 24),
            ("BitsStored", 0),
            ("SamplesPerPixel", 2),
        ]
    ],
    refuse(
        "numbers of 16 bits where BitsStored is 12",
        _high_bits(overlay=False),
        "BitsStored",
        tells="how many",
    ),
    refuse(
        "pixels in the high bits (HighBit 15 of 12 bits)",
        edited(set_all(BitsStored=12, HighBit=15)),
        "HighBit",
        tells="HighBit",
    ),
    handle(
        "signed slices among unsigned ones",
        _mixed,
        like=_mixed_truth,
        should="exact, in a type that holds both",
    ),
    refuse(
        "more pixel data than Rows and Columns say",
        edited(set_all(Rows=ROWS - 1)),
        "00.dcm",
        "pixel data",
    ),
    refuse("all pixels equal", _constant, "constant", tells="the count"),
]
