"""A small cache of phantoms: patients that the small models call theirs, and some that they do not."""

from pathlib import Path

import pytest

from mrisr.data.phantom import phantom
from mrisr.data.prepare import prepare
from mrisr.io import write_volume

STACKS = [
    ("seen", "axial", 3),
    ("seen", "coronal", 3),
    ("unseen", "axial", 4),
    ("unseen", "coronal", 3),
    ("unseen-too", "axial", 4),
    ("stranger", "axial", 2),
]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analysis")
    for seed, (case, plane, slices) in enumerate(STACKS):
        volume = phantom((64, 60, slices), plane=plane, spacing=(0.8, 0.8, 3.0), seed=seed)
        path = folder / "data" / case / f"t2w_{plane}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(volume, path)
    prepare(folder / "data", folder / "cache")
    return folder / "cache"
