"""NIfTI: axes, types and numbers of the voxels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.reliability import expect
from tests.reliability.cases_nifti import changed
from tests.reliability.expect import Make
from tests.reliability.truth import VOXELS
from tests.reliability.volume_files import nifti, repack

VALUES = "NIfTI voxels"
refuse = partial(expect.refuse, VALUES)
handle = partial(expect.handle, VALUES)


def four(*shape: int) -> Make:
    """Makes a NIfTI of more axes."""

    def make(folder: Path) -> Path:
        voxels = np.broadcast_to(
            VOXELS.reshape(*VOXELS.shape, *[1] * len(shape)), VOXELS.shape + shape
        )
        return nifti(folder, voxels=np.ascontiguousarray(voxels))

    return make


def typed(dtype: Any) -> Make:
    """Makes the truth in another datatype."""
    return lambda folder: nifti(folder, voxels=VOXELS.astype(dtype))


def _holes(value: float) -> Make:
    def make(folder: Path) -> Path:
        voxels = VOXELS.astype(np.float32)
        voxels[2:4, 5, 1] = value
        return nifti(folder, voxels=voxels)

    return make


_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])

CASES = [
    refuse("NaN voxels", _holes(float("nan")), "2 NaN or infinite of 960", tells="the count"),
    refuse("infinite voxels", _holes(float("-inf")), "2 NaN or infinite of 960", tells="the count"),
    refuse(
        "all voxels equal",
        changed(voxels=np.full_like(VOXELS, 7)),
        "constant",
        "960",
        tells="the count",
    ),
    handle("a fourth axis of length 1", four(1)),
    handle("seven axes, the last four of length 1", four(1, 1, 1, 1)),
    refuse("a fourth axis of length 2", four(2), "axis 4", tells="the axis"),
    refuse("a fifth axis of length 3 (vectors)", four(1, 3), "axis 5", tells="the axis"),
    refuse("colour (RGB)", changed(voxels=np.zeros(VOXELS.shape, _RGB)), "RGB"),
    refuse("complex numbers", typed(np.complex64), "complex"),
    refuse("floats of 128 bits", changed(datatype=1536, bitpix=128)),
    refuse("one bit a voxel", changed(datatype=1, bitpix=1), "datatype"),
    refuse("a datatype that does not exist", changed(datatype=999), "999"),
    *[
        refuse(f"dim[0] of {n}", changed(dim=[n, 16, 12, 5, 1, 1, 1, 1]), "dim[0]")
        for n in (0, -1, 8)
    ],
    refuse("a negative length of an axis", changed(dim=[3, 16, -12, 5, 1, 1, 1, 1]), "axis"),
    refuse("an axis of length 0", changed(dim=[3, 16, 0, 5, 1, 1, 1, 1]), "axis"),
    *[
        handle(f"voxels of {name}", typed(name), like=typed(name), should="the type is kept")
        for name in ("uint16", "int16", "int32", "uint32", "int64", "uint64", "float32", "float64")
    ],
    handle("scl_slope NaN (not set)", changed(scl_slope=float("nan"), scl_inter=5)),
    handle("scl_slope 0 (not set)", changed(scl_slope=0, scl_inter=5)),
    refuse("scl_slope infinite", changed(scl_slope=float("inf")), "scl_slope"),
    refuse("scl_inter infinite", changed(scl_slope=1, scl_inter=float("-inf")), "scl_inter"),
    refuse(
        "scl_slope so large that voxels overflow",
        changed(voxels=VOXELS.astype("f8") * 1e300, scl_slope=1e38),
    ),
    refuse(
        "values beyond single precision",
        changed(voxels=VOXELS.astype("f8") * 1e300),
        "single precision",
        tells="the range",
    ),
    refuse(
        "values below single precision",
        changed(voxels=VOXELS.astype("f8") * 1e-300),
        "single precision",
        tells="the range",
    ),
    refuse(
        "a contrast that single precision loses",
        changed(voxels=VOXELS.astype("i8") + (1 << 60)),
        "single precision",
        tells="the range",
    ),
    handle("an intent code on a plain volume", changed(intent_code=1002)),
    handle("up to 1 MB after the voxels", lambda f: repack(nifti(f), lambda d: d + bytes(1000))),
    handle(
        "a wrong bitpix",
        changed(bitpix=8),
        should="the datatype counts, and the clean result comes out",
    ),
]
