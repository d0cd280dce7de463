"""Super-resolution as MONAI transforms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Flipd

import mrisr
from mrisr.data.phantom import phantom
from mrisr.io import write_volume
from mrisr.transforms import LoadVolumed, SuperResolved


@pytest.fixture
def path(tmp_path: Path, models: Path) -> Path:
    """A coronal stack, whose slices lie along another array axis than the last."""
    volume = phantom((20, 18, 6), plane="coronal", spacing=(1.5, 1.5, 4.5), seed=3)
    return write_volume(volume, tmp_path / "t2.nii.gz")


@pytest.mark.parametrize(
    ("job", "options"),
    [("inplane", {"scale": 1.5}), ("throughplane", {"factor": 2.5, "slice_thickness": 4.0})],
)
def test_forth_and_back(path: Path, job: str, options: dict) -> None:
    """What the function gives; its inverse is the operator of the run, also of a batch in a pipeline."""
    load = LoadVolumed("t2")
    pipeline = Compose([load, SuperResolved("t2", job, **options), Flipd("t2", 0)])
    before, after = load({"t2": path})["t2"], pipeline({"t2": path})["t2"]
    expected = getattr(mrisr, job)(before, **options)
    np.testing.assert_array_equal(after.flip(1).numpy(), expected.numpy())
    assert after.meta["filename_or_obj"] == str(path)
    (one,) = decollate_batch(list_data_collate([{"t2": after}]))
    back = Compose(pipeline.transforms[1:]).inverse(one)["t2"]
    assert isinstance(back, MetaTensor)
    assert back.shape == before.shape
    torch.testing.assert_close(back.affine, before.affine)
    assert back.applied_operations == []
    made = mrisr.run(
        before, mrisr.InPlane(**options) if job == "inplane" else mrisr.ThroughPlane(**options)
    )
    grid = made.measurement.placed
    measured = made.measurement.operator(grid.stack(made.volume))
    told = grid.stack(replace(made.volume, array=back[0].numpy()))
    torch.testing.assert_close(told, measured, atol=1e-4, rtol=0)
