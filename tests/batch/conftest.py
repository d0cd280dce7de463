"""A small batch that has run, with all that a batch may make but DICOM."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mrisr.batch.plan import Plan
from tests.batch.trees import make_all, plan_of, run_all, write_rows, write_study


class Batch(NamedTuple):
    """Two studies: ``sub-a`` with labels and a coronal stack, ``sub-b/ses-2`` without.

    Attributes:
        folder: that holds ``data``, ``m.csv`` and ``out``.
        settings: of the batch; tests change them.
    """

    folder: Path
    settings: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def plan(self) -> Plan:
        """The plan of another run."""
        return plan_of(self.folder / "m.csv", self.out, self.settings)

    def todo(self) -> set[str]:
        """Study and part of all that another run would make."""
        return {f"{study.folder} {part}" for study in self.plan().studies for part in study.todo}

    def again(self) -> set[str]:
        """Run once more; what was to be made."""
        todo = self.todo()
        run_all(self.out)
        return todo


@pytest.fixture(scope="session")
def zones_model(tiny_models: Path) -> str:
    """A small segmenter of random weights, among the small models."""
    from tests.zones.models import random_zones_model

    return str(random_zones_model(tiny_models, "tiny-zones"))


def settings_of(zones_model: str) -> dict[str, Any]:
    return {
        "device": "cpu",
        "upsampled": {
            "throughplane": {"job": "throughplane", "factor": 2},
            "inplane-x2": {"job": "inplane", "scale": 2},
        },
        "zones": {"model": zones_model},
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path, zones_model: str) -> Path:
    """The folder of a batch that has run, which tests copy."""
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder / "data" / "a", coronal=True)
    write_study(folder / "data" / "b", 1, labels=False)
    axial = "data/{}/t2w_ax.nii.gz".format
    row = {"subject": "a", "axial": axial("a"), "coronal": "data/a/t2w_cor.nii.gz"}
    row["labels"] = "data/a/zones.nii.gz"
    other = {"subject": "b", "session": "2", "axial": axial("b")}
    manifest = write_rows(folder / "m.csv", row, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRISR_MODELS", str(tiny_models))
        make_all(manifest, folder / "out", settings_of(zones_model))
    return folder


@pytest.fixture
def batch(tmp_path: Path, finished: Path, models: Path, zones_model: str) -> Batch:
    """A batch that has run."""
    shutil.copytree(finished, tmp_path / "batch")
    return Batch(tmp_path / "batch", settings_of(zones_model))
