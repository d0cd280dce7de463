"""Labelled stacks: found, refused where labels lie elsewhere, kept from models that were trained on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.core.errors import InputError, UsageError
from mrisr.data.phantom import phantom
from mrisr.evaluation.methods import load_methods
from mrisr.evaluation.zones.cases import ZonesCase, chosen, find_cases, part_for
from mrisr.evaluation.zones.frozen import Frozen
from mrisr.evaluation.zones.settings import Scale, ZonesSettings
from mrisr.io import read_volume, write_volume
from tests.evaluation.zones.conftest import SETTINGS, SHAPE, SPACING, THROUGH, Thresholds

FROZEN = Frozen(Thresholds(), trained=("known",))
Find = Callable[..., list[ZonesCase]]


@pytest.fixture
def find(models: Path) -> Find:
    def run(data: Path, frozen: Frozen = FROZEN, report: Any = print, **changes: Any) -> Any:
        settings = ZonesSettings(**SETTINGS | changes)
        return find_cases(data, settings, load_methods(settings, device="cpu"), frozen, report)

    return run


@pytest.fixture
def one(patients: Path, tmp_path: Path) -> Path:
    """A folder with one patient of its own."""
    shutil.copytree(patients / "unseen", tmp_path / "data" / "unseen")
    return tmp_path / "data"


def test_patients_that_a_model_knows_are_left_out(find: Find, patients: Path) -> None:
    found = find(patients)
    assert [c.name for c in found] == ["unseen", "unseen-too"]
    assert all(c.seen == () and c.image.shape == c.labels.shape for c in found)
    found = find(patients, include_trained=True)
    seen = {c.name: c.seen for c in found}
    assert list(seen) == ["unseen", "unseen-too", "known", "seen"]
    assert seen["known"] == ("segmenter thresholds",)
    assert seen["seen"] == ("zero-inplane",)


def test_patients_that_are_named(find: Find, patients: Path) -> None:
    assert [c.name for c in find(patients, cases=["unseen-too"])] == ["unseen-too"]
    with pytest.raises(UsageError, match=r"thresholds was trained on known.*--allow-trained"):
        find(patients, cases=["unseen", "known"])
    with pytest.raises(InputError, match="expected labelled zones of unlabelled, found those of"):
        find(patients, cases=["unlabelled"])
    everywhere = Frozen(Thresholds(), trained=("known", "seen", "unseen", "unseen-too"))
    with pytest.raises(UsageError, match="trained on every labelled patient"):
        find(patients, everywhere)


def test_a_segmenter_that_says_nothing_of_its_training_knows_nobody(patients: Path) -> None:
    seen: dict[str, tuple[str, ...]] = {"a": (), "b": ("model",)}
    assert chosen(patients, ZonesSettings(**SETTINGS), seen) == ["a"]


def test_labels_on_another_grid_are_an_error(find: Find, one: Path) -> None:
    labels = replace(read_volume(one / "unseen" / "zones.nii"), source=None)
    moved = labels.affine.copy()
    moved[2, 3] += 0.5
    write_volume(labels.with_array(labels.array, moved), one / "unseen" / "zones.nii", force=True)
    with pytest.raises(
        InputError, match=r"zones\.nii: expected labels on the grid of .*t2w_ax\.nii"
    ):
        find(one)


def test_other_labels_are_an_error(find: Find, one: Path) -> None:
    labels = replace(read_volume(one / "unseen" / "zones.nii"), source=None)
    wrong = labels.with_array(labels.array * 2)
    write_volume(wrong, one / "unseen" / "zones.nii", force=True)
    with pytest.raises(InputError, match="expected the labels 0, 1, 2, found 4"):
        find(one)


def test_labels_belong_to_the_stack_on_their_grid(find: Find, one: Path) -> None:
    """Other stacks of the patient, axial or not, do not matter."""
    write_volume(phantom((20, 20, 4)), one / "unseen" / "a_t2w.nii")
    write_volume(phantom((24, 22, 4), plane="coronal"), one / "unseen" / "t2w_0.nii")
    (found,) = find(one)
    assert found.series == "t2w_ax"


def test_a_patient_without_an_axial_stack(find: Find, one: Path) -> None:
    shutil.move(one / "unseen" / "t2w_ax.nii", one / "kept.nii.txt")
    write_volume(phantom((24, 22, 4), plane="coronal"), one / "unseen" / "t2w_0.nii")
    lines: list[str] = []
    with pytest.raises(InputError, match="expected an axial stack with labels, found none"):
        find(one, report=lines.append)
    assert lines == ["left out: unseen, which has no axial stack"]
    with pytest.raises(InputError, match="unseen: expected an axial stack"):
        find(one, cases=["unseen"])


def test_nobody_is_labelled(find: Find, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_volume(phantom((24, 22, 4)), tmp_path / "a" / "t2w.nii")
    with pytest.raises(InputError, match="expected patients with labelled zones"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("changes", "scale", "shape"),
    [
        (SETTINGS, Scale("degraded", 2), (50, 46, 13)),
        (SETTINGS, Scale("degraded", 4), (48, 44, 13)),
        (SETTINGS, Scale("degraded", 8), (48, 40, 13)),
        (SETTINGS, Scale("degraded", 1.5), (50, 45, 13)),
        (SETTINGS, Scale("measured", 8), SHAPE),
        (THROUGH, Scale("degraded", 2), (50, 46, 12)),
        (THROUGH, Scale("degraded", 6), (50, 46, 12)),
    ],
)
def test_a_stack_is_cropped_to_what_the_factor_divides(
    case: ZonesCase, changes: Any, scale: Scale, shape: tuple[int, int, int]
) -> None:
    """Evenly from both ends: the middle stays where it is, or moves by half a voxel."""
    part = part_for(case, scale, ZonesSettings(**changes))
    assert part.image.shape == part.labels.shape == shape
    assert np.array_equal(part.image.affine, part.labels.affine)
    middles = [c.image.affine @ [*((np.array(c.image.shape) - 1) / 2), 1] for c in (case, part)]
    assert (np.abs(middles[0] - middles[1])[:3] <= np.array(SPACING) / 2 + 1e-9).all()
    assert (part is case) == (shape == SHAPE)


def test_too_few_voxels(case: ZonesCase) -> None:
    with pytest.raises(UsageError, match="x14: unseen t2w has too few voxels"):
        part_for(case, Scale("degraded", 14), ZonesSettings(**THROUGH))


def test_the_digest_is_that_of_voxels_and_labels(case: ZonesCase) -> None:
    same = replace(case, image=replace(case.image, name="other"), seen=("model",))
    assert same.digest == case.digest
    assert case.central((50, 46, 12)).digest != case.digest
    for volume in ("image", "labels"):
        other = getattr(case, volume)
        array = other.array.copy()
        array[0, 0, 0] += 1
        assert replace(case, **{volume: replace(other, array=array)}).digest != case.digest
