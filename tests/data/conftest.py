from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom


def write(path: Path, volume: Volume) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.asarray(volume.array, np.int16), volume.affine)
    nib.save(image, path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two patients, three volumes, and files that are none."""
    folder = tmp_path / "data"
    small = (24, 20, 6)
    write(folder / "one" / "t2w_ax.nii.gz", phantom(small, noise=0))
    write(folder / "one" / "t2w_cor.nii.gz", phantom(small, plane="coronal", noise=0))
    write(folder / "two" / "scan_T2w.nii.gz", phantom(small, noise=0, seed=1))
    write(folder / "two" / "dwi.nii.gz", phantom(small))
    (folder / "two" / "t2w_notes.txt").write_text("not an image")
    return folder
