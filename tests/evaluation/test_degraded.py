"""Scores of degraded slices: of what the product writes, by the metrics, and by closed forms."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mrisr
from mrisr import metrics
from mrisr.core.volume import Volume
from mrisr.data.cache import read_stacks
from mrisr.data.phantom import phantom
from mrisr.evaluation.case import Scale
from mrisr.evaluation.degraded import (
    DegradedCase,
    MeasuredCase,
    centre,
    measurement_of,
    stack_volume,
)
from mrisr.evaluation.methods import Method, load_methods
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.io import read_volume, write_volume
from mrisr.physics.measurement import degraded, noisy
from tests.evaluation.conftest import SETTINGS, THROUGH


def case_of(data: Path, name: str, **changes: Any) -> DegradedCase:
    settings = EvaluationSettings(**SETTINGS | changes)
    stack = next(s for s in read_stacks(data, settings.planes) if s.case == name)
    return DegradedCase(stack.case, stack.series, stack_volume(stack), settings)


def methods_of(case: DegradedCase | MeasuredCase) -> dict[str, Method]:
    return {m.name: m for m in load_methods(case.settings, device="cpu")}


def restored(case: DegradedCase, method: Method, factor: float) -> Volume:
    scale = Scale("degraded", factor)
    return method.restore(measurement_of(case.truth(factor), case.settings, scale)).volume


@pytest.mark.parametrize(
    ("method", "noise"),
    [("partdiff", 0.0), ("partdiff", 0.02), ("regression", 0.0), ("bicubic", 0.0)],
)
@pytest.mark.parametrize(("job", "factor"), [("inplane", 2.0), ("throughplane", 4.0)])
def test_what_is_scored_is_what_the_product_writes(
    data: Path, tmp_path: Path, job: Any, factor: float, method: str, noise: float
) -> None:
    """Voxel for voxel, by the bundled models, from a file that holds the degraded volume. By these factors
    its slices are its coarsest axis, which is how a reader of NIfTI tells them."""
    own = SETTINGS if job == "inplane" else SETTINGS | THROUGH
    entries = [{"name": "own", "method": method}]
    own = own | {"methods": entries, "model": None, "reference": None, "baseline": "own"}
    own["noise"] = noise
    case = case_of(data, "unseen", **own)
    truth = case.truth(factor)
    coarse = noisy(degraded(truth, job, factor, case.settings.kind), noise)
    write_volume(coarse, tmp_path / "coarse.nii")
    options: Any = {"method": method, "device": "cpu", "output": tmp_path / "fine.nii"}
    options["noise"] = noise
    name = "scale" if job == "inplane" else "factor"
    getattr(mrisr, job)(tmp_path / "coarse.nii", **options, **{name: factor})
    written = read_volume(tmp_path / "fine.nii").array
    found = restored(case, methods_of(case)["own"], factor)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(found.array, written)
    # and these voxels are what the figures are of
    score = case.score(methods_of(case)["own"], Scale("degraded", factor))
    images = (torch.from_numpy(v).clamp(0, 1)[:, None] for v in (written, truth.array))
    assert score.slices["psnr"] == pytest.approx(metrics.psnr(*images).tolist())


def test_a_score_is_what_the_metrics_say(models: Path, data: Path) -> None:
    case = case_of(data, "unseen-too")
    truth = case.truth(2.0)
    assert truth.shape == (4, 48, 48)
    measurement = measurement_of(truth, case.settings, Scale("degraded", 2.0))
    reference = torch.from_numpy(truth.array)[:, None]
    for method in methods_of(case).values():
        found = case.score(method, Scale("degraded", 2.0))
        volume = method.restore(measurement).volume
        scaled = torch.from_numpy(volume.array).clamp(0, 1)[:, None]
        for name in ("psnr", "ssim", "spectrum_error", "texture"):
            factors = [(2, 2)] * (name == "texture")
            expected = getattr(metrics, name)(scaled, reference, *factors).tolist()
            assert found.slices[name.removesuffix("_error")] == pytest.approx(expected, abs=2e-3)
        residual = measurement.residual(volume)["rms_of_range"]
        assert found.figures["residual"] == pytest.approx(residual, rel=1e-3, abs=1e-7)
        assert found.figures["consistency"] == pytest.approx(1e5 * residual**2, rel=2e-3, abs=1e-6)
        assert found.figures["seconds"] > 0
        assert found.pictures["reference"].shape == (48, 48)
        np.testing.assert_allclose(found.pictures["result"], scaled[2, 0].numpy(), atol=1e-4)
        assert (found.figures["residual"] < 3e-4) == (method.entry.consistency != 0)


def test_through_plane_degrades_rows_only_and_looks_along_them(models: Path, data: Path) -> None:
    entries = [{"name": "b", "model": "bspline"}]
    case = case_of(data, "unseen", **THROUGH, reference=None, methods=entries)
    truth = case.truth(4.0)
    measurement = measurement_of(truth, case.settings, Scale("degraded", 4.0))
    assert case.stack.plane == "coronal"
    assert measurement.y.shape == (12, 3, 48)  # thick slices, coronal images, columns
    assert measurement.views == (2,)  # the coronal stack is too coarse for sagittal images
    method = methods_of(case)["b"]
    x, reference = (
        torch.from_numpy(v.array).clamp(0, 1)[:, None] for v in (restored(case, method, 4.0), truth)
    )
    found = case.score(method, Scale("degraded", 4.0))
    expected = metrics.spectrum_error(x, reference, (-2,))
    assert found.slices["spectrum"] == pytest.approx(expected.tolist(), abs=2e-3)


def test_pictures_show_the_centre() -> None:
    image = np.zeros((320, 400), np.float32)
    image[160, 200] = 1
    cut = centre(image)
    assert cut.shape == (128, 160)
    assert cut[64, 80] == 1
    assert centre(image[:60, :50]).shape == (60, 50)


@pytest.mark.parametrize("job", ["inplane", "throughplane"])
def test_a_scan_as_it_was_measured_has_no_truth_but_noise(
    models: Path, data: Path, job: str
) -> None:
    settings = EvaluationSettings(
        **SETTINGS
        | {"job": job, "kind": "bicubic" if job == "inplane" else "gaussian", "scoring": "measured"}
        | {"model": f"partdiff-{job}", "reference": None, "methods": [{"name": "own"}]}
    )
    volume = noisy(phantom((56, 52, 4), spacing=(0.8, 0.8, 3.0)), 0.03)
    upright = np.moveaxis(volume.array, 2, 0)
    affine = volume.affine[:, [2, 0, 1, 3]]
    stack = replace(volume, array=upright, affine=affine, stacked_along=0)
    case = MeasuredCase("unseen", "t2w_ax", stack, settings)
    method = methods_of(case)["own"]
    scored = case.score(method, Scale("measured", 2.0))
    assert not scored.slices
    assert scored.facts["noise_level"] > 0.02
    exact = Method(replace(method.entry, consistency=1.0), method.model)
    copied = case.score(exact, Scale("measured", 2.0))
    assert copied.figures["residual"] < scored.figures["residual"]
    if job == "inplane":
        assert copied.figures["noise"] == pytest.approx(1, abs=0.01)
    assert scored.pictures["result"].shape == scored.pictures["reference"].shape
