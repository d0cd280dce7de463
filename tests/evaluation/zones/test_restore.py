"""A stack degraded and restored: on its own grid, by the operators and the projection of the product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.evaluation.methods import Method, load_methods
from mrisr.evaluation.zones.cases import ZonesCase, part_for
from mrisr.evaluation.zones.restore import measurement_of, restore
from mrisr.evaluation.zones.settings import Scale, ZonesSettings
from mrisr.restore.sampling import Options
from mrisr.restore.volumes import upsample_in_plane
from tests.evaluation.zones.conftest import SETTINGS, THROUGH


def method_of(settings: ZonesSettings, name: str) -> Method:
    return next(m for m in load_methods(settings, device="cpu") if m.name == name)


@pytest.mark.parametrize(
    ("changes", "factor", "coarse"),
    [(SETTINGS, 4.0, (12, 11, 13)), (SETTINGS, 1.5, (33, 30, 13)), (THROUGH, 6.0, (50, 46, 2))],
)
def test_a_degraded_stack_lies_where_the_stack_lay(
    models: Path, case: ZonesCase, changes: Any, factor: float, coarse: tuple[int, ...]
) -> None:
    settings, scale = ZonesSettings(**changes), Scale("degraded", factor)
    part = part_for(case, scale, settings)
    measured = measurement_of(part.image, scale, settings)
    assert measured.volume.shape == coarse
    assert measured.volume.array.dtype == part.image.array.dtype
    ends = [v.affine @ [-0.5, -0.5, -0.5, 1] for v in (measured.volume, part.image)]
    np.testing.assert_allclose(*ends, atol=1e-9)
    restored = restore(measured, method_of(settings, settings.methods[0].name)).volume
    assert restored.shape == part.image.shape
    assert np.array_equal(restored.affine, part.image.affine)
    assert restored.slice_axis == part.image.slice_axis
    assert restored.array.dtype == part.image.array.dtype


def test_a_restored_stack_agrees_with_what_was_measured(models: Path, case: ZonesCase) -> None:
    settings, scale = ZonesSettings(**SETTINGS), Scale("degraded", 2)
    measured = measurement_of(case.image, scale, settings)
    result = restore(measured, method_of(settings, "zero"))
    assert measured.residual(result.volume)["rms"] < 1  # grey levels, which are whole
    assert result.seconds > 0
    blurred = restore(measured, method_of(settings, "bicubic"))
    assert measured.residual(blurred.volume)["rms"] > 1


def test_the_result_is_the_products(models: Path, case: ZonesCase) -> None:
    """The same voxels as `mrisr inplane` makes of the degraded file, but for the scale of intensities."""
    settings, scale = ZonesSettings(**SETTINGS), Scale("degraded", 2)
    measured = measurement_of(case.image, scale, settings)
    ours = restore(measured, method_of(settings, "zero")).volume
    theirs = upsample_in_plane(measured.volume, 2, Options(model="zero-inplane", device="cpu"))
    difference = ours.array.astype(float) - theirs.volume.array
    assert np.abs(difference).max() <= 1


def test_a_measured_stack_gets_finer(models: Path, case: ZonesCase) -> None:
    settings, scale = ZonesSettings(**THROUGH), Scale("measured", 4)
    measured = measurement_of(case.image, scale, settings)
    assert measured.volume is case.image
    fine = restore(measured, method_of(settings, "bspline")).volume
    assert fine.shape == (50, 46, 52)
    assert fine.spacing[2] == pytest.approx(1.0)
    assert fine.slice_thickness == pytest.approx(1.0)
    assert fine.plane == "axial"
