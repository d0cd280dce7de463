"""Through-plane results against the patient's own coronal scan, on a phantom patient."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from mrisr.evaluation.case import Scale, Scored
from mrisr.evaluation.experiment import Switches
from mrisr.evaluation.images import evaluate
from mrisr.evaluation.methods import Method, load_methods
from mrisr.evaluation.reference import ReferenceCase, compare, correlation, reference_cases
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.io import write_volume
from mrisr.physics.measurement import measure_through_plane, noisy
from mrisr.planes import registration
from mrisr.planes.registration import Registration

FACTOR = 4.0
SCALE = Scale("reference", FACTOR)
SETTINGS: dict[str, Any] = {
    "job": "throughplane",
    "scoring": "reference",
    "kind": "gaussian",
    "factors": [FACTOR],
    "cases": ["unseen"],
    "views": "coronal",
    "region": None,
    "methods": [
        {"name": "bspline", "model": "bspline"},
        {"name": "projected", "model": "bspline", "consistency": 1},
        {"name": "network", "model": "partdiff-throughplane", "steps": 1},
    ],
}


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a patient of two scans, one who has the axial stack alone, and something else."""
    folder = tmp_path_factory.mktemp("patients")
    axial = phantom((52, 48, 12), spacing=(0.75, 0.75, 3.0), noise=0.01)
    coronal = phantom((40, 56, 5), plane="coronal", spacing=(0.8, 0.8, 3.0), noise=0.01)
    for case, name, volume in [
        ("unseen", "t2w_ax", axial),
        ("unseen", "t2w_cor", coronal),
        ("unseen-too", "t2w_ax", axial),
    ]:
        (folder / case).mkdir(exist_ok=True)
        write_volume(volume, folder / case / f"{name}.nii")
    return folder


@pytest.fixture(scope="module")
def case(patients: Path) -> ReferenceCase:
    """The patient with two scans, registered once for all tests."""
    return reference_cases(patients, settings(), ["unseen"])[0]


def settings(**changes: Any) -> EvaluationSettings:
    return EvaluationSettings.model_validate(SETTINGS | changes)


def methods(**changes: Any) -> dict[str, Method]:
    return {m.name: m for m in load_methods(settings(**changes), device="cpu")}


def upsampled(case: ReferenceCase, method: Method) -> Volume:
    """The whole axial stack as the product restores it."""
    return method.restore(measure_through_plane(case.axial, FACTOR).with_estimated_noise()).volume


@pytest.fixture(scope="module")
def truth(case: ReferenceCase) -> Volume:
    """The tissue on the target grid."""
    shape, affine = geometry.resampled_grid(case.axial.shape, case.axial.affine, (1, 1, FACTOR))
    return phantom(shape, affine, slice_thickness=0.75)


def test_truth_agrees_far_better_than_when_it_is_shifted(
    case: ReferenceCase, truth: Volume
) -> None:
    overlap = replace(case.overlap, motion=np.eye(4))
    right = compare(overlap, truth, 3.75)
    assert min(right.slices["ncc"]) > 0.97
    assert np.mean(right.slices["psnr"]) > 26
    for axis in range(3):
        affine = truth.affine.copy()
        affine[:3, 3] += affine[:3, axis] / truth.spacing[axis]  # 1 mm
        wrong = compare(overlap, replace(truth, affine=affine), 3.75)
        assert np.mean(wrong.slices["psnr"]) < np.mean(right.slices["psnr"]) - 2
        assert np.mean(wrong.slices["ncc"]) < np.mean(right.slices["ncc"]) - 0.01


def test_intensities_of_another_scanner_do_not_matter(case: ReferenceCase, truth: Volume) -> None:
    other = truth.with_array(truth.array.astype(np.float32) * 0.3 + 500)
    one, two = compare(case.overlap, truth, 3.75), compare(case.overlap, other, 3.75)
    for name, values in one.slices.items():
        np.testing.assert_allclose(values, two.slices[name], rtol=1e-3, atol=1e-3)
    assert two.facts["least_squares"][0] == pytest.approx(
        one.facts["least_squares"][0] / 0.3, rel=1e-3
    )


def test_noise_shows_as_texture_and_in_the_control(case: ReferenceCase, truth: Volume) -> None:
    """Not as less contrast everywhere, by which least squares hides it. Against a scan that a result fits,
    blur costs; noise that the scan does not have makes it pay."""

    def noisy(sd: float) -> Scored:
        noise = np.random.default_rng(0).normal(0, sd, truth.shape)
        return compare(case.overlap, truth.with_array(truth.array + noise), 3.75)

    clean, slight, strong = (noisy(sd) for sd in (0, 150, 700))
    assert slight.facts["least_squares"][0] < 0.97 * clean.facts["least_squares"][0]
    assert np.mean(slight.slices["texture"]) > np.mean(clean.slices["texture"]) + 1
    assert clean.facts["blurred"]["ncc"] < np.mean(clean.slices["ncc"]) - 0.005
    assert clean.facts["blurred"]["psnr"] < np.mean(clean.slices["psnr"]) - 0.5
    assert strong.facts["blurred"]["ncc"] > np.mean(strong.slices["ncc"]) + 0.02


def test_a_patient_scanned_twice_in_plane(models: Path, tmp_path: Path) -> None:
    """Noise of its own leaves the bands that both scans hold correlated, and no others."""
    (tmp_path / "twice").mkdir()
    for name, seed in (("t2w_ax", 0), ("t2w_ax_rep", 1)):
        scan = noisy(phantom((96, 96, 6), spacing=(0.6, 0.6, 3.0)), 0.03, seed)
        write_volume(scan, tmp_path / "twice" / f"{name}.nii")
    changes = {"job": "inplane", "kind": "bicubic", "factors": [2], "rows": 1, "cases": ["twice"]}
    entries = [{"name": "bicubic", "model": "bicubic"}]
    chosen = settings(**changes, methods=entries)
    (case,) = reference_cases(tmp_path, chosen, ["twice"])
    case.__dict__["registration"] = Registration(np.eye(4), np.zeros(3), np.zeros(3), (0.0, 0.0))
    (method, *_) = load_methods(chosen, device="cpu")
    coarse = case.score(method, Scale("reference", 2.0))
    itself = compare(case.overlap, case.axial, 2.0, "inplane")
    assert coarse.figures["noise"] < 1
    low, _, high = (np.mean(itself.slices[f"band{i}"]) for i in (1, 2, 3))
    assert low > high
    assert np.mean(coarse.slices["band1"]) == pytest.approx(low, abs=0.1)
    assert np.mean(coarse.slices["band3"]) < high


def test_correlation() -> None:
    image = np.arange(12.0).reshape(3, 4)
    assert correlation(image, 5 - 2 * image) == pytest.approx(-1)
    assert correlation(image, image * 7 + 3) == pytest.approx(1)
    assert correlation(np.ones((3, 4)), image) == 0


def test_scores_of_methods(models: Path, case: ReferenceCase) -> None:
    ready = methods()
    plain, projected = (case.score(ready[n], SCALE) for n in ("bspline", "projected"))
    network = case.score(ready["network"], SCALE)
    bands = {"band1", "band2", "band3"}
    assert set(plain.slices) == {"psnr", "ssim", "spectrum", "texture", "ncc"} | bands
    assert {len(v) for v in plain.slices.values()} == {len(case.overlap.boxes)}
    assert np.mean(plain.slices["ncc"]) > 0.8
    residual = projected.figures["residual"]
    assert residual < 1e-3 < plain.figures["residual"]
    assert projected.figures["consistency"] == pytest.approx(residual**2 * 1e5)
    assert np.mean(projected.slices["texture"]) > np.mean(plain.slices["texture"])
    assert [s.figures["evaluations"] for s in (plain, network)] == [0, 1]
    assert network.figures["seconds"] > 0
    pictures = plain.pictures, network.pictures
    assert pictures[0]["result"].shape == pictures[1]["reference"].shape
    np.testing.assert_array_equal(*(p["reference"] for p in pictures))
    assert plain.facts["overlap_slices"] == 5
    json.dumps(dict(plain.facts))


def test_the_part_is_restored_as_the_whole_would_be(models: Path, patients: Path) -> None:
    """Only the A-P rows that are compared are restored, to what the product makes of them."""
    wide = reference_cases(patients, settings(views="both"), ["unseen"])[0]
    method = methods(views="both")["network"]
    scored = wide.score(method, SCALE)
    expected = compare(wide.overlap, upsampled(wide, method), 3.75)
    for metric in ("psnr", "ncc"):
        np.testing.assert_allclose(scored.slices[metric], expected.slices[metric], rtol=2e-3)


def test_a_volume_made_elsewhere(models: Path, case: ReferenceCase, tmp_path: Path) -> None:
    write_volume(upsampled(case, methods()["bspline"]), tmp_path / "unseen.nii.gz")
    (tmp_path / "unseen.json").write_text(json.dumps({"seconds": 120.0, "cpu_seconds": 60.0}))
    entry = {"name": "other", "volumes": str(tmp_path / "{case}.nii.gz")}
    ready = methods(methods=[*SETTINGS["methods"], entry])
    here, there = case.score(ready["bspline"], SCALE), case.score(ready["other"], SCALE)
    for name, values in here.slices.items():
        np.testing.assert_allclose(there.slices[name], values, rtol=1e-3, atol=1e-3)
    assert there.figures["seconds"] == pytest.approx(120 / 48)  # the stack has 48 coronal reformats
    assert there.figures["cpu_seconds"] == pytest.approx(60 / 48)
    assert there.facts["made_elsewhere"] == {"seconds": 120.0, "cpu_seconds": 60.0}
    assert "residual" not in there.figures


def test_a_scan_that_does_not_register_is_one_line(
    models: Path, case: ReferenceCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "LIMITS", (1e-6, 10.0))
    fresh = replace(case)
    with pytest.raises(InputError, match=r"t2w_cor.nii: expected a scan that registers to .*shift"):
        fresh.score(methods()["bspline"], SCALE)


def test_the_digest_is_of_both_scans(case: ReferenceCase) -> None:
    assert replace(case).digest == case.digest
    for name in ("axial", "other"):
        scan: Volume = getattr(case, name)
        array = scan.array.copy()
        array[0, 0, 0] += 1
        affine = scan.affine.copy()
        affine[0, 3] += 0.5
        for changed in (scan.with_array(array), scan.with_array(scan.array, affine)):
            assert replace(case, **{name: changed}).digest != case.digest


def test_missing_patients_and_scans(patients: Path) -> None:
    with pytest.raises(InputError, match="expected the patients nobody"):
        reference_cases(patients, settings(), ["unseen", "nobody"])
    with pytest.raises(
        InputError, match="unseen-too: expected a scan that is coronal, found axial"
    ):
        reference_cases(patients, settings(cases=["unseen-too"]), ["unseen-too"])
    found = reference_cases(patients, settings(), ["unseen", "unseen-too"])
    assert [case.name for case in found] == ["unseen"]
    with pytest.raises(
        InputError, match="expected an axial and a coronal scan of one of unseen-too"
    ):
        reference_cases(patients, settings(), ["unseen-too"])


def test_by_one_command(
    models: Path, patients: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"model": None, "planes": [], "reference": None, "crop": 320}
    config = write(**changes | SETTINGS)
    done = evaluate(config, patients, tmp_path / "out", Switches(device="cpu"))
    assert not done.failures
    assert [r.method for r in done.results] == ["bspline", "projected", "network"]
    assert "a reference, not the truth" in (tmp_path / "out" / "results.md").read_text()
