"""Segmentations that others wrote, and files that are none."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from mrisr.core.errors import InputError
from mrisr.data.phantom import label_volume
from mrisr.dicom.segmentation import PROSTATE_ZONES, read_segmentation
from mrisr.io import read_volume
from tests.dicom.frames import at, world
from tests.dicom.synthetic import hospital_series


@pytest.fixture
def series(tmp_path):
    return hospital_series(tmp_path / "series", size=48, slices=6)


@pytest.fixture
def labels(series):
    grid = read_volume(series)
    return label_volume(grid.shape, grid.affine)


@pytest.fixture
def foreign(tmp_path, series, labels):
    """A segmentation as others write it: empty planes left out, of any type."""
    import highdicom as hd

    def run(kind="BINARY", array=None):
        images = [pydicom.dcmread(p) for p in sorted(series.iterdir())]
        by_hand = hd.seg.SegmentAlgorithmTypeValues.MANUAL
        described = [
            hd.seg.SegmentDescription(s.number, s.name, s.category, s.type, by_hand)
            for s in PROSTATE_ZONES
        ]
        given = labels.array.transpose(2, 1, 0) if array is None else array
        made = hd.seg.Segmentation(
            images, given, kind, described, "1.2.3", 1, "1.2.4", 1, "m", "n", "1", "s"
        )
        made.save_as(tmp_path / "foreign.dcm")
        return tmp_path / "foreign.dcm"

    return run


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segmentations_of_others(foreign, labels, kind):
    back = read_segmentation(foreign(kind)).volume
    assert (back.array > 0).any(axis=(0, 1)).sum() == (labels.array > 0).any(axis=(0, 1)).sum()
    np.testing.assert_array_equal(back.array, at(labels, world(back)))


def test_what_is_no_label_volume(tmp_path, series, foreign, labels):
    stack = np.stack([labels.array.transpose(2, 1, 0) > 0] * 2, axis=-1).astype(np.uint8)
    path = foreign(array=stack)
    with pytest.raises(InputError, match="segments that do not overlap"):
        read_segmentation(path)
    with pytest.raises(InputError, match="fractional"):
        read_segmentation(foreign("FRACTIONAL"))
    path = foreign()
    with pytest.raises(InputError, match="at most 100 voxels"):
        read_segmentation(path, max_voxels=100)
    whole = path.read_bytes()
    others = [series / "IM0001", tmp_path / "missing.dcm"]
    for kept in (0, 200, len(whole) // 2, len(whole) - 8):
        others.append(tmp_path / f"{kept}.dcm")
        others[-1].write_bytes(whole[:kept])
    for other in others:
        with pytest.raises(InputError, match="expected a DICOM segmentation") as caught:
            read_segmentation(other)
        assert "\n" not in str(caught.value)
