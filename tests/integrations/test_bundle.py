"""A model as a MONAI bundle, run by MONAI."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from mrisr.data.phantom import phantom
from mrisr.io import read_volume, write_volume
from mrisr.transforms import LoadVolumed


@pytest.mark.parametrize("job", ["inplane", "throughplane"])
def test_the_same_voxels(
    tmp_path: Path, models: Path, run: Callable[..., tuple[int, str, str]], job: str
) -> None:
    bundle, data = tmp_path / "bundle", tmp_path / "data"
    assert run("export", f"partdiff-{job}", "-o", bundle) == (0, f"{bundle}\n", "")
    data.mkdir()
    path = write_volume(phantom((20, 18, 4), spacing=(1.5, 1.5, 4.5), seed=2), data / "a.nii.gz")
    flag = "--axial" if job == "throughplane" else "--input"
    expected = tmp_path / "expected.nii.gz"
    assert run(job, flag, path, "-o", expected, "-q")[0] == 0
    given = {
        "bundle_root": str(bundle),
        "dataset_dir": str(data),
        "output_dir": str(tmp_path / "out"),
    }
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"),
        logging_file=False,
        workflow_type="inference",
        **given,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    made = tmp_path / "out" / f"a_{job}.nii.gz"
    np.testing.assert_array_equal(read_volume(made).array, read_volume(expected).array)
    assert made.with_name(f"a_{job}.json").exists()
    # In memory, for pipelines of other programs: before rounding to the file's integers.
    image = workflow.parser.get_parsed_content("inferer")(LoadVolumed("image")({"image": path}))
    assert np.abs(image["image"][0].numpy() - read_volume(expected).array).max() <= 0.5 + 1e-3
