"""What napari is given, without napari: layers that lie where the study lies."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mrisr
from mrisr.core.errors import UsageError
from mrisr.data.phantom import phantom
from mrisr.integrations import napari
from mrisr.io import write_volume

FOLDER = Path(mrisr.__file__).parent / "integrations" / "napari"


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_layer_lies_where_the_study_lies(plane: str, tmp_path: Path) -> None:
    volume = phantom((24, 20, 4), plane=plane, spacing=(0.8, 0.8, 3.0), obliquity=5.0)
    volume.array[15, 4, 2] = 5000
    write_volume(volume, tmp_path / "study.nii.gz")
    reader = napari.get_reader(str(tmp_path / "study.nii.gz"))
    assert reader is not None
    ((values, options, kind),) = reader(str(tmp_path / "study.nii.gz"))
    assert kind == "image"
    at = np.unravel_index(values.argmax(), values.shape)
    r, a, s = (volume.affine @ [15, 4, 2, 1])[:3]
    np.testing.assert_allclose((options["affine"] @ [*at, 1])[:3], [s, -a, -r], atol=1e-4)
    linear = np.abs(options["affine"][:3, :3])
    assert (
        linear.argmax(0) == [0, 1, 2]
    ).all()  # the slider and the axes of the picture are the body's
    low, high = options["contrast_limits"]
    assert 0 <= low < high < 5000


def test_a_result_lies_over_its_study(models: Path, tmp_path: Path) -> None:
    volume = phantom((24, 20, 4), spacing=(0.8, 0.8, 3.0))
    _, options, _ = napari.as_layer(volume, "study")
    values, finer, _ = napari.restored(options["metadata"], "study", "inplane", 2.0)
    assert (values.shape, finer["name"]) == ((4, 40, 48), "study inplane x2")
    corner = [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(finer["affine"] @ corner, options["affine"] @ corner, atol=1e-4)
    thinner, *_ = napari.restored(options["metadata"], "study", "throughplane", 2.0)
    assert thinner.shape == (8, 20, 24)
    with pytest.raises(UsageError, match="that mrisr has read"):
        napari.restored({}, "other", "inplane", 2.0)


def test_manifest() -> None:
    """It is valid, and every function that it names is there: napari's own engine says so."""
    if importlib.util.find_spec("npe2") is None:
        pytest.skip("needs npe2, of the extra dev")
    command = [sys.executable, "-m", "npe2", "validate", str(FOLDER / "napari.yaml"), "--imports"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "valid" in done.stdout + done.stderr
