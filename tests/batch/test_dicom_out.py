"""DICOM in, DICOM out: the derived series and the zones beside the NIfTI volumes of a study."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from mrisr.batch.names import HIDDEN
from mrisr.dicom.segmentation import read_segmentation
from mrisr.io import read_file, read_volume
from tests.batch.conftest import (
    make_all,
    plan_of,
    run_all,
    states_of,
    tree,
    write_rows,
    write_study,
)
from tests.dicom.synthetic import SECRETS, hospital_series

Settings = dict[str, Any]


@pytest.fixture
def settings(zones_model: str) -> Settings:
    return {
        "device": "cpu",
        "dicom": True,
        "upsampled": {"thin": {"job": "throughplane", "factor": 2, "model": "bicubic"}},
        "zones": {"volumes": ["source", "thin"], "model": zones_model},
    }


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A DICOM study whose folder holds two series, and a NIfTI one."""
    for number, plane in ((5, "axial"), (6, "coronal")):
        hospital_series(tmp_path / "exam" / plane, size=24, slices=4, number=number, plane=plane)
    write_study(tmp_path / "plain", labels=False, shape=(24, 24, 4))
    rows = [
        {"subject": "dicom", "axial": "exam", "axial_series": "5"},
        {"subject": "plain", "axial": "plain/t2w_ax.nii.gz"},
    ]
    return write_rows(tmp_path / "m.csv", *rows)


def test_derived_series_and_segmentation(
    tmp_path: Path, manifest: Path, settings: Settings
) -> None:
    out = tmp_path / "out"
    plan = make_all(manifest, out, settings)
    assert [len(s.sources) for s in plan.studies] == [1, 1]
    study = out / "sub-dicom"
    assert set(states_of(study).values()) == {"done"}
    assert not (out / "sub-plain" / "dicom").exists()
    assert not any(study.todo for study in plan_of(manifest, out, settings).studies)
    slices = sorted((study / "dicom" / "thin").iterdir())
    thin = read_volume(study / "upsampled" / "thin.nii.gz")
    assert len(slices) == thin.shape[2] == 8
    source = dcmread(next((tmp_path / "exam" / "axial").iterdir()))
    derived = dcmread(slices[0])
    assert derived.StudyInstanceUID == source.StudyInstanceUID
    assert derived.SeriesInstanceUID != source.SeriesInstanceUID
    assert derived.PatientID == source.PatientID
    zones = read_segmentation(study / "dicom" / "zones.dcm").volume
    labels = read_volume(study / "zones" / "source.nii.gz", allow_constant=True)
    assert (zones.array == labels.array).all()
    record = json.loads((study / "upsampled" / "thin.json").read_bytes())
    assert record["input"]["sha256"] == read_file(tmp_path / "exam", series="5").sha256
    assert record["parameters"]["slice_thickness_from"] == "source"
    for path in out.rglob("*"):
        if path.suffix in (".json", ".html", ".csv") and HIDDEN not in path.parts:
            text = path.read_text()
            assert not any(secret in text for secret in (*SECRETS, str(tmp_path))), path


@pytest.mark.slow
def test_deidentified_and_no_longer_asked_for(
    tmp_path: Path, manifest: Path, settings: Settings
) -> None:
    out = tmp_path / "out"
    study = out / "sub-dicom"
    make_all(manifest, out, {**settings, "deidentify": True})
    derived = dcmread(next((study / "dicom" / "thin").iterdir()))
    assert derived.PatientIdentityRemoved == "YES"
    assert not any(secret in str(derived) for secret in SECRETS)
    before = tree(out)
    next((study / "dicom" / "thin").iterdir()).write_bytes(b"altered")
    plan = plan_of(manifest, out, {**settings, "deidentify": True})
    assert "upsample/thin" in plan.studies[0].todo
    run_all(out)
    assert tree(out).keys() == before.keys()
    make_all(manifest, out, {**settings, "dicom": False})
    assert not (study / "dicom").exists()


@pytest.mark.slow
def test_labels_may_be_dicom_seg(tmp_path: Path, manifest: Path, settings: Settings) -> None:
    out, scored = tmp_path / "out", tmp_path / "scored"
    make_all(manifest, out, settings)
    (tmp_path / "zones.dcm").write_bytes((out / "sub-dicom/dicom/zones.dcm").read_bytes())
    row = {"subject": "a", "axial": "exam/axial", "labels": "zones.dcm"}
    source = {"dicom": False, "upsampled": {}, "zones": {"model": settings["zones"]["model"]}}
    make_all(write_rows(tmp_path / "m2.csv", row), scored, {**settings, **source})
    scores = json.loads((scored / "sub-a" / "scores.json").read_bytes())["volumes"]["source"]
    found = [figures["dice"] for figures in scores.values() if figures["reference_ml"]]
    assert found
    assert found == [pytest.approx(1)] * len(found)


def test_the_uncertainty_in_both_formats(models: Path, tmp_path: Path, manifest: Path) -> None:
    thin = {"job": "throughplane", "factor": 2, "samples": 2, "steps": 2}
    make_all(
        manifest, tmp_path / "out", {"dicom": True, "upsampled": {"thin": thin}, "zones": None}
    )
    study = tmp_path / "out" / "sub-dicom"
    assert set(states_of(study).values()) == {"done"}
    volume = read_volume(study / "upsampled" / "thin.nii.gz")
    assert read_volume(study / "uncertainty" / "thin.nii.gz").shape == volume.shape
    assert dcmread(study / "dicom" / "thin_uncertainty.dcm").NumberOfFrames == volume.shape[2]
