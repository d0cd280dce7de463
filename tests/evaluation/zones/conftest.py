"""Labelled phantom patients, stand-ins for the segmenter, and files of the experiment."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.core.volume import Storage, Volume
from mrisr.data.phantom import label_volume, phantom
from mrisr.evaluation.settings import ZonesSettings
from mrisr.evaluation.zones.case import Frozen, ZonesCase
from mrisr.io import write_volume
from mrisr.zones.labels import PZ, TZ
from mrisr.zones.segmenter import Segmentation

SHAPE, SPACING = (50, 46, 13), (1.3, 1.3, 4.0)
METHODS: list[dict[str, Any]] = [
    {"name": "bicubic", "model": "bicubic"},
    {"name": "zero", "model": "zero-inplane"},
]
SETTINGS: dict[str, Any] = {
    "job": "inplane",
    "kind": "bicubic",
    "factors": [2, 4],
    "methods": METHODS,
}
THROUGH: dict[str, Any] = {
    "job": "throughplane",
    "kind": "gaussian",
    "factors": [2],
    "measured": [4],
    "methods": [
        {"name": "bspline", "model": "bspline"},
        {"name": "zero", "model": "zero-throughplane"},
    ],
}
#: Patient -> seed of the phantom. The small models were trained on "seen", the stand-in on "known".
PATIENTS = {"known": 1, "seen": 2, "unseen": 3, "unseen-too": 4}


class Thresholds:
    """A segmenter that goes by intensity and place: bright is the peripheral zone, middling the other."""

    def __init__(self, name: str = "thresholds") -> None:
        self.name, self.sha256 = name, "0" * 64
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, volume: Volume) -> Segmentation:
        self.asked.append(volume.shape)
        index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
        place = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        gland = np.linalg.norm(place / (26, 20, 22), axis=-1) < 1
        values = volume.array.astype(np.float32)
        zones = np.where(values > 380, PZ, np.where(values > 60, TZ, 0))
        return Segmentation(labelled(volume, np.where(gland, zones, 0)))


class Oracle(Thresholds):
    """A segmenter that knows the anatomy, on any grid."""

    def __init__(self, seed: int) -> None:
        super().__init__("oracle")
        self.seed = seed

    def __call__(self, volume: Volume) -> Segmentation:
        self.asked.append(volume.shape)
        labels = label_volume(volume.shape, volume.affine, self.seed)
        return Segmentation(labelled(volume, labels.array))


class Blind(Thresholds):
    """A segmenter that finds nothing."""

    def __call__(self, volume: Volume) -> Segmentation:
        return Segmentation(labelled(volume, np.zeros(volume.shape)))


def labelled(volume: Volume, array: Any) -> Volume:
    return replace(volume, array=array.astype(np.uint8), storage=Storage(np.dtype(np.uint8)))


@cache
def patient(seed: int) -> tuple[Volume, Volume]:
    """Image and labels of a phantom patient."""
    image = phantom(SHAPE, spacing=SPACING, seed=seed)
    return image, label_volume(SHAPE, image.affine, seed)


def case_of(
    segmenter: Any = None, changes: dict[str, Any] = SETTINGS, seed: int = 3, **more: Any
) -> ZonesCase:
    """A phantom patient, scored by a stand-in of the segmenter."""
    image, labels = patient(seed)
    frozen = Frozen(segmenter or Thresholds())
    return ZonesCase("unseen", "t2w", image, labels, ZonesSettings(**changes), frozen, **more)


@pytest.fixture(scope="session")
def case() -> ZonesCase:
    return case_of()


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled patients, and of one without labels."""
    folder = tmp_path_factory.mktemp("patients")
    for name, seed in PATIENTS.items():
        made = case_of(seed=seed)
        (folder / name).mkdir()
        write_volume(made.image, folder / name / "t2w_ax.nii")
        write_volume(made.labels, folder / name / "zones.nii")
    (folder / "unlabelled").mkdir()
    write_volume(phantom((24, 22, 4)), folder / "unlabelled" / "t2w_ax.nii")
    return folder


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Frozen:
    """The stand-in, which takes the place of the segmenter that would be loaded."""
    made = Frozen(Thresholds(), trained=("known",), validated=("unseen",))
    monkeypatch.setattr("mrisr.evaluation.zones.experiment.load_frozen", lambda asked: made)
    return made
