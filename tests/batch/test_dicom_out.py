"""DICOM in, DICOM out: the derived series and the zones beside the NIfTI volumes of a study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom import dcmread

from mrisr.batch.names import HIDDEN
from mrisr.batch.plan import make_plan
from mrisr.dicom.segmentation import read_segmentation
from mrisr.io import read_volume
from tests.batch.trees import phantom_segmenter, plan_of, run_all, tree, write_rows, write_study
from tests.dicom.synthetic import SECRETS, hospital_series

SETTINGS = {
    "device": "cpu",
    "dicom": True,
    "upsampled": {"thin": {"job": "throughplane", "factor": 2, "model": "bicubic"}},
    "zones": {"volumes": ["source", "thin"]},
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


def test_derived_series_and_segmentation(tmp_path: Path, manifest: Path, models: Path) -> None:
    out = tmp_path / "out"
    with phantom_segmenter():
        plan = plan_of(manifest, out, SETTINGS)
        assert [len(s.sources) for s in plan.studies] == [1, 1]
        run_all(plan, out)
        study = out / "sub-dicom"
        for stage in ("convert", "upsample", "segment", "report"):
            status = json.loads((study / "status" / f"{stage}.json").read_bytes())
            assert status["state"] == "done", status["reason"]
        assert not (out / "sub-plain" / "dicom").exists()
        again = plan_of(manifest, out, SETTINGS)
        assert not any(again.todo.values())
    slices = sorted((study / "dicom" / "thin").iterdir())
    thin = read_volume(study / "upsampled" / "thin.nii.gz")
    assert len(slices) == thin.shape[2] == 8
    source = dcmread(next((tmp_path / "exam" / "axial").iterdir()))
    derived = dcmread(slices[0])
    assert derived.StudyInstanceUID == source.StudyInstanceUID
    assert derived.SeriesInstanceUID != source.SeriesInstanceUID
    assert derived.PatientID == source.PatientID
    zones = read_segmentation(study / "dicom" / "zones.dcm").volume
    assert (zones.array == read_volume(study / "zones" / "source.nii.gz").array).all()
    record = json.loads((study / "upsampled" / "thin.json").read_bytes())
    assert record["input"]["sha256"] == read_volume(tmp_path / "exam", series="5").source_sha256
    assert record["parameters"]["slice_thickness_from"] == "source"
    for path in out.rglob("*"):
        if path.suffix in (".json", ".html", ".csv") and HIDDEN not in path.parts:
            text = path.read_text()
            assert not any(secret in text for secret in (*SECRETS, str(tmp_path))), path


def test_deidentified_and_no_longer_asked_for(tmp_path: Path, manifest: Path, models: Path) -> None:
    out = tmp_path / "out"
    study = out / "sub-dicom"
    with phantom_segmenter():
        run_all(plan_of(manifest, out, {**SETTINGS, "deidentify": True}), out)
        derived = dcmread(next((study / "dicom" / "thin").iterdir()))
        assert derived.PatientIdentityRemoved == "YES"
        assert not any(secret in str(derived) for secret in SECRETS)
        before = tree(out)
        next((study / "dicom" / "thin").iterdir()).write_bytes(b"altered")
        plan = plan_of(manifest, out, {**SETTINGS, "deidentify": True})
        assert "upsample" in plan.todo["sub-dicom"]
        run_all(plan, out)
        assert tree(out).keys() == before.keys()
        run_all(plan_of(manifest, out, {**SETTINGS, "dicom": False}), out)
    assert not (study / "dicom").exists()


def test_labels_may_be_dicom_seg(tmp_path: Path, manifest: Path, models: Path) -> None:
    out = tmp_path / "out"
    rows = {"subject": "a", "axial": "exam/axial", "labels": "zones.dcm"}
    with phantom_segmenter():
        run_all(plan_of(manifest, out, SETTINGS), out)
        (tmp_path / "zones.dcm").write_bytes((out / "sub-dicom/dicom/zones.dcm").read_bytes())
        scored = tmp_path / "scored"
        settings = {**SETTINGS, "dicom": False, "upsampled": {}, "zones": {}}
        run_all(plan_of(write_rows(tmp_path / "m2.csv", rows), scored, settings), scored)
    scores = json.loads((scored / "sub-a" / "scores.json").read_bytes())
    assert scores["volumes"]["source"]["TZ"]["dice"] == pytest.approx(1)


def test_another_series_of_a_folder_is_another_input(
    tmp_path: Path, manifest: Path, models: Path
) -> None:
    from mrisr.batch.manifest import read_manifest
    from mrisr.batch.settings import BatchSettings

    settings = BatchSettings.model_validate(SETTINGS)
    keys = []
    with phantom_segmenter():
        for series in ("5", "6"):
            row = {"subject": "a", "axial": "exam", "axial_series": series}
            studies = read_manifest(write_rows(manifest, row))
            plan = make_plan(studies, settings, tmp_path / "out")
            keys.append(plan.studies[0].parts[0].key)
    assert keys[0] != keys[1]
