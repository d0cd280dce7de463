"""Pictures through the gland, and PSNR where it lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.data.phantom import label_volume, phantom
from mrisr.evaluation.zones.case import ZonesCase
from mrisr.evaluation.zones.score import MARGIN, picture_of, psnr_of_gland
from tests.evaluation.zones.conftest import SPACING, labelled


def test_psnr_is_that_of_the_gland(case: ZonesCase) -> None:
    """An error of a twentieth of the range within the gland's box is 26 dB, whatever lies outside."""
    values = case.image.array.astype(np.float64)
    low, high = values.min(), np.percentile(values, 99.5)
    reference = replace(case.image, array=np.minimum(values, high))
    box = tuple(slice(a.min(), a.max() + 1) for a in np.nonzero(case.labels.array))
    wrong = np.zeros_like(values)
    wrong[box] = reference.array[box]
    assert psnr_of_gland(replace(reference, array=wrong), reference, case.labels) > 90
    sign = np.where(wrong < (low + high) / 2, 1, -1)
    result = replace(reference, array=wrong + 0.05 * (high - low) * sign)
    found = psnr_of_gland(result, reference, case.labels)
    assert found == pytest.approx(-20 * np.log10(0.05), abs=0.01)
    nothing = labelled(case.labels, np.zeros(case.labels.shape))
    assert np.isnan(psnr_of_gland(reference, reference, nothing))


def test_a_picture_shows_the_gland(case: ZonesCase) -> None:
    """Axial, with a margin; the anterior side is up."""
    picture = picture_of(case.image, case.labels, case.labels, "inplane", case.image)
    assert picture["step"].tolist() == list(SPACING[:2])
    assert 0 <= picture["image"].min() < picture["image"].max() <= 1
    np.testing.assert_array_equal(picture["found"], picture["wanted"])
    inside = np.nonzero((case.labels.array > 0).any(2))
    # Array axis 0 runs along R-L: a picture's columns; 1 along A-P: its rows.
    for axis, at in ((1, inside[0]), (0, inside[1])):
        extent = (at.max() + 1 - at.min()) * SPACING[0] + 2 * MARGIN
        whole = case.image.shape[1 - axis] * SPACING[0]
        found = picture["image"].shape[axis] * SPACING[0]
        assert found == pytest.approx(min(extent, whole), abs=2 * SPACING[0])
    rows = np.nonzero(picture["wanted"] == 1)[0].mean(), np.nonzero(picture["wanted"] == 2)[0].mean()
    assert rows[0] > rows[1]  # the peripheral zone lies behind the other


def test_a_picture_through_the_slices(case: ZonesCase) -> None:
    """Coronal, superior up, outlines of both grids on the finer one."""
    shape, affine = geometry.resampled_grid(case.image.shape, case.image.affine, (1, 1, 4))
    fine, labels = phantom(shape, affine, seed=3), label_volume(shape, affine, 3)
    picture = picture_of(fine, labels, case.labels, "throughplane", case.image)
    assert picture["step"] == pytest.approx((1.0, 1.3))
    agree = (picture["found"] == picture["wanted"]).mean()
    assert 0.93 < agree < 1
    flipped = picture_of(fine, labels, labels, "throughplane", case.image)
    turned = replace(
        labels, array=labels.array[:, :, ::-1], affine=labels.affine @ np.diag([1, 1, -1, 1])
    )
    turned.affine[:3, 3] = (labels.affine @ [0, 0, shape[2] - 1, 1])[:3]
    image = replace(turned, array=fine.array[:, :, ::-1])
    again = picture_of(image, turned, turned, "throughplane", case.image)
    np.testing.assert_array_equal(again["image"], flipped["image"])


def test_a_picture_without_a_gland_is_whole(case: ZonesCase) -> None:
    nothing = labelled(case.labels, np.zeros(case.labels.shape))
    picture = picture_of(case.image, nothing, nothing, "inplane", case.image)
    assert picture["image"].shape == (46, 50)
