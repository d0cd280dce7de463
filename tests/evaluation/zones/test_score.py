"""Pictures through the gland, and PSNR where it lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.data.phantom import label_volume, phantom
from mrisr.evaluation.zones.case import ZonesCase, picture_of, psnr_of_gland
from tests.evaluation.zones.conftest import labelled


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
    """Axial, the anterior side up and the patient's right on the left."""
    picture = picture_of(case.image, case.labels, case.labels, "inplane", case.image)
    image, found, wanted = picture.values()
    assert image.shape == found.shape == wanted.shape == (200, 200)
    assert 0 <= image.min() < image.max() <= 1
    np.testing.assert_array_equal(found, wanted)
    peripheral, transition = (np.argwhere(wanted == label).mean(axis=0) for label in (1, 2))
    assert peripheral[0] > transition[0]  # which lies in front of it
    middle = np.argwhere(wanted > 0).mean(axis=0)
    assert np.abs(middle - 99.5).max() < 20


def test_a_picture_through_the_slices(case: ZonesCase) -> None:
    """Coronal: both grids show the same place, and the order of the slices makes no difference."""
    shape, affine = geometry.resampled_grid(case.image.shape, case.image.affine, (1, 1, 4))
    fine, labels = phantom(shape, affine, seed=3), label_volume(shape, affine, 3)
    picture = picture_of(fine, labels, case.labels, "throughplane", case.image)
    assert 0.93 < (picture["found"] == picture["wanted"]).mean() < 1
    assert len(np.unique(picture["image"][:, 100])) > 20  # the fine grid's own voxels
    turned = affine @ np.diag([1, 1, -1, 1])
    turned[:3, 3] = (affine @ [0, 0, shape[2] - 1, 1])[:3]
    flipped = (replace(v, array=v.array[:, :, ::-1], affine=turned) for v in (fine, labels))
    again = picture_of(*flipped, case.labels, "throughplane", case.image)
    np.testing.assert_array_equal(again["image"], picture["image"])
