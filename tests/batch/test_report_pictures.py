"""Cuts, outlines and pictures of a study's page: the same points of the world in all of them."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrisr.batch.report import pictures
from mrisr.batch.report.page import read_study
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume, phantom_affine
from mrisr.dicom.segments import PROSTATE_ZONES
from mrisr.io import read_volume, write_json, write_volume
from mrisr.view.qc import ROWS, ZONE_COLOURS
from mrisr.zones.labels import ZONES
from tests.batch.conftest import record_of, repeated, scanned, write_made

SHAPE = (90, 80, 14)


@pytest.fixture(scope="module")
def gland() -> Volume:
    """Labels that do not lie in the middle of an oblique grid."""
    affine = phantom_affine(SHAPE, spacing=(0.8, 0.8, 3.0), obliquity=10)
    affine[:3, 3] += [6, -4, 5]
    return label_volume(SHAPE, affine)


def vertices(path: str) -> np.ndarray:
    """The vertices of a path in pixels."""
    start = [int(v) for v in re.findall(r"M(-?\d+) (-?\d+)l", path)[0]]
    steps = np.array(re.findall(r"-?\d+", path.split("l")[1]), dtype=float).reshape(-1, 2)
    return np.vstack([start, start + np.cumsum(steps, axis=0)]) / pictures.UNITS


def test_an_outline_runs_along_the_border() -> None:
    rows, columns = np.mgrid[:90, :120] + 0.5
    disc = np.hypot(rows - 40, columns - 70) < 25
    points = vertices(pictures.outline(disc))
    assert np.hypot(points[:, 1] - 40, points[:, 0] - 70) == pytest.approx(25, abs=0.6)
    assert len(points) > 40


def test_outlines_are_closed_at_the_edge_have_holes_and_tell_zones_apart() -> None:
    labels = np.full((40, 50), np.nan, dtype=np.float32)
    labels[:, :20] = ZONES["PZ"]
    labels[10:30, 5:15] = np.nan
    path = pictures.zone_paths(labels)["PZ"]
    assert path.count("M") == path.count("z") == 2
    assert vertices(path).min() > -1
    assert list(pictures.zone_paths(labels)) == ["PZ"]
    labels[10:30, 5:15] = ZONES["TZ"]
    assert list(pictures.zone_paths(labels)) == ["PZ", "TZ"]


def test_colours_are_those_of_the_dicom_segmentations() -> None:
    assert {ZONES[zone]: colour for zone, colour in ZONE_COLOURS.items()} == {
        segment.number: segment.colour for segment in PROSTATE_ZONES
    }


def test_the_frame_lies_about_the_gland(gland: Volume) -> None:
    frame = pictures.gland_frame(gland, gland)
    index = np.argwhere(gland.array > 0)
    world = index @ gland.affine[:3, :3].T + gland.affine[:3, 3]
    in_frame = (world - frame.centre) @ frame.directions
    assert np.abs(in_frame.min(axis=0) + in_frame.max(axis=0)).max() < 5
    size = np.ptp(in_frame, axis=0).max()
    assert size < frame.extent_mm < 1.6 * size + 2
    slices = {int(p.label.split()[1]) - 1 for p in frame.positions}
    assert slices <= set(np.unique(index[:, 2]))
    assert len(slices) <= pictures.SLICES
    for position in frame.positions:  # each cut lies in the slice that it names
        at = np.linalg.inv(gland.affine) @ [*frame.at(position.offset_mm), 1]
        assert at[2] == pytest.approx(int(position.label.split()[1]) - 1, abs=1e-6)


def test_stray_voxels_do_not_move_the_frame(gland: Volume) -> None:
    wanted, array = pictures.gland_frame(gland, gland), gland.array.copy()
    array[0, 0, 0] = 1
    found = pictures.gland_frame(gland, gland.with_array(array))
    assert np.linalg.norm(found.centre - wanted.centre) < 2
    assert found.extent_mm == pytest.approx(wanted.extent_mm, abs=4)


def test_without_zones_the_frame_lies_in_the_middle_whatever_the_order_on_disk() -> None:
    volume, _ = scanned(0)
    frame = pictures.gland_frame(volume, None)
    middle = (volume.affine @ [*((np.array(volume.shape) - 1) / 2), 1])[:3]
    np.testing.assert_allclose(frame.centre, middle, atol=1e-9)
    assert frame.extent_mm == pictures.FIELD_MM
    assert frame.positions[0].label == "slice 1 of 12, counted from the feet"
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (volume.shape[2] - 1)
    affine[:3, 2] *= -1
    found = pictures.gland_frame(Volume(volume.array[:, :, ::-1], affine), None)
    for one, other in zip(found.positions, frame.positions, strict=True):
        assert (one.label, one.offset_mm) == (other.label, pytest.approx(other.offset_mm))


def decoded(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        assert picture.mode == "L"
        return np.asarray(picture).astype(float)


def test_pictures_show_the_volumes_at_the_same_place(tmp_path: Path) -> None:
    (viewer,), problems = pictures.make_pictures(read_study(write_made(tmp_path / "sub-01")))
    assert problems == []
    assert [x.key for x in viewer.left] == ["measured", "interpolated"]
    assert [x.title for x in viewer.right] == ["through-plane ×3", "in-plane ×2"]
    axial, coronal, _ = viewer.figures
    assert tuple(f.plane for f in viewer.figures) == ROWS
    shown = {(p.layer.key, p.position): p for p in axial.pictures}
    assert len(shown) == 4 * len(axial.positions)
    assert decoded(shown["measured", 0].image).shape == (axial.height, axial.width)
    # The upsampled phantom repeats the measured voxels, 7 brighter: the pictures agree.
    for position in range(len(axial.positions)):
        measured = decoded(shown["measured", position].image)
        for layer in ("throughplane", "inplane-x2"):
            difference = decoded(shown[layer, position].image) - measured
            assert np.median(difference) == pytest.approx(2, abs=2)
            assert np.percentile(np.abs(difference), 99) < 14
        other = decoded(shown["interpolated", position].image)
        assert np.corrcoef(other.ravel(), measured.ravel())[0, 1] > 0.9
    middle = shown["measured", axial.start]
    assert set(middle.outlines) == {"PZ", "TZ"}
    assert axial.reference[axial.start] == middle.outlines  # the same labels in this tree
    assert len(coronal.lines) == len(axial.positions)
    assert coronal.lines[0] > coronal.lines[-1]  # the first cut lies nearest to the feet


def test_the_standard_deviation_has_pictures_of_its_own(tmp_path: Path) -> None:
    """Black where the result is sure, white where it is least sure."""
    folder = write_made(tmp_path / "sub-01")
    fine = read_volume(folder / "upsampled" / "inplane-x2.nii.gz")
    values = np.zeros(fine.shape, np.float32)
    values[fine.shape[0] // 2 :] = 5
    (folder / "uncertainty").mkdir()
    write_volume(Volume(values, fine.affine), folder / "uncertainty" / "inplane-x2.nii.gz")
    (viewer,), problems = pictures.make_pictures(read_study(folder))
    assert problems == []
    layer = viewer.right[-1]
    assert [x.key for x in viewer.right] == ["throughplane", "inplane-x2", "sd:inplane-x2"]
    assert layer.title == "standard deviation of in-plane ×2 (white: 5)"
    axial = viewer.figures[0]
    (image,) = (decoded(p.image) for p in axial.pictures if (p.layer, p.position) == (layer, 0))
    half = image.shape[1] // 2
    sides = sorted((np.median(image[:, : half - 8]), np.median(image[:, half + 8 :])))
    assert sides[0] < 5 < 250 < sides[1]


def test_what_cannot_be_read_is_told_and_left_out(tmp_path: Path) -> None:
    folder = write_made(tmp_path / "sub-01")
    for path in (folder / "upsampled" / "inplane-x2.nii.gz", folder / "zones" / "source.nii.gz"):
        path.write_bytes(path.read_bytes()[:400])
    (viewer,), problems = pictures.make_pictures(read_study(folder))
    assert [x.key for x in viewer.right] == ["throughplane"]
    assert len(problems) == 2
    assert all("cannot be read" in p and str(tmp_path) not in p for p in problems)


@pytest.mark.slow
def test_other_scans_can_be_seen_beside_and_have_a_viewer_of_what_is_made_of_them(
    tmp_path: Path,
) -> None:
    folder = write_made(tmp_path / "sub-01", labels=False)
    axial = read_volume(folder / "source" / "axial.nii.gz")
    write_volume(axial, folder / "source" / "coronal.nii.gz")
    (viewer,), _ = pictures.make_pictures(read_study(folder))
    assert [x.title for x in viewer.left] == ["measured", "interpolated", "coronal scan"]
    write_volume(repeated(axial, (1, 1, 2)), folder / "upsampled" / "coronal-x2.nii.gz")
    record = record_of("throughplane", {"factor": 2.0}, input={"plane": "coronal"})
    write_json(folder / "upsampled" / "coronal-x2.json", record)
    viewers, _ = pictures.make_pictures(read_study(folder))
    assert {v.plane: [x.key for x in v.right] for v in viewers} == {
        "axial": ["throughplane", "inplane-x2"],
        "coronal": ["coronal-x2"],
    }
