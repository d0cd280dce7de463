"""The job of a batch that makes one volume of all planes of a study, as far as they can be used."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mrisr
from mrisr.batch.names import SOURCE
from mrisr.batch.settings import BatchSettings, ThreePlaneVolume
from mrisr.io import read_volume, write_volume
from mrisr.planes import joint
from tests.batch.conftest import make_all, parts_of, write_rows
from tests.planes.conftest import stack

SETTINGS = {
    "device": "cpu",
    "upsampled": {
        "iso": {"job": "threeplane", "model": "bspline", "spacing": 2, "register": "off"}
    },
    "zones": None,
}


def test_isotropic_volumes_are_made_of_all_planes_by_default() -> None:
    settings = BatchSettings()
    assert isinstance(settings.upsampled["throughplane"], ThreePlaneVolume)
    assert settings.segmented == (SOURCE, "throughplane", "inplane-x2")


def test_planes_are_joined_as_far_as_they_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "segmented_centre", lambda volume: np.zeros(3))
    planes = {plane: stack(plane) for plane in ("axial", "coronal")}
    for plane, volume in planes.items():
        write_volume(volume, tmp_path / f"{plane}.nii.gz")
    away = np.diag([1.0, 1.0, 1.0, 1.0])
    away[:3, 3] = 500
    elsewhere = replace(planes["coronal"], affine=away @ planes["coronal"].affine)
    write_volume(elsewhere, tmp_path / "away.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no volume")
    rows = [
        {"subject": "both", "axial": "axial.nii.gz", "coronal": "coronal.nii.gz"},
        {"subject": "alone", "axial": "axial.nii.gz", "coronal": "away.nii.gz"}
        | {"sagittal": "broken.nii.gz"},
    ]
    plan = make_all(write_rows(tmp_path / "m.csv", *rows), tmp_path / "out", SETTINGS)
    both, alone = (tmp_path / "out" / f"sub-{name}" for name in ("both", "alone"))

    joined = mrisr.ThroughPlane(model="bspline", spacing=2, device="cpu", register="off")
    expected = mrisr.run(
        tmp_path / "axial.nii.gz",
        joined,
        coronal=tmp_path / "coronal.nii.gz",
        output=tmp_path / "two.nii.gz",
    )
    assert expected.path is not None
    made = read_volume(both / "upsampled" / "iso.nii.gz")
    np.testing.assert_array_equal(made.array, read_volume(expected.path).array)
    np.testing.assert_allclose(made.affine, expected.volume.affine, rtol=1e-6)
    assert len(json.loads((both / "upsampled" / "iso.json").read_bytes())["planes"]) == 1

    by_itself = mrisr.throughplane(
        tmp_path / "axial.nii.gz",
        model="bspline",
        spacing=2,
        device="cpu",
        output=tmp_path / "one.nii.gz",
    )
    made = read_volume(alone / "upsampled" / "iso.nii.gz")
    np.testing.assert_array_equal(made.array, read_volume(by_itself).array)
    notes = " ".join(json.loads((alone / "upsampled" / "iso.json").read_bytes())["notes"])
    assert "the coronal stack was left out" in notes
    assert "the sagittal stack was left out" in notes
    assert str(tmp_path) not in notes
    states = {part.id: part.state for part in parts_of(alone).values()}
    assert states["upsample/iso"] == "done"
    assert states["convert/sagittal"] == "failed"
    digests = {study.folder: study.parts for study in plan.studies}
    inputs = next(p.inputs for p in digests["sub-both"] if p.id == "upsample/iso")
    assert set(inputs) == {"axial", "coronal"}
