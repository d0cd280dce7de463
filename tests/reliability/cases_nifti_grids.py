"""NIfTI: where the voxels lie, and in what unit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.reliability import expect
from tests.reliability.cases_nifti import changed, with_image
from tests.reliability.expect import Make
from tests.reliability.truth import AFFINE
from tests.reliability.volume_files import nifti

GRIDS = "NIfTI grids and units"
refuse = partial(expect.refuse, GRIDS)
handle = partial(expect.handle, GRIDS)


def _far(image: Any) -> None:
    moved = AFFINE.copy()
    moved[2, 3] += 20
    image.set_qform(moved, 1)


def _only(form: str) -> Make:
    return changed(**{("qform_code" if form == "sform" else "sform_code"): 0})


def _sheared(image: Any) -> None:
    grid = AFFINE.copy()
    grid[0, 2] = 0.5
    image.set_sform(grid, 1)
    image.header["qform_code"] = 0


def scaled(name: str, factor: float) -> Make:
    """Makes the truth in another unit."""
    grid = np.diag([factor, factor, factor, 1.0]) @ AFFINE
    return changed(affine=grid, units=name)


def _moved(folder: Path) -> Path:
    grid = AFFINE.copy()
    grid[2, 3] += 20
    return nifti(folder, affine=grid)


def pixdim(*values: float) -> Make:
    """Makes a NIfTI of a qform with these spacings."""
    return changed(sform_code=0, pixdim=[1, *values, 0, 0, 0, 0])


def sform(row: int, column: int, value: float) -> Make:
    """Makes a NIfTI of an sform with one number changed."""
    numbers = AFFINE[row].copy()
    numbers[column] = value
    return changed(**{"qform_code": 0, f"srow_{'xyz'[row]}": numbers})


CASES = [
    refuse(
        "sform and qform 20 mm apart",
        with_image(_far),
        *("sform", "qform", "20.00 mm apart", "--affine"),
        tells="both and --affine",
    ),
    handle(
        "sform and qform 20 mm apart, --affine sform",
        with_image(_far),
        "sform used",
        options=("--affine", "sform"),
        should="the sform, with a note in the record",
    ),
    handle(
        "sform and qform 20 mm apart, --affine qform",
        with_image(_far),
        "qform used",
        options=("--affine", "qform"),
        like=_moved,
        should="the qform, with a note in the record",
    ),
    handle("an sform only", _only("sform")),
    handle("a qform only", _only("qform")),
    refuse(
        "an sform only, --affine qform",
        _only("sform"),
        "qform",
        options=("--affine", "qform"),
    ),
    refuse("neither sform nor qform", changed(sform_code=0, qform_code=0), "code 0"),
    refuse("a sheared sform", with_image(_sheared), "sheared", tells="the angle"),
    refuse("a spacing of zero (sform)", sform(0, 0, 0.0), "spacing"),
    refuse("a spacing of zero (qform)", pixdim(0.7, 0, 3), "pixdim"),
    refuse("a negative spacing (pixdim)", pixdim(0.7, -0.5, 3), "pixdim"),
    refuse("NaN in pixdim", pixdim(float("nan"), 0.5, 3), "pixdim"),
    refuse("infinity in pixdim", pixdim(0.7, 0.5, float("inf"))),
    refuse("NaN in the sform", sform(1, 1, float("nan")), "finite"),
    refuse("infinity in the sform", sform(2, 3, float("inf")), "finite"),
    refuse("a quaternion that is none", changed(sform_code=0, quatern_b=1, quatern_c=1), "qform"),
    refuse("NaN in the quaternion", changed(sform_code=0, quatern_b=float("nan"))),
    handle("micron", scaled("micron", 1000), "converted from micron to mm"),
    handle("metre", scaled("meter", 0.001), "converted from metre to mm"),
    handle("unit not stated", scaled("unknown", 1)),
    refuse("a unit that does not exist", changed(xyzt_units=7), "xyzt_units"),
    handle(
        "a left-handed grid",
        changed(affine=AFFINE @ np.diag([-1, 1, 1, 1])),
        like=partial(nifti, affine=AFFINE @ np.diag([-1, 1, 1, 1])),
    ),
]
