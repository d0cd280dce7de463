"""Labels that belong to an image: values, names and axes as converters and editors leave them."""

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.labels import zone_labels
from mrisr.core.volume import Storage, Volume
from mrisr.data.labels import read_labels
from mrisr.data.phantom import label_volume, phantom_affine
from mrisr.io import write_volume

SHAPE = (20, 18, 6)
AFFINE = phantom_affine(SHAPE, spacing=(2.0, 2.0, 4.0), obliquity=12.0)
ZONES = label_volume(SHAPE, AFFINE)
IMAGE = Volume(np.zeros(SHAPE), AFFINE, name="t2w_ax.nii.gz")


def saved(path: Path, array: Any, affine: Any = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def moved(mm: float = 0.0, spacing: float = 1.0) -> np.ndarray:
    affine = AFFINE @ np.diag([1.0, 1.0, spacing, 1.0])
    affine[:3, 3] += [mm, 0, 0]
    return affine


def test_values_blurred_by_a_conversion(tmp_path: Path) -> None:
    blurred = (ZONES.array * np.float32(0.99999994)).astype(np.float32)
    file = read_labels(saved(tmp_path / "zones.nii.gz", blurred), IMAGE)
    np.testing.assert_array_equal(file.volume.array, ZONES.array)
    assert (file.volume.array.dtype, file.volume.storage) == (np.uint8, Storage(np.dtype(np.uint8)))
    assert file.notes[-1].startswith("labels rounded to whole numbers")
    exact = read_labels(saved(tmp_path / "exact.nii.gz", ZONES.array.astype(np.float32)), IMAGE)
    assert not [note for note in exact.notes if "rounded" in note]
    path = saved(tmp_path / "odd.nii.gz", ZONES.array * np.float32(1.02))
    with pytest.raises(
        InputError, match=r"odd\.nii\.gz: expected the labels 0, 1, 2, found 1\.019"
    ):
        read_labels(path, IMAGE)
    with pytest.raises(InputError, match=r"found 0\.98, 1\.96"):
        zone_labels(replace(ZONES, array=ZONES.array * 0.98))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_same_voxels_in_other_array_axes(tmp_path: Path, order: tuple[int, int, int]) -> None:
    inverse = np.eye(4)
    for signs in product((1, -1), repeat=3):
        flips = [axis for axis in range(3) if signs[axis] < 0]
        array = np.flip(ZONES.array.transpose(order), flips)
        index = np.zeros((4, 4))
        index[3, 3] = 1
        for new, old in enumerate(order):
            index[old, new] = signs[new]
            index[old, 3] = SHAPE[old] - 1 if signs[new] < 0 else 0
        name = f"{''.join(map(str, (*order, *signs)))}.nii.gz"
        file = read_labels(saved(tmp_path / name, array, AFFINE @ index), IMAGE)
        np.testing.assert_array_equal(file.volume.array, ZONES.array)
        np.testing.assert_array_equal(file.volume.affine, AFFINE)
        turned = not np.array_equal(index, inverse)
        assert any("brought from" in note for note in file.notes) == turned


@pytest.mark.parametrize("affine", [moved(0.004), moved(0.0198), moved(spacing=1.0001)])
def test_rounding_within_a_hundredth_of_a_voxel(tmp_path: Path, affine: np.ndarray) -> None:
    file = read_labels(saved(tmp_path / "zones.nii.gz", ZONES.array, affine), IMAGE)
    np.testing.assert_array_equal(file.volume.affine, AFFINE)
    np.testing.assert_array_equal(file.volume.array, ZONES.array)


@pytest.mark.parametrize(
    ("array", "affine", "found"),
    [
        (ZONES.array, moved(0.05), r"in another place \(up to 0\.05 mm apart\)"),
        (ZONES.array, moved(spacing=1.01), r"\(up to 0\.2 mm apart\)"),
        (ZONES.array[:, :, :4], AFFINE, "found 20x18x4 voxels of 2x2x4 mm"),
        (ZONES.array, AFFINE @ np.diag([-1.0, 1, 1, 1]), "axes RPS and not LPS"),
    ],
)
def test_labels_of_other_voxels(tmp_path: Path, array: Any, affine: Any, found: str) -> None:
    path = saved(tmp_path / "zones.nii.gz", array, affine)
    expected = r"zones\.nii\.gz: expected labels on the grid of t2w_ax\.nii\.gz \(20x18x6 voxels"
    with pytest.raises(InputError, match=f"{expected}.*{found}"):
        read_labels(path, IMAGE)


def with_names(path: Path, *names: str, tags: tuple[str, ...] = ()) -> Path:
    """A ``.seg.nrrd`` as Slicer writes it, of segments 1, 2 and so on, with codes of types and regions."""
    write_volume(ZONES, path, force=True)
    header, _, voxels = path.read_bytes().partition(b"\n\n")
    for k, name in enumerate(names):
        header += f"\nSegment{k}_Name:={name}\nSegment{k}_LabelValue:={k + 1}".encode()
        if tags:
            entry = f"TerminologyEntry:Types~SCT^123037004^Structure~{tags[k]}~^^"
            header += f"\nSegment{k}_Tags:=Status:done|{entry}|".encode()
    path.write_bytes(header + b"\n\n" + voxels)
    return path


def test_segments_of_slicer_go_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "zones.seg.nrrd"
    swapped = np.array([0, 2, 1])[ZONES.array]
    for names, expected in (
        (("Transition zone", "Peripheral zone"), swapped),
        (("PZ", "TZ"), ZONES.array),
        (("Segment_1", "Segment_2"), ZONES.array),
        ((), ZONES.array),
    ):
        file = read_labels(with_names(path, *names), IMAGE)
        np.testing.assert_array_equal(file.volume.array, expected)
    file = read_labels(with_names(path, "TZ", "PZ", "Urethra"), IMAGE)
    assert file.notes == ("segments left out: 3 'Urethra'",)
    with pytest.raises(InputError, match=r"seg\.nrrd: .*found 1 'Prostate', 2 'Lesion'"):
        read_labels(with_names(path, "Prostate", "Lesion"), IMAGE)


TISSUE = "SCT^85756007^Tissue~^^~Places~^^"
PZ_CODE, TZ_CODE = "SCT^279706003^Peripheral zone", "SRT^T-D0823^TZ"


@pytest.mark.parametrize(
    ("names", "tags", "note"),
    [
        (("Segment_1", "Segment_2"), (f"{TZ_CODE}~^^~Places~^^", PZ_CODE), ""),
        (("TZ", "PZ"), (TISSUE, TISSUE), ""),
        (
            ("", ""),
            (TISSUE.replace("~^^", f"~{TZ_CODE}"), TISSUE.replace("~^^", f"~{PZ_CODE}")),
            "",
        ),
        (("PZ", "TZ"), (TZ_CODE, PZ_CODE), "the codes of segments are followed, not their labels"),
    ],
)
def test_segments_of_slicer_go_by_their_codes(
    tmp_path: Path, names: tuple[str, ...], tags: tuple[str, ...], note: str
) -> None:
    path = with_names(tmp_path / "zones.seg.nrrd", *names, tags=tags)
    file = read_labels(path, IMAGE)
    np.testing.assert_array_equal(file.volume.array, np.array([0, 2, 1])[ZONES.array])
    assert note in " ".join(file.notes)
    assert bool(file.notes) == bool(note)


def test_segments_of_slicer_of_which_nobody_tells_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "zones.seg.nrrd"
    file = read_labels(with_names(path, "Segment_1", "Segment_2", tags=(TISSUE, TISSUE)), IMAGE)
    np.testing.assert_array_equal(file.volume.array, ZONES.array)
    other = with_names(path, "Segment_1", "Segment_2", tags=(PZ_CODE, TISSUE))
    with pytest.raises(InputError, match="found 1 'Segment_1', 2 'Segment_2'"):
        read_labels(other, IMAGE)


def test_grids_are_the_same_within_a_hundredth_of_a_voxel() -> None:
    assert geometry.same_grid(SHAPE, AFFINE, SHAPE, moved(0.019))
    assert not geometry.same_grid(SHAPE, AFFINE, SHAPE, moved(0.025))
    assert geometry.placed(ZONES.array, moved(1.0), AFFINE) is None
