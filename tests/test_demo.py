"""The demo, on a part of its field of view: what it writes, and that the released models gain."""

import json
from pathlib import Path

import numpy as np
import pytest

from mrisr.core import geometry
from mrisr.core.errors import OutputError
from mrisr.demo import run_demo, score, study_of, truths
from mrisr.io import read_volume
from tests.centroid import world_centroid

SHARE = 0.4
JOBS = {"inplane-x4": (4, 4, 1), "throughplane-x6": (1, 1, 6)}


def written() -> set[str]:
    kinds = ("study_{}.nii.gz", "truth_{}.nii.gz", "result_{}.nii.gz", "result_{}.json", "{}.png")
    return {kind.format(job) for kind in kinds for job in JOBS}


def gains(folder: Path) -> dict[str, tuple[float, float]]:
    """PSNR and SSIM over interpolation, from the records."""
    out = {}
    for job in JOBS:
        scores = json.loads((folder / f"result_{job}.json").read_text())["phantom_psnr_ssim"]
        (a, b), (c, d) = scores["interpolated"], scores["super_resolved"]
        out[job] = (c - a, d - b)
    return out


def test_what_it_writes(models: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    text = run_demo(tmp_path / "new" / "demo", share=0.2, device="cpu", report=lines.append)
    folder = tmp_path / "new" / "demo"
    assert {p.name for p in folder.iterdir()} == written()
    assert lines[0] == "making the phantom"
    for job, factors in JOBS.items():
        assert job in text
        study, truth, result = (
            read_volume(folder / f"{kind}_{job}.nii.gz") for kind in ("study", "truth", "result")
        )
        shape, affine = geometry.resampled_grid(study.shape, study.affine, factors)
        assert truth.shape == result.shape == shape
        for volume in (truth, result):
            np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
        record = json.loads((folder / f"result_{job}.json").read_text())
        assert record["residual"]["rms_of_noise"] <= 1.3
    run_demo(folder, share=0.1, device="cpu")  # a second demo replaces the first
    assert {p.name for p in folder.iterdir()} == written()


def test_the_study_is_where_the_phantom_is() -> None:
    for _, truth, settings in truths(0.2):
        study = study_of(truth, settings)
        a, b = (world_centroid(v.array, v.affine) for v in (study, truth))
        assert np.linalg.norm(a - b) < 0.1  # borders count
        assert study.plane == truth.plane == "axial"


def test_scores() -> None:
    _, truth, _ = next(truths(0.2))
    assert score(truth, truth)[1] == pytest.approx(1)
    noise = np.random.default_rng(0).normal(0, 0.1 * truth.array.max(), truth.shape)
    worse = truth.with_array((truth.array + noise).clip(0).astype(np.uint16))
    assert 17 < score(worse, truth)[0] < 25


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        run_demo(tmp_path / "file" / "demo")


@pytest.mark.slow
def test_the_released_models_beat_interpolation(tmp_path: Path) -> None:
    """On a phantom, which is nothing they were trained on."""
    run_demo(tmp_path, share=SHARE, device="cpu")
    for psnr, ssim in gains(tmp_path).values():
        assert psnr > 0.4
        assert ssim > 0.01
