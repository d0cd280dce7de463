"""Labelled stacks: found, kept from models that were trained on them, restored, segmented and scored."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Segmenting
from mrisr.core.volume import Volume
from mrisr.data.phantom import label_volume, phantom
from mrisr.evaluation.case import Scale
from mrisr.evaluation.methods import Method, load_methods
from mrisr.evaluation.settings import MethodEntry, ZonesSettings
from mrisr.evaluation.zones.case import (
    Frozen,
    ZonesCase,
    crops,
    find_cases,
    load_frozen,
    picture_of,
    psnr_of_gland,
)
from mrisr.io import read_volume, write_volume
from mrisr.models.card import card_path, read_zones_card
from mrisr.planes import joint
from mrisr.zones.segmenter import Segmentation
from tests.evaluation.zones.conftest import (
    SETTINGS,
    SHAPE,
    SPACING,
    THROUGH,
    Oracle,
    Thresholds,
    case_of,
    labelled,
)
from tests.planes.conftest import stack

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


@pytest.mark.parametrize(
    ("times", "shift", "words"),
    [
        (1, 0.5, r"zones\.nii: expected labels on the grid of .*t2w_ax\.nii"),
        (2, 0.0, "expected the labels 0, 1, 2, found 4"),
    ],
)
def test_labels_that_are_none_of_the_images(
    find: Find, one: Path, times: int, shift: float, words: str
) -> None:
    labels = read_volume(one / "unseen" / "zones.nii")
    moved = labels.affine.copy()
    moved[2, 3] += shift
    wrong = labels.with_array(labels.array * times, moved)
    write_volume(wrong, one / "unseen" / "zones.nii", force=True)
    with pytest.raises(InputError, match=words):
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


# --- scores ---------------------------------------------------------------------------------------

ORIGINAL = Method(MethodEntry(name="original image"))


def method_of(case: ZonesCase, name: str) -> Method:
    return next(m for m in load_methods(case.settings, device="cpu") if m.name == name)


@pytest.mark.parametrize(
    ("changes", "scale", "shape"),
    [
        (SETTINGS, Scale("degraded", 2), (50, 46, 13)),
        (SETTINGS, Scale("degraded", 4), (48, 44, 13)),
        (SETTINGS, Scale("degraded", 8), (48, 40, 13)),
        (SETTINGS, Scale("measured", 8), SHAPE),
        (THROUGH, Scale("degraded", 2), (50, 46, 12)),
        (THROUGH, Scale("degraded", 6), (50, 46, 12)),
    ],
)
def test_a_stack_is_cropped_to_what_the_factor_divides(
    changes: Any, scale: Scale, shape: tuple[int, int, int]
) -> None:
    """Evenly from both ends: the middle stays where it is, or moves by half a voxel."""
    case = case_of(changes=changes)
    image, labels = case.part(scale)
    assert image.shape == labels.shape == shape
    assert np.array_equal(image.affine, labels.affine)
    middles = [v.affine @ [*((np.array(v.shape) - 1) / 2), 1] for v in (case.image, image)]
    assert (np.abs(middles[0] - middles[1])[:3] <= np.array(SPACING) / 2 + 1e-9).all()


def test_too_few_voxels() -> None:
    with pytest.raises(UsageError, match="x14: phantom-axial has too few voxels"):
        crops([case_of(changes=THROUGH | {"factors": [14]})])


def test_a_segmenter_that_knows_the_anatomy(models: Path) -> None:
    """Perfect on the stack's own grid; on a finer one as good as labels of thick slices allow."""
    case = case_of(Oracle(3))
    original = case.score(ORIGINAL, Scale("degraded", 4))
    assert [original.figures[f"{z}.dice"] for z in ("PZ", "TZ")] == [1, 1]
    assert "PZ.agreement.dice" not in original.figures
    restored = case.score(method_of(case, "bicubic"), Scale("degraded", 4))
    assert [restored.figures[f"{z}.dice"] for z in ("PZ", "TZ")] == [1, 1]
    case = case_of(Oracle(3), THROUGH)
    found = case.score(method_of(case, "bspline"), Scale("measured", 4)).figures
    for zone in ("PZ", "TZ"):
        assert found[f"{zone}.dice"] > 0.93
        bias, volume = (found[f"{zone}.{n}"] for n in ("volume_bias_ml", "reference_ml"))
        assert abs(bias) < 0.05 * volume
    assert np.isnan(found["psnr"])


def test_a_segmenter_that_looks(models: Path, case: ZonesCase) -> None:
    """Agreement with the original's segmentation falls as the degradation grows, and so does the PSNR."""
    method = method_of(case, "bicubic")
    scores = [case.score(method, Scale("degraded", factor)) for factor in (2, 8)]
    near, far = ((s.figures["PZ.agreement.dice"], s.figures["psnr"]) for s in scores)
    assert 1 > near[0] > far[0] > 0
    assert near[1] > far[1]
    assert scores[0].figures["seconds"] > 0


def test_the_original_is_segmented_once(models: Path) -> None:
    segmenter = Thresholds()
    case = case_of(segmenter, SETTINGS | {"factors": [2, 4], "measured": [2]})
    for scale in case.settings.scales:
        for method in (ORIGINAL, *load_methods(case.settings, device="cpu")):
            case.score(method, scale)
    whole, cropped, fine = (50, 46, 13), (48, 44, 13), (100, 92, 13)
    assert sorted(segmenter.asked) == sorted([whole] * 3 + [cropped] * 3 + [fine] * 2)


def test_a_finer_volume_is_segmented_as_a_stack_of_thin_slices(models: Path) -> None:
    """Whatever the voxels' size: the slices are where they were."""
    seen: list[Volume] = []

    class Looks(Thresholds):
        def __call__(self, volume: Volume) -> Segmentation:
            seen.append(volume)
            return super().__call__(volume)

    case = case_of(Looks(), THROUGH)
    case.score(method_of(case, "bspline"), Scale("measured", 4))
    assert (seen[-1].shape, seen[-1].plane) == ((50, 46, 52), "axial")
    assert seen[-1].slice_thickness == pytest.approx(1.0)


def test_the_digest_is_that_of_voxels_labels_and_segmenter(case: ZonesCase) -> None:
    same = replace(case, image=replace(case.image, name="other"), seen=("model",))
    assert same.digest == case.digest
    other = Thresholds()
    other.sha256 = ""
    assert replace(case, frozen=Frozen(other)).digest != case.digest
    for name in ("image", "labels"):
        volume = getattr(case, name)
        array = volume.array.copy()
        array[0, 0, 0] += 1
        assert replace(case, **{name: replace(volume, array=array)}).digest != case.digest


def test_the_bundled_segmenter_is_known_by_its_card() -> None:
    frozen = load_frozen(Segmenting(device="cpu"))
    card = read_zones_card(card_path("zones"))
    assert (frozen.segmenter.name, frozen.trained) == ("zones", card.training.cases)
    cropped = load_frozen(Segmenting(device="cpu", margin=0.2))
    assert cropped.segmenter.sha256 != frozen.segmenter.sha256


# --- pictures, and PSNR of the gland ---------------------------------------------------------------


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


def test_zones_of_all_planes_that_a_method_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "segmented_centre", lambda volume: np.zeros(3))
    entry = {"name": "joined", "model": "bspline", "planes": ["coronal"]}
    changes = THROUGH | {"factors": [], "measured": [3], "methods": [entry]}
    settings = ZonesSettings(**SETTINGS | changes)
    axial, coronal = stack("axial"), stack("coronal")
    labels = label_volume(axial.shape, axial.affine, 0)
    case = ZonesCase("a", "t2w", axial, labels, settings, Frozen(Oracle(0)), {"coronal": coronal})
    (method,) = load_methods(settings, device="cpu")
    scored = case.score(method, Scale("measured", 3))
    (used,) = scored.facts["planes"]
    assert (used["plane"], used["left_out"]) == ("coronal", None)
    assert scored.figures["PZ.dice"] > 0.9  # found on 1.4 mm, brought back to slices of 4.2 mm
    other = replace(case, further={})
    assert other.digest != case.digest
    with pytest.raises(InputError, match="one that is coronal"):
        other.score(method, Scale("measured", 3))
