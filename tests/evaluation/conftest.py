"""A cache of phantoms, and evaluation files over it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mrisr.data.phantom import phantom
from mrisr.data.prepare import prepare
from mrisr.io import write_volume

#: Methods of the small models: an interpolation, the same projected, and a model in three ways.
METHODS: list[dict[str, Any]] = [
    {"name": "bicubic-sharp", "model": "bicubic-sharp"},
    {"name": "projected", "model": "bicubic-sharp", "consistency": 1},
    {"name": "default"},
    {"name": "three", "steps": 3, "eta": 1},
    {"name": "zero", "model": "zero-inplane"},
]
SETTINGS: dict[str, Any] = {
    "job": "inplane",
    "model": "partdiff-inplane",
    "planes": ["axial"],
    "kind": "bicubic",
    "factors": [2, 4],
    "crop": 48,
    "reference": "zero",
    "methods": METHODS,
}
THROUGH: dict[str, Any] = {"job": "throughplane", "planes": ["coronal"], "kind": "gaussian"}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one patient the small models call theirs and two that they do not."""
    folder = tmp_path_factory.mktemp("evaluation")
    for seed, (case, plane, slices) in enumerate(
        [
            ("seen", "axial", 2),
            ("unseen", "axial", 2),
            ("unseen-too", "axial", 4),
            ("unseen", "coronal", 3),
        ]
    ):
        volume = phantom((56, 52, slices), plane=plane, spacing=(0.8, 0.8, 3.0), seed=seed)
        path = folder / "data" / case / f"t2w_{plane}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(volume, path)
    prepare(folder / "data", folder / "cache")
    return folder / "cache"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes an evaluation file, with changes of ``SETTINGS`` or of other settings."""

    def file(settings: dict[str, Any] = SETTINGS, **changes: Any) -> Path:
        path = tmp_path / "evaluate.yaml"
        path.write_text(yaml.safe_dump(settings | changes))
        return path

    return file


@pytest.fixture
def own(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small models that a test may change."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    monkeypatch.setenv("MRISR_MODELS", str(folder))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a report."""
    return tmp_path / "out"
