"""The released models on real prostate MRI, where it lies beside the checkout."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import mrisr
from mrisr.core import geometry
from mrisr.core.options import ThroughPlane
from mrisr.core.volume import Volume, VolumeFile
from mrisr.io import read_volume, write_volume
from mrisr.planes.joint import gland_centre, overlap_centre
from mrisr.runs.results import upsample

EDGE, SLICES = 96, 5


def centre(volume: Volume) -> Volume:
    """The middle of a volume: up to 96 x 96 pixels of 5 slices, where it lay."""
    size = [SLICES if a == volume.slice_axis else EDGE for a in range(3)]
    starts = [max(0, (n - s) // 2) for n, s in zip(volume.shape, size, strict=True)]
    affine = volume.affine.copy()
    affine[:3, 3] = (affine @ [*starts, 1])[:3]
    cut = tuple(slice(start, start + s) for start, s in zip(starts, size, strict=True))
    return volume.with_array(np.ascontiguousarray(volume.array[cut]), affine)


def at_voxels_of(source: Volume, result: Volume, shift_mm: float = 0.0) -> np.ndarray:
    """The result at the world positions of the source's voxel centres, moved along its first axis."""
    index = np.stack(np.meshgrid(*map(np.arange, source.shape), indexing="ij"))
    index = index + np.reshape([shift_mm / source.spacing[0], 0, 0], (3, 1, 1, 1))
    to_result = np.linalg.inv(result.affine) @ source.affine
    there = np.tensordot(to_result[:3, :3], index, 1) + to_result[:3, 3].reshape(3, 1, 1, 1)
    return map_coordinates(result.array.astype(np.float64), there, order=1, mode="nearest")


def overlays(source: Volume, result: Volume) -> None:
    """The result correlates with the source where it should, and best there; not with its noise, which it
    leaves out."""
    step = 0.25 * float(source.spacing[0])
    agreement = [
        np.corrcoef(at_voxels_of(source, result, s).ravel(), source.array.ravel())[0, 1]
        for s in (-step, 0.0, step)
    ]
    assert agreement[1] > 0.97
    assert agreement[1] > max(agreement[0], agreement[2])


@pytest.mark.parametrize("name", ["t2w_ax", "t2w_cor", "t2w_sag"])
def test_in_plane_overlays_on_the_study(shared: Path, tmp_path: Path, name: str) -> None:
    study = centre(read_volume(shared / "data" / "ProstateX-0217" / f"{name}.nii.gz"))
    path = write_volume(study, tmp_path / "study.nii.gz")
    out = mrisr.inplane(path, scale=2, output=tmp_path / "out.nii.gz", device="cpu")
    result = read_volume(out)
    assert result.storage.dtype == study.storage.dtype
    assert geometry.axis_codes(result.affine) == geometry.axis_codes(study.affine)
    factors = [1 if a == study.slice_axis else 2 for a in range(3)]
    np.testing.assert_allclose(result.spacing * factors, study.spacing, rtol=1e-5)
    overlays(study, result)
    record = json.loads((tmp_path / "out.json").read_text())
    assert (
        0.01 < record["parameters"]["noise"] < 0.1
    )  # of the centre, whose range is half the scan's
    assert record["residual"]["rms_of_noise"] <= 1.3


def test_through_plane_overlays_on_the_study(shared: Path) -> None:
    study = centre(read_volume(shared / "data" / "ProstateX-0217" / "t2w_ax.nii.gz"))
    restored = upsample(VolumeFile(study), ThroughPlane(device="cpu"))
    np.testing.assert_allclose(restored.volume.spacing, study.spacing.min(), rtol=1e-5)
    assert restored.record.parameters["reformats"] == 2
    assert restored.record.residual.rms_of_noise <= 1.3
    # A slice of the source is the mean under its profile, here three thin slices around its centre.
    thick = sum(
        at_voxels_of(study, restored.volume.with_array(np.roll(restored.volume.array, k, 2)))
        for k in (-2, 0, 2)
    )
    assert np.corrcoef(thick[..., 1:-1].ravel(), study.array[..., 1:-1].ravel())[0, 1] > 0.97


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("job", ["inplane", "throughplane"])
def test_whole_studies(shared: Path, tmp_path: Path, job: str) -> None:
    """The contract on whole studies: DICOM and NIfTI of one series, under 6 GiB."""
    results = []
    for source in ("dicom/ProstateX-0000/t2_tse_tra", "data/ProstateX-0000/t2w_ax.nii.gz"):
        output = tmp_path / f"{len(results)}.nii.gz"
        if job == "inplane":
            mrisr.inplane(shared / source, scale=2, output=output, device="cpu")
        else:
            mrisr.throughplane(shared / source, output=output, device="cpu", slice_thickness=3.0)
        record = json.loads((tmp_path / f"{len(results)}.json").read_text())
        results.append(read_volume(output))
        assert record["residual"]["rms_of_noise"] <= 1.3
        assert record["peak_memory_gib"]["process"] < 6
    np.testing.assert_array_equal(results[0].array, results[1].array)
    np.testing.assert_allclose(results[0].affine, results[1].affine, atol=1e-4)


@pytest.mark.slow
def test_the_gland_is_found_where_it_was_outlined(shared: Path) -> None:
    """What registers the planes of a patient looks there."""
    patient = shared / "data" / "ProstateX-0001"
    outline = read_volume(patient / "gland.nii.gz")
    inside = np.argwhere(np.asarray(outline.array) > 0).mean(0)
    wanted = outline.affine[:3, :3] @ inside + outline.affine[:3, 3]
    volumes = [read_volume(patient / f"t2w_{plane}.nii.gz") for plane in ("ax", "cor", "sag")]
    found, note = gland_centre(volumes)
    assert note is None
    assert np.linalg.norm(found - wanted) < 3
    assert np.linalg.norm(overlap_centre(volumes) - wanted) < 15
