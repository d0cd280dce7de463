"""DICOM: where the slices lie."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from tests.reliability import expect
from tests.reliability.dicom_files import change, position, series, set_all, set_one
from tests.reliability.truth import AFFINE, VOXELS
from tests.reliability.volume_files import Make, nifti

GROUP = "DICOM geometry"
refuse = partial(expect.refuse, GROUP)
handle = partial(expect.handle, GROUP)


def every(**attributes: object) -> Make:
    """Makes a series with attributes of every slice set; None deletes them."""
    return partial(series, edit=set_all(**attributes))


def third(**attributes: object) -> Make:
    """Makes a series with attributes of its third slice, 02.dcm, set; None deletes them."""
    return partial(series, edit=set_one(2, **attributes))


def slices(*kept: int) -> Make:
    """Makes a series of some slices only."""
    return partial(series, slices=kept)


def truth_of(*kept: int) -> Make:
    """Makes the NIfTI that holds some slices only."""

    def make(folder: Path) -> Path:
        grid = AFFINE.copy()
        grid[2, 3] += kept[0] * 3.0
        return nifti(folder, voxels=VOXELS[:, :, list(kept)], affine=grid)

    return make


def at(k: int, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> list[float]:
    """Position of slice ``k``, moved by some mm."""
    p = position(k)
    return [p[0] + x, p[1] + y, p[2] + z]


# --- an oblique stack -----------------------------------------------------------------------------

_ROTATION, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))
_ROTATION[:, 2] = np.cross(_ROTATION[:, 0], _ROTATION[:, 1])


def oblique(folder: Path) -> Path:
    """The truth's voxels on a turned grid, its axes in LPS the columns of a rotation."""

    def edit(d: FileDataset, k: int) -> None:
        cosines = [f"{c:.12f}" for c in _ROTATION[:, :2].T.ravel()]
        d.ImageOrientationPatient = cosines
        d.ImagePositionPatient = [f"{p:.11f}" for p in k * 3.0 * _ROTATION[:, 2]]

    return series(folder, edit=edit)


def oblique_truth(folder: Path) -> Path:
    grid = np.eye(4)
    grid[:3, :3] = _ROTATION * [0.7, 0.5, 3.0]
    return nifti(folder, affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid)


_C, _S = float(np.cos(np.radians(10))), float(np.sin(np.radians(10)))
_PLANES = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]]


def _jitter(k: int) -> list[float]:
    return [1, 1e-6 * (-1) ** k, 0, 1e-6 * (-1) ** k, 1, 1e-6]


_GEOMETRY = [
    refuse("a slice missing", slices(0, 1, 3, 4), "1 missing slice", "01.dcm", "03.dcm"),
    refuse("a slice missing of four", slices(0, 1, 3), "uneven gap"),
    refuse("irregular gaps", third(ImagePositionPatient=at(2, z=0.1)), "uneven gap"),
    refuse(
        "the same position twice",
        third(ImagePositionPatient=position(1)),
        "each slice position once",
        "01.dcm",
        "02.dcm",
    ),
    refuse(
        "all slices at one position",
        every(ImagePositionPatient=position(0)),
        "each slice position once",
    ),
    refuse("a sheared stack", every(ImagePositionPatient=lambda k: at(k, y=0.5 * k)), "sheared"),
    refuse(
        "a tilted gantry",
        every(ImageOrientationPatient=[1, 0, 0, 0, _C, _S]),
        "sheared by 10.00 degrees",
    ),
    refuse("one slice shifted sideways", third(ImagePositionPatient=at(2, x=2)), "sideways"),
    handle("InstanceNumber reversed", every(InstanceNumber=lambda k: 99 - k)),
    handle("InstanceNumber shuffled", every(InstanceNumber=lambda k: (3, 1, 5, 2, 4)[k])),
    handle("InstanceNumber the same in every slice", every(InstanceNumber=1)),
    handle("no InstanceNumber", every(InstanceNumber=None)),
    *[
        handle(
            f"{sign} SpacingBetweenSlices",
            every(SpacingBetweenSlices=value),
            f"SpacingBetweenSlices {value:g} ignored",
            should="the positions win",
        )
        for sign, value in (("wrong", 3.3), ("negative", -3.0))
    ],
    handle("no SpacingBetweenSlices", every(SpacingBetweenSlices=None)),
    handle(
        "pixels that are not square",
        series,
        should="rows and columns keep their own spacing (0.5 and 0.7 mm)",
    ),
    handle(
        "an oblique stack",
        oblique,
        like=oblique_truth,
        should="the same voxels at the same places as a NIfTI of it",
    ),
    handle("cosines that jitter by 1e-6", every(ImageOrientationPatient=_jitter)),
    refuse(
        "a localizer with three planes",
        every(ImageOrientationPatient=lambda k: _PLANES[k % 3]),
        "axial",
        "coronal",
        "sagittal",
    ),
    refuse("slices of different Rows", third(Rows=6, Columns=32), "one matrix", "6x32", "02.dcm"),
    refuse(
        "slices of different PixelSpacing",
        third(PixelSpacing=[0.6, 0.7]),
        "one PixelSpacing",
        "02.dcm",
    ),
    *[
        refuse(title, third(**{keyword: value}), "02.dcm", keyword)
        for title, keyword, value in [
            ("no ImagePositionPatient", "ImagePositionPatient", None),
            ("an empty ImagePositionPatient", "ImagePositionPatient", []),
            ("ImagePositionPatient of two numbers", "ImagePositionPatient", [1, 2]),
            ("no ImageOrientationPatient", "ImageOrientationPatient", None),
            ("ImageOrientationPatient of length 2", "ImageOrientationPatient", [2, 0, 0, 0, 2, 0]),
            (
                "ImageOrientationPatient not at right angles",
                "ImageOrientationPatient",
                [1, 0, 0, 0.6, 0.8, 0],
            ),
            ("ImageOrientationPatient of zeros", "ImageOrientationPatient", [0] * 6),
            ("no PixelSpacing", "PixelSpacing", None),
            ("PixelSpacing of zero", "PixelSpacing", [0, 0]),
            ("negative PixelSpacing", "PixelSpacing", [0.5, -0.7]),
            ("PixelSpacing of one number", "PixelSpacing", [0.5]),
            ("Rows of zero", "Rows", 0),
            ("no Columns", "Columns", None),
        ]
    ],
    handle("two slices", slices(1, 2), like=truth_of(1, 2)),
    handle(
        "two slices, through-plane",
        partial(series, edit=set_all(SliceThickness=None), slices=(1, 2)),
        like=truth_of(1, 2),
        job="throughplane",
    ),
    handle("one slice, in-plane", slices(2), "a single slice", like=truth_of(2)),
    refuse("one slice, through-plane", slices(2), "at least 2 slices", job="throughplane"),
    refuse(
        "one slice of unknown thickness",
        partial(series, edit=set_all(SliceThickness=None, SpacingBetweenSlices=None), slices=(2,)),
        "thickness",
    ),
]


def _text_in(keyword: str, value: str) -> Make:
    """Makes a series one of whose slices holds a text that pydicom would not write."""

    def make(folder: Path) -> Path:
        target = series(folder)
        path = target / "02.dcm"
        marker = {"ImagePositionPatient": [1.25, 2.5, 3.125], "PixelSpacing": [1.25, 2.5]}[keyword]
        change(path, **{keyword: marker})
        old = "\\".join(str(v) for v in marker).encode()
        old += b" " * (len(old) % 2)
        data = path.read_bytes()
        assert data.count(old) == 1
        path.write_bytes(data.replace(old, value.encode().ljust(len(old))))
        return target

    return make


_TEXTS = [
    refuse(title, _text_in(keyword, value), "02.dcm")
    for title, keyword, value in [
        ("NaN in ImagePositionPatient", "ImagePositionPatient", "nan\\2.5\\3.125"),
        ("infinity in ImagePositionPatient", "ImagePositionPatient", "1\\inf\\3.125"),
        ("words in ImagePositionPatient", "ImagePositionPatient", "left\\2.5\\3"),
        ("a decimal comma in PixelSpacing", "PixelSpacing", "1,25\\2,5"),
    ]
]

CASES = [*_GEOMETRY, *_TEXTS]
