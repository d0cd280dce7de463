"""The two upsamplers as functions: the same kind of image comes back, and files appear whole or not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

import mrisr
from mrisr.core import geometry
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from mrisr.io import read_volume, write_volume
from tests.centroid import world_centroid
from tests.dicom.synthetic import SECRETS, hospital_series

SHAPE = (28, 24, 4)
UP: dict[str, tuple[Callable[..., Any], dict[str, float], tuple[int, int, int]]] = {
    "inplane": (mrisr.inplane, {"scale": 2.0}, (2, 2, 1)),
    "throughplane": (mrisr.throughplane, {"factor": 3.0}, (1, 1, 3)),
}


@pytest.fixture(autouse=True)
def _small(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs on the small models, in an empty working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def volume() -> Volume:
    return phantom(SHAPE, spacing=(0.8, 1.0, 3.0), obliquity=12, noise=0.02)


@pytest.fixture
def study(volume: Volume, tmp_path: Path) -> Path:
    return write_volume(volume, tmp_path / "t2w.nii.gz")


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- the same kind of image -----------------------------------------------------------------------


@pytest.mark.parametrize("job", UP)
def test_every_kind_gives_the_same_voxels(job: str, volume: Volume, study: Path) -> None:
    run, size, factors = UP[job]
    grid = geometry.resampled_grid(SHAPE, volume.affine, factors)[1]
    expected = read_volume(run(study, **size)).array

    image = nib.load(study)
    nifti = run(image, **size)
    assert type(nifti) is nib.Nifti1Image
    assert nifti.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(np.asarray(nifti.dataobj), expected)
    np.testing.assert_allclose(nifti.affine, grid, atol=1e-4)
    assert nifti.header.get_xyzt_units()[0] == "mm"

    itk = run(sitk.ReadImage(str(study)), **size)
    assert isinstance(itk, sitk.Image)
    assert itk.GetPixelID() == sitk.sitkUInt16
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, expected)
    np.testing.assert_allclose(itk.GetSpacing(), geometry.spacing(grid), atol=1e-4)
    np.testing.assert_allclose(itk.GetOrigin(), grid[:3, 3] * [-1, -1, 1], atol=1e-3)

    values = torch.from_numpy(volume.array.astype(np.float32))[None]
    tensor = run(MetaTensor(values, affine=torch.from_numpy(volume.affine)), **size)
    assert isinstance(tensor, MetaTensor)
    assert tensor.shape == (1, *expected.shape)
    assert tensor.dtype == torch.float32
    assert np.abs(tensor[0].numpy() - expected).max() <= 2  # a float is not rounded on the way
    np.testing.assert_allclose(tensor.affine, grid, atol=1e-6)

    same = run(volume, **size)
    assert isinstance(same, Volume)
    np.testing.assert_array_equal(same.array, expected)


def test_an_image_in_memory_is_not_written(volume: Volume) -> None:
    for more in ({"output": "x.nii.gz"}, {"qc": "x.png"}):
        with pytest.raises(TypeError, match="need an input path"):
            mrisr.inplane(volume, **more)
    assert files(Path.cwd()) == []


def test_unknown_kinds_and_options() -> None:
    with pytest.raises(TypeError, match="expected a nibabel image"):
        mrisr.inplane(np.zeros((4, 4, 4)))
    with pytest.raises(TypeError, match="sharpen"):
        mrisr.inplane("x.nii", sharpen=True)


# --- files ----------------------------------------------------------------------------------------


def test_the_output_is_named_after_input_and_job(study: Path) -> None:
    assert mrisr.inplane(str(study), scale=2.5) == Path.cwd() / "t2w_inplane-x2.5.nii.gz"
    assert mrisr.throughplane(study).name == "t2w_throughplane-isotropic.nii.gz"
    assert mrisr.throughplane(study, factor=3).name == "t2w_throughplane-x3.nii.gz"
    assert mrisr.throughplane(study, spacing=1.5).name == "t2w_throughplane-1.5mm.nii.gz"
    assert len(files(Path.cwd())) == 8  # each with its record
    assert files(study.parent) == ["t2w.nii.gz", "work"]  # nothing beside what is the user's


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd", ".mhd"])
def test_every_format(study: Path, tmp_path: Path, ending: str) -> None:
    first = read_volume(mrisr.inplane(study, scale=2.0))
    path = mrisr.inplane(study, scale=2.0, output=tmp_path / f"out{ending}")
    assert path == tmp_path / f"out{ending}"
    result = read_volume(path)
    np.testing.assert_array_equal(result.array, first.array)
    np.testing.assert_allclose(result.affine, first.affine, atol=1e-4)
    assert (tmp_path / "out.json").is_file()


def test_dicom_and_nifti_of_one_series_give_the_same(tmp_path: Path) -> None:
    folder = hospital_series(tmp_path / "series", size=24, slices=4, SliceThickness="3.5")
    study = write_volume(read_volume(folder), tmp_path / "series.nii.gz")
    for run, size, _ in UP.values():
        a = read_volume(run(study, output=tmp_path / "a.nii.gz", force=True, **size))
        b = read_volume(run(folder, output=tmp_path / "b.nii.gz", force=True, **size))
        grids = [world_centroid(v.array, v.affine) for v in (a, b)]
        np.testing.assert_allclose(*grids, atol=1e-3)
        aligned = nib.as_closest_canonical(nib.Nifti1Image(a.array, a.affine))
        other = nib.as_closest_canonical(nib.Nifti1Image(b.array, b.affine))
        np.testing.assert_array_equal(np.asarray(aligned.dataobj), np.asarray(other.dataobj))
        np.testing.assert_allclose(aligned.affine, other.affine, atol=1e-3)


def test_no_patient_in_any_output(tmp_path: Path) -> None:
    folder = hospital_series(tmp_path / "DOE^JANE", size=24, slices=4)
    path = mrisr.inplane(folder, scale=2, output=tmp_path / "out.nii", qc=tmp_path / "qc.png")
    for written in (path, tmp_path / "out.json", tmp_path / "qc.png"):
        content = written.read_bytes()
        assert not any(word.encode("latin-1") in content for word in (*SECRETS, "DOE"))


# --- what is refused; the rest are rows of the reliability table --------------------------------


def test_outputs_need_different_names(study: Path) -> None:
    with pytest.raises(OutputError, match="different names"):
        mrisr.inplane(study, output="out.nii.gz", qc="out.json")
    with pytest.raises(OutputError, match="different names"):
        mrisr.inplane(study, output="out.nii.gz", qc="out.nii.gz")


def test_bad_input_leaves_nothing(volume: Volume, tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume.array.astype(np.float32), volume.affine)
    image.dataobj[3, 3, 1] = np.nan
    nib.save(image, tmp_path / "nan.nii.gz")
    for run, size, _ in UP.values():
        with pytest.raises(InputError, match=r"nan\.nii\.gz"):
            run(tmp_path / "nan.nii.gz", **size)
    with pytest.raises(InputError, match="nothing at that path"):
        mrisr.inplane(tmp_path / "missing.nii.gz")
    with pytest.raises(UsageError, match="scale"):
        mrisr.inplane(write_volume(volume, tmp_path / "ok.nii.gz"), scale=20)
    assert files(Path.cwd()) == []


def test_a_model_by_its_path(study: Path, models: Path) -> None:
    path = mrisr.inplane(study, scale=2, model=str(models / "zero-inplane.safetensors"))
    record = json.loads(path.with_name("t2w_inplane-x2.json").read_text())
    assert record["model"]["name"] == "zero-inplane"
