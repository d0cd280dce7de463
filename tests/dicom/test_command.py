"""DICOM out from the command line and from Python, with small models."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

import mrisr
from mrisr.core.errors import OutputError
from mrisr.io import read_volume, write_volume
from tests.dicom.synthetic import SECRETS, hospital_series

pytestmark = pytest.mark.usefixtures("models")


@pytest.fixture
def series(tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return hospital_series(tmp_path / "hospital", size=32, slices=4)


def here() -> list[str]:
    return sorted(p.name for p in Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("job", "wanted"),
    [
        (("inplane", "--scale", 2, "--input"), (64, 64, 4)),
        (("throughplane", "--factor", 3, "--axial"), (32, 32, 12)),
    ],
)
def test_a_series_a_picture_and_a_record(series, run, job, wanted):
    code, out, err = run(*job, series, "--output", "sr/", "--qc", "qc.png")
    assert (code, "note" in err) == (0, False), err
    assert here() == ["qc.png", "sr", "sr.json"]
    assert read_volume("sr").shape == wanted
    record = json.loads(Path("sr.json").read_text())
    assert record["output"]["shape"] == list(wanted)
    assert record["residual"]["rms_of_noise"] <= 1.3
    d = pydicom.dcmread("sr/0001.dcm")
    told = d.ContributingEquipmentSequence[-1].ContributionDescription
    for word in (record["model"]["sha256"], "seed 0", "residual", record["input"]["sha256"]):
        assert word in told
    assert not any(s in out + err + Path("sr.json").read_text() for s in SECRETS)


def test_the_record_is_about_what_was_stored(series, run):
    """Slices with slopes of their own become one scale of 16 bits, and the residual counts that."""
    slopes = {"RescaleSlope": lambda k: 1 + k, "RescaleIntercept": 0}
    edited = hospital_series(series.parent / "slopes", size=32, slices=4, **slopes)
    assert run("inplane", "--input", edited, "--scale", 2, "--output", "sr")[0] == 0
    record = json.loads(Path("sr.json").read_text())
    assert record["output"]["dtype"] == "uint16"
    assert any("RescaleSlope differs" in note for note in record["notes"])


def test_a_rerun_with_force_and_without(series, run):
    """By the default name of a DICOM output."""
    arguments = ("inplane", "--input", series, "--scale", 2, "--format", "dicom")
    assert run(*arguments)[0] == 0
    assert here() == ["hospital_inplane-x2", "hospital_inplane-x2.json"]
    folder = Path(here()[0]).absolute()
    assert run(*arguments)[::2] == (3, f"mrisr: {folder}: exists already (--force replaces)\n")
    assert run(*arguments, "--force")[0] == 0


def test_the_input_is_never_replaced(series, run):
    arguments = ("inplane", "--input", series, "--scale", 2, "--force", "--output")
    for target, words in (
        (series, "never overwritten"),
        (series.parent, "never overwritten"),
        (series / "derived", "lies in the input folder"),
    ):
        code, _, err = run(*arguments, target)
        assert (code, words in err, err.count("\n")) == (3, True, 1), err
    assert len(list(series.iterdir())) == 4


def test_the_working_folder_is_refused_before_the_work(series, run, monkeypatch):
    monkeypatch.setattr("mrisr.runs.outputs.FileRun.read", lambda self: pytest.fail("it was read"))
    code, _, err = run("inplane", "--input", series, "--output", ".")
    assert code == 3
    assert "name a folder in it" in err
    assert here() == []


def test_a_template_gives_patient_and_study(series, run):
    volume = read_volume(series)
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = volume.shape[0] - 1
    turned = replace(volume, array=volume.array[::-1], affine=volume.affine @ flipped)
    write_volume(turned, "t2.nii.gz")
    model = ("--scale", 2, "--model", "zero-inplane", "--output")
    assert run("inplane", "--input", "t2.nii.gz", *model, "sr", "--template", series)[0] == 0
    assert run("inplane", "--input", series, *model, "direct")[0] == 0
    d, direct = (pydicom.dcmread(f"{folder}/0001.dcm") for folder in ("sr", "direct"))
    assert d.ImageOrientationPatient == direct.ImageOrientationPatient
    assert d.SeriesInstanceUID != direct.SeriesInstanceUID
    templated, own = (read_volume(folder).array.astype(int) for folder in ("sr", "direct"))
    np.testing.assert_allclose(templated, own, atol=1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--input SERIES --output x.nii.gz --deidentify", 1, "--deidentify needs"),
        ("--input t2.nii.gz --template SERIES", 1, "--template needs"),
        ("--input SERIES --template SERIES --output sr", 1, "its own"),
        ("--input SERIES --format mha --output x.nii.gz", 1, "x.nii.gz"),
        ("--input t2.nii.gz --format dicom", 1, "--template"),
        ("--input t2.nii.gz --output sr", 3, "--template"),
        ("--input SERIES --output sr --qc sr/qc.png", 3, "only slices go into the folder"),
    ],
)
def test_options_that_do_not_go_together(series, run, arguments, code, words):
    write_volume(read_volume(series), "t2.nii.gz")
    found, _, err = run("inplane", *(series if a == "SERIES" else a for a in arguments.split()))
    assert (found, err.count("\n")) == (code, 1), err
    assert words in err
    assert here() == ["t2.nii.gz"]


def test_from_python(series, tmp_path):
    path = mrisr.inplane(series, scale=2, output=tmp_path / "sr", deidentify=True)
    assert path == tmp_path / "sr"
    assert pydicom.dcmread(path / "0001.dcm").PatientIdentityRemoved == "YES"
    with pytest.raises(OutputError, match="exists already"):
        mrisr.inplane(series, scale=2, output=tmp_path / "sr")
    with pytest.raises(TypeError, match="input path"):
        mrisr.inplane(read_volume(series), scale=2, template=series)
